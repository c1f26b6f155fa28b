#include "frontd/codec/tls_keys.h"

#include <endian.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <string.h>

enum { SALT_SIZE = 4, EXPLICIT_SIZE = 8 };

int tls_keys_derive(struct tls_keys *ret_keys, struct tls_crypto *crypto, enum tls_suite suite,
    const uint8_t *secret)
{
    struct tls_keys keys = {0};
    memcpy(keys.secret, secret, tls_suite_secret_size(suite));
    int rc = tls_crypto_expand(
        crypto, suite, keys.secret, "key", keys.key, tls_suite_key_size(suite));
    if (rc == 0)
        rc = tls_crypto_expand(crypto, suite, keys.secret, "iv", keys.iv, sizeof(keys.iv));
    if (rc < 0)
        OPENSSL_cleanse(&keys, sizeof(keys));
    *ret_keys = keys;
    OPENSSL_cleanse(&keys, sizeof(keys));
    return rc;
}

int tls_keys_update(struct tls_keys *keys, struct tls_crypto *crypto, enum tls_suite suite)
{
    uint8_t next[TLS_SECRET_MAX] = {0};
    const size_t n = tls_suite_secret_size(suite);
    int rc = tls_crypto_expand(crypto, suite, keys->secret, "traffic upd", next, n);
    tls_keys_wipe(keys, crypto);
    if (rc == 0)
        rc = tls_keys_derive(keys, crypto, suite, next);
    OPENSSL_cleanse(next, sizeof(next));
    return rc;
}

/* Takes `n` bytes off the key block. */
static const uint8_t *cut(const uint8_t **block, size_t n)
{
    const uint8_t *p = *block;
    *block += n;
    return p;
}

int tls_keys_derive12(struct tls_keys *ret_client, struct tls_keys *ret_server,
    struct tls_crypto *crypto, enum tls_suite suite, const struct tls_master *master)
{
    const size_t key_n = tls_suite_key_size(suite);
    const size_t iv_n = suite == TLS_CHACHA20 ? TLS_NONCE_SIZE : SALT_SIZE;
    uint8_t block[2 * (TLS_KEY_MAX + TLS_NONCE_SIZE)];
    char seed[2 * TLS_RANDOM_SIZE];
    memcpy(seed, master->server_random, TLS_RANDOM_SIZE);
    memcpy(seed + TLS_RANDOM_SIZE, master->client_random, TLS_RANDOM_SIZE);

    *ret_client = *ret_server = (struct tls_keys){0};
    int rc = tls_crypto_prf(crypto, suite, master->secret, "key expansion",
        (struct span){seed, sizeof(seed)}, block, 2 * (key_n + iv_n));
    if (rc < 0)
        return rc;
    const uint8_t *p = block;
    memcpy(ret_client->key, cut(&p, key_n), key_n);
    memcpy(ret_server->key, cut(&p, key_n), key_n);
    memcpy(ret_client->iv, cut(&p, iv_n), iv_n);
    memcpy(ret_server->iv, cut(&p, iv_n), iv_n);
    OPENSSL_cleanse(block, sizeof(block));
    return 0;
}

void tls_keys_set_explicit(struct tls_keys *keys, const uint8_t explicit_nonce[static 8])
{
    memcpy(keys->iv + SALT_SIZE, explicit_nonce, EXPLICIT_SIZE);
}

void tls_keys_nonce_xored(const struct tls_keys *keys, uint8_t ret_nonce[static TLS_NONCE_SIZE])
{
    memcpy(ret_nonce, keys->iv, TLS_NONCE_SIZE);
    for (size_t i = 0; i < sizeof(keys->sequence); i++)
        ret_nonce[TLS_NONCE_SIZE - 1 - i] ^= (uint8_t)(keys->sequence >> (8 * i));
}

void tls_keys_nonce_added(const struct tls_keys *keys, uint8_t ret_nonce[static TLS_NONCE_SIZE])
{
    uint64_t explicit_nonce;
    memcpy(ret_nonce, keys->iv, SALT_SIZE);
    memcpy(&explicit_nonce, keys->iv + SALT_SIZE, EXPLICIT_SIZE);
    explicit_nonce = htobe64(be64toh(explicit_nonce) + keys->sequence); /* modulo 2^64 */
    memcpy(ret_nonce + SALT_SIZE, &explicit_nonce, EXPLICIT_SIZE);
}

void tls_keys_wipe(struct tls_keys *keys, struct tls_crypto *crypto)
{
    tls_crypto_forget(crypto, keys->key);
    OPENSSL_cleanse(keys, sizeof(*keys));
}
