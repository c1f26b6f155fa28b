#include "frontd/codec/tls_crypto.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <string.h>

#include "common/alloc.h"
#include "common/list.h"
#include "common/secret.h"

/* An AEAD context. One that has a key is in the bucket of the key's first byte. */
struct context {
    struct list node;    /* in crypto->keyed or crypto->unkeyed */
    struct list bucket;  /* in crypto->buckets[], or alone */
    EVP_CIPHER_CTX *evp; /* NULL: never used */
    bool sealing;        /* the key seals; else it opens */
    uint8_t suite;       /* what `evp` has been made for; TLS_SUITES: nothing */
    uint8_t *key;        /* TLS_KEY_MAX bytes of crypto->keys */
};

struct tls_crypto {
    EVP_CIPHER *ciphers[TLS_SUITES];
    EVP_MD *digests[TLS_SUITES];
    EVP_MD_CTX *hash;
    EVP_KDF_CTX *prf;
    tls_crypto_watcher *sealed;
    void *sealed_arg;
    struct list keyed; /* by use, the latest last */
    struct list unkeyed;
    size_t keyed_n;
    struct list buckets[256]; /* by the first byte of a key, which is as good as random */
    struct context contexts[TLS_CONTEXTS];
    uint8_t *keys; /* from secret_alloc() */
};

enum {
    KEYS_SIZE = TLS_CONTEXTS * TLS_KEY_MAX,
    BLOCK_MAX = 128, /* bytes, of SHA-384 */
};

static const struct suite {
    const char *cipher;
    char *digest; /* OSSL_PARAM wants it so; it is not changed */
    uint8_t key;
    uint8_t secret;
} suites[TLS_SUITES] = {
    [TLS_AES_128_GCM] = {"AES-128-GCM", (char[]){"SHA256"}, 16, 32},
    [TLS_AES_256_GCM] = {"AES-256-GCM", (char[]){"SHA384"}, 32, 48},
    [TLS_CHACHA20] = {"ChaCha20-Poly1305", (char[]){"SHA256"}, 32, 32},
};

bool tls_suite_find(unsigned number, enum tls_suite *ret_suite)
{
    switch (number) {
    case 0x1301: /* TLS_AES_128_GCM_SHA256 */
    case 0xc02b: /* TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 */
    case 0xc02f: /* TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 */
        *ret_suite = TLS_AES_128_GCM;
        return true;
    case 0x1302: /* TLS_AES_256_GCM_SHA384 */
    case 0xc02c: /* TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 */
    case 0xc030: /* TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 */
        *ret_suite = TLS_AES_256_GCM;
        return true;
    case 0x1303: /* TLS_CHACHA20_POLY1305_SHA256 */
    case 0xcca8: /* TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 */
    case 0xcca9: /* TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 */
        *ret_suite = TLS_CHACHA20;
        return true;
    default: return false;
    }
}

size_t tls_suite_key_size(enum tls_suite suite)
{
    return suites[suite].key;
}

size_t tls_suite_secret_size(enum tls_suite suite)
{
    return suites[suite].secret;
}

static EVP_KDF_CTX *fetch_kdf(const char *name)
{
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, name, NULL);
    EVP_KDF_CTX *ctx = kdf == NULL ? NULL : EVP_KDF_CTX_new(kdf);
    EVP_KDF_free(kdf); /* the context has its own reference */
    return ctx;
}

struct tls_crypto *tls_crypto_new(void)
{
    struct tls_crypto *crypto = mem_zalloc(sizeof(*crypto));
    if (crypto == NULL)
        return NULL;
    list_init(&crypto->keyed);
    list_init(&crypto->unkeyed);
    for (size_t i = 0; i < ARRAY_LEN(crypto->buckets); i++)
        list_init(&crypto->buckets[i]);
    bool found = (crypto->keys = secret_alloc(KEYS_SIZE)) != NULL;
    for (size_t i = 0; found && i < TLS_CONTEXTS; i++) {
        struct context *context = &crypto->contexts[i];
        context->suite = TLS_SUITES;
        context->key = crypto->keys + i * TLS_KEY_MAX;
        list_init(&context->bucket);
        list_append(&crypto->unkeyed, &context->node);
    }
    for (size_t i = 0; i < TLS_SUITES; i++) {
        crypto->ciphers[i] = EVP_CIPHER_fetch(NULL, suites[i].cipher, NULL);
        crypto->digests[i] = EVP_MD_fetch(NULL, suites[i].digest, NULL);
        found = found && crypto->ciphers[i] != NULL && crypto->digests[i] != NULL;
    }
    crypto->hash = EVP_MD_CTX_new();
    crypto->prf = fetch_kdf("TLS1-PRF");
    if (found && crypto->hash != NULL && crypto->prf != NULL)
        return crypto;
    ERR_clear_error();
    return tls_crypto_free(crypto);
}

struct tls_crypto *tls_crypto_free(struct tls_crypto *crypto)
{
    if (crypto == NULL)
        return NULL;
    for (size_t i = 0; i < TLS_CONTEXTS; i++)
        EVP_CIPHER_CTX_free(crypto->contexts[i].evp); /* wipes it */
    for (size_t i = 0; i < TLS_SUITES; i++) {
        EVP_CIPHER_free(crypto->ciphers[i]);
        EVP_MD_free(crypto->digests[i]);
    }
    EVP_MD_CTX_free(crypto->hash);
    EVP_KDF_CTX_free(crypto->prf);
    secret_free(crypto->keys, KEYS_SIZE);
    return mem_free(crypto);
}

void tls_crypto_watch(struct tls_crypto *crypto, tls_crypto_watcher *sealed, void *arg)
{
    crypto->sealed = sealed;
    crypto->sealed_arg = arg;
}

void tls_crypto_sealed_before(struct tls_crypto *crypto, const uint8_t key[static TLS_KEY_MAX],
    const uint8_t nonce[static TLS_NONCE_SIZE])
{
    if (UNLIKELY(crypto->sealed != NULL))
        crypto->sealed(crypto->sealed_arg, key, nonce);
}

size_t tls_crypto_keyed(const struct tls_crypto *crypto)
{
    return crypto->keyed_n;
}

/* The key of a context is not used any more: `evp` frees, and wipes, all that it knows. */
static void unkey(struct tls_crypto *crypto, struct context *context)
{
    EVP_CIPHER_CTX_reset(context->evp);
    context->suite = TLS_SUITES;
    OPENSSL_cleanse(context->key, TLS_KEY_MAX);
    list_remove(&context->bucket);
    list_remove(&context->node);
    list_append(&crypto->unkeyed, &context->node);
    crypto->keyed_n--;
}

void tls_crypto_forget(struct tls_crypto *crypto, const uint8_t key[static TLS_KEY_MAX])
{
    list_for_each_safe (node, &crypto->buckets[key[0]]) {
        struct context *context = container_of(node, struct context, bucket);
        if (CRYPTO_memcmp(context->key, key, TLS_KEY_MAX) == 0)
            unkey(crypto, context);
    }
}

static struct context *find(
    struct tls_crypto *crypto, const struct tls_sealing *sealing, bool seals)
{
    list_for_each (node, &crypto->buckets[sealing->key[0]]) {
        struct context *context = container_of(node, struct context, bucket);
        if (context->sealing == seals && context->suite == sealing->suite &&
            memcmp(context->key, sealing->key, TLS_KEY_MAX) == 0)
            return context;
    }
    return NULL;
}

/*
 * A context for another key: an unkeyed one, else the one that was used least recently. Where that
 * is of the same suite, its key is overwritten by the next, which costs no allocation.
 */
static struct context *claim(struct tls_crypto *crypto, enum tls_suite suite)
{
    if (list_empty(&crypto->unkeyed)) {
        struct context *oldest = list_first(&crypto->keyed, struct context, node);
        if (oldest->suite == suite)
            return oldest;
        unkey(crypto, oldest);
    }
    struct context *context = list_first(&crypto->unkeyed, struct context, node);
    if (context->evp == NULL)
        context->evp = EVP_CIPHER_CTX_new();
    return context->evp == NULL ? NULL : context;
}

static bool enkey(struct tls_crypto *crypto, struct context *context,
    const struct tls_sealing *sealing, bool seals)
{
    const bool keyed = context->suite != TLS_SUITES;
    const EVP_CIPHER *cipher = keyed ? NULL : crypto->ciphers[sealing->suite];
    if (!keyed) {
        crypto->keyed_n++;
        context->suite = (uint8_t)sealing->suite;
    }
    if (EVP_CipherInit_ex(context->evp, cipher, NULL, sealing->key, sealing->nonce, seals) != 1) {
        unkey(crypto, context);
        return false;
    }
    memcpy(context->key, sealing->key, TLS_KEY_MAX);
    context->sealing = seals;
    list_remove(&context->bucket);
    list_append(&crypto->buckets[sealing->key[0]], &context->bucket);
    return true;
}

/* A context with the key and the nonce, or NULL when there is no memory. */
static EVP_CIPHER_CTX *take_context(
    struct tls_crypto *crypto, const struct tls_sealing *sealing, bool seals)
{
    struct context *context = find(crypto, sealing, seals);
    bool ready;
    if (context != NULL) {
        ready = EVP_CipherInit_ex(context->evp, NULL, NULL, NULL, sealing->nonce, seals) == 1;
    } else {
        context = claim(crypto, sealing->suite);
        ready = context != NULL && enkey(crypto, context, sealing, seals);
    }
    if (!ready) {
        ERR_clear_error();
        return NULL;
    }
    list_remove(&context->node);
    list_append(&crypto->keyed, &context->node);
    return context->evp;
}

int tls_crypto_seal(
    struct tls_crypto *crypto, const struct tls_sealing *sealing, uint8_t *bytes, size_t n)
{
    if (UNLIKELY(crypto->sealed != NULL))
        crypto->sealed(crypto->sealed_arg, sealing->key, sealing->nonce);
    EVP_CIPHER_CTX *evp = take_context(crypto, sealing, true);
    if (evp == NULL)
        return -ENOMEM;
    int done;
    if (EVP_EncryptUpdate(evp, NULL, &done, sealing->aad, (int)sealing->aad_n) == 1 &&
        (n == 0 || EVP_EncryptUpdate(evp, bytes, &done, bytes, (int)n) == 1) &&
        EVP_EncryptFinal_ex(evp, bytes + n, &done) == 1 &&
        EVP_CIPHER_CTX_ctrl(evp, EVP_CTRL_AEAD_GET_TAG, TLS_TAG_SIZE, bytes + n) == 1)
        return 0;
    ERR_clear_error();
    OPENSSL_cleanse(bytes, n + TLS_TAG_SIZE);
    return -EIO;
}

int tls_crypto_open(struct tls_crypto *crypto, const struct tls_sealing *sealing, const uint8_t *in,
    size_t n, uint8_t *out)
{
    EVP_CIPHER_CTX *evp = take_context(crypto, sealing, false);
    if (evp == NULL)
        return -ENOMEM;
    int done;
    uint8_t none[TLS_TAG_SIZE];
    if (EVP_CIPHER_CTX_ctrl(evp, EVP_CTRL_AEAD_SET_TAG, TLS_TAG_SIZE, (void *)(in + n)) == 1 &&
        EVP_DecryptUpdate(evp, NULL, &done, sealing->aad, (int)sealing->aad_n) == 1 &&
        (n == 0 || EVP_DecryptUpdate(evp, out, &done, in, (int)n) == 1) &&
        EVP_DecryptFinal_ex(evp, none, &done) == 1)
        return 0;
    ERR_clear_error();
    if (n > 0)
        OPENSSL_cleanse(out, n);
    return -EBADMSG;
}

/* Half of HMAC (RFC 2104): the digest of the padded key and the text. */
static bool half_hmac(struct tls_crypto *crypto, enum tls_suite suite, const uint8_t *secret,
    uint8_t pad, struct span text, uint8_t ret_digest[static EVP_MAX_MD_SIZE])
{
    uint8_t key[BLOCK_MAX];
    const EVP_MD *md = crypto->digests[suite];
    const size_t block = (size_t)EVP_MD_get_block_size(md);
    CHECK(block <= sizeof(key));
    for (size_t i = 0; i < block; i++)
        key[i] = pad ^ (i < suites[suite].secret ? secret[i] : 0);
    const bool done = EVP_DigestInit_ex(crypto->hash, md, NULL) == 1 &&
                      EVP_DigestUpdate(crypto->hash, key, block) == 1 &&
                      EVP_DigestUpdate(crypto->hash, text.p, text.n) == 1 &&
                      EVP_DigestFinal_ex(crypto->hash, ret_digest, NULL) == 1;
    OPENSSL_cleanse(key, sizeof(key));
    return done;
}

/* Overwrites what the digest context has of a secret: its state, and the block that is not full. */
static bool wipe_hash(struct tls_crypto *crypto)
{
    static const uint8_t zeroes[BLOCK_MAX - 1];
    return EVP_DigestInit_ex(crypto->hash, NULL, NULL) == 1 &&
           EVP_DigestUpdate(crypto->hash, zeroes, sizeof(zeroes)) == 1;
}

/*
 * The first block of HKDF-Expand is HMAC(secret, info, 1), and no more is ever wanted. It is made
 * of a digest context that is kept: what libcrypto has for HKDF fetches and allocates each time.
 */
int tls_crypto_expand(struct tls_crypto *crypto, enum tls_suite suite, const uint8_t *secret,
    const char *label, uint8_t *out, size_t n)
{
    uint8_t info[4 + sizeof("tls13 ") + 32];
    uint8_t inner[EVP_MAX_MD_SIZE], outer[EVP_MAX_MD_SIZE];
    const size_t label_n = strlen(label), digest_n = suites[suite].secret;
    CHECK(n <= digest_n && label_n <= 32);
    info[0] = 0;
    info[1] = (uint8_t)n;
    info[2] = (uint8_t)(6 + label_n);
    memcpy(info + 3, "tls13 ", 6);
    memcpy(info + 9, label, label_n);
    info[9 + label_n] = 0;  /* no context */
    info[10 + label_n] = 1; /* the number of the block */

    const struct span text = {(const char *)info, 11 + label_n};
    const bool done = half_hmac(crypto, suite, secret, 0x36, text, inner) &&
                      half_hmac(crypto, suite, secret, 0x5c, (struct span){(char *)inner, digest_n},
                          outer) &&
                      wipe_hash(crypto);
    if (done)
        memcpy(out, outer, n);
    else
        OPENSSL_cleanse(out, n);
    OPENSSL_cleanse(inner, sizeof(inner));
    OPENSSL_cleanse(outer, sizeof(outer));
    if (!done)
        ERR_clear_error();
    return done ? 0 : -ENOMEM;
}

int tls_crypto_prf(struct tls_crypto *crypto, enum tls_suite suite, const uint8_t *secret,
    const char *label, struct span seed, uint8_t *out, size_t n)
{
    /* The parameters are not const, but they are not changed. */
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, suites[suite].digest, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SECRET, (void *)secret, TLS_MASTER_SIZE),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, (void *)label, strlen(label)),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, (void *)seed.p, seed.n),
        OSSL_PARAM_construct_end(),
    };
    const bool done = EVP_KDF_derive(crypto->prf, out, n, params) == 1;
    EVP_KDF_CTX_reset(crypto->prf);
    if (done)
        return 0;
    ERR_clear_error();
    OPENSSL_cleanse(out, n);
    return -ENOMEM;
}
