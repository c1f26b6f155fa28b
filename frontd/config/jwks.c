#include "frontd/config/jwks.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <stdarg.h>
#include <string.h>

#include "common/base64url.h"
#include "proto/json_read.h"
#include "proto/json_scan.h"
#include "proto/jsonrpc.h"

enum {
    RSA_BITS_MIN = 2048, /* RFC 7518 section 3.3 */
    RSA_BITS_MAX = 8192, /* what one verification may cost */
    RSA_BYTES_MAX = RSA_BITS_MAX / 8,
    EXPONENT_BYTES_MAX = 4, /* the usual one has 3; a long one makes each verification dear */
    COORDINATE = 32,        /* bytes, of P-256 and Ed25519 */
};

/* The members of a key, as JSON values; n == 0: it is not there. */
enum { KTY, USE, KEY_OPS, ALG, KID, CRV, N, E, X, Y, D, K, MEMBERS };
static const struct span names[MEMBERS] = {{"kty", 3}, {"use", 3}, {"key_ops", 7}, {"alg", 3},
    {"kid", 3}, {"crv", 3}, {"n", 1}, {"e", 1}, {"x", 1}, {"y", 1}, {"d", 1}, {"k", 1}};

__attribute__((format(printf, 2, 3))) static int complain(
    char error[JWK_ERROR_SIZE], const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(error, JWK_ERROR_SIZE, format, args);
    va_end(args);
    return -EINVAL;
}

static struct span inside(struct span string)
{
    return (struct span){string.p + 1, string.n - 2};
}

static bool is_text(struct span value, const char *text)
{
    return json_is_string(value) &&
           json_scan_equals(inside(value), (struct span){text, strlen(text)});
}

static bool decode(struct span value, unsigned char *out, size_t room, size_t *ret_n)
{
    return json_is_string(value) && base64url_decode(inside(value), out, room, ret_n);
}

/* The algorithm that a kind of key has here, or -1. */
static int alg_of(const struct span *members)
{
    if (is_text(members[KTY], "RSA"))
        return JWK_RS256;
    if (is_text(members[KTY], "EC") && is_text(members[CRV], "P-256"))
        return JWK_ES256;
    if (is_text(members[KTY], "OKP") && is_text(members[CRV], "Ed25519"))
        return JWK_EDDSA;
    return -1;
}

/* Whether the key may verify what is signed with that algorithm. */
static bool is_for(const struct span *members, enum jwk_alg alg)
{
    struct span op;
    bool verifies = members[KEY_OPS].n == 0;
    for (size_t at = 0; !verifies && json_read_next(members[KEY_OPS], &at, &op);)
        verifies = is_text(op, "verify");
    return verifies && (members[USE].n == 0 || is_text(members[USE], "sig")) &&
           (members[ALG].n == 0 || is_text(members[ALG], jwk_alg_names[alg]));
}

/* A key of OpenSSL's, of parameters; NULL: they are none, or there was no memory. */
static EVP_PKEY *make(const char *type, OSSL_PARAM *params)
{
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    if (ctx != NULL && params != NULL && EVP_PKEY_fromdata_init(ctx) == 1)
        EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params);
    EVP_PKEY_CTX_free(ctx);
    return key;
}

static OSSL_PARAM *rsa_params(OSSL_PARAM_BLD *build, const BIGNUM *n, const BIGNUM *e)
{
    if (build == NULL || n == NULL || e == NULL ||
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n) != 1 ||
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e) != 1)
        return NULL;
    return OSSL_PARAM_BLD_to_param(build);
}

/* RFC 7518 section 6.3.1: both numbers have as few bytes as they need. */
static int make_rsa(const struct span *members, EVP_PKEY **ret_key, char *error)
{
    unsigned char modulus[RSA_BYTES_MAX];
    unsigned char exponent[EXPONENT_BYTES_MAX];
    size_t n = 0;
    size_t e = 0;
    if (json_is_string(members[N]) && members[N].n > (size_t)RSA_BYTES_MAX * 4 / 3 + 4)
        return complain(error, "an RSA key has %d to %d bits", RSA_BITS_MIN, RSA_BITS_MAX);
    if (!decode(members[N], modulus, sizeof(modulus), &n) || n == 0 || modulus[0] == 0)
        return complain(error, "n is no number in base64url");
    if (!decode(members[E], exponent, sizeof(exponent), &e) || e == 0 || exponent[0] == 0 ||
        exponent[e - 1] % 2 == 0 || (e == 1 && exponent[0] < 3))
        return complain(error, "e is no odd number from 3 to 4294967295 in base64url");
    size_t bits = n * 8 - (size_t)(__builtin_clz(modulus[0]) - 24);
    if (bits < RSA_BITS_MIN || modulus[n - 1] % 2 == 0)
        return complain(error, "an RSA key has %d to %d bits, and an odd modulus: this one has %zu",
            RSA_BITS_MIN, RSA_BITS_MAX, bits);
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    BIGNUM *bn = BN_bin2bn(modulus, (int)n, NULL);
    BIGNUM *be = BN_bin2bn(exponent, (int)e, NULL);
    OSSL_PARAM *params = rsa_params(build, bn, be);
    *ret_key = make("RSA", params);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(build);
    BN_free(bn);
    BN_free(be);
    return *ret_key == NULL ? complain(error, "OpenSSL makes no RSA key of it") : 0;
}

static int make_ec(const struct span *members, EVP_PKEY **ret_key, char *error)
{
    unsigned char point[1 + 2 * COORDINATE] = {4}; /* not compressed: SEC 1 section 2.3.3 */
    size_t x = 0;
    size_t y = 0;
    if (!decode(members[X], point + 1, COORDINATE, &x) || x != COORDINATE ||
        !decode(members[Y], point + 1 + COORDINATE, COORDINATE, &y) || y != COORDINATE)
        return complain(error, "x and y are 32 bytes each in base64url");
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (char[]){"P-256"}, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point)),
        OSSL_PARAM_construct_end(),
    };
    *ret_key = make("EC", params); /* which sees whether the point is on the curve */
    return *ret_key == NULL ? complain(error, "x and y are no point of P-256") : 0;
}

static int make_okp(const struct span *members, EVP_PKEY **ret_key, char *error)
{
    unsigned char point[COORDINATE];
    size_t x = 0;
    if (!decode(members[X], point, sizeof(point), &x) || x != sizeof(point))
        return complain(error, "x is 32 bytes in base64url");
    *ret_key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, point, sizeof(point));
    return *ret_key == NULL ? complain(error, "OpenSSL makes no Ed25519 key of it") : 0;
}

static bool has_kid(const struct jwks *set, struct span kid)
{
    for (uint32_t i = 0; i < set->nkeys; i++) {
        const struct span other = set->keys[i].kid;
        if (other.p != NULL && other.n == kid.n && memcmp(other.p, kid.p, kid.n) == 0)
            return true;
    }
    return false;
}

/* Adds a key, or passes it over. */
static int read_key(struct span object, struct jwks *set, char *error)
{
    struct span members[MEMBERS] = {0};
    if (object.p[0] != '{' ||
        json_scan_object(object.p, object.p + object.n, 0, names, MEMBERS, members) == NULL)
        return complain(error, "it is no object");
    if (members[D].n > 0 || members[K].n > 0)
        return complain(error, "it has a secret (%s): only public keys have a place here",
            members[D].n > 0 ? "d" : "k");
    int alg = alg_of(members);
    if (alg < 0 || !is_for(members, (enum jwk_alg)alg))
        return 0;
    if (set->nkeys == JWKS_KEYS_MAX)
        return complain(error, "at most %d keys", JWKS_KEYS_MAX);
    struct jwk *key = &set->keys[set->nkeys];
    *key = (struct jwk){.alg = (enum jwk_alg)alg};
    if (members[KID].n > 0 && !json_is_string(members[KID]))
        return complain(error, "its kid is no text");
    if (members[KID].n > 0 && memchr(members[KID].p, '\\', members[KID].n) != NULL)
        return complain(error, "its kid has escapes");
    if (members[KID].n > 0) {
        if (has_kid(set, inside(members[KID])))
            return complain(error, "another key has this kid");
        key->kid = inside(members[KID]);
    }
    static int (*const makers[JWK_ALGS])(const struct span *, EVP_PKEY **, char *) = {
        make_rsa, make_ec, make_okp};
    int r = makers[alg](members, &key->public, error);
    ERR_clear_error();
    set->nkeys += r == 0;
    return r;
}

/* The array of keys; n == 0: there is none. */
static struct span keys_of(struct span text)
{
    const char *end = text.p + text.n;
    const char *p = text.n == 0 ? NULL : json_scan_white(text.p, end);
    const char *after = p == NULL ? NULL : json_scan_value(p, end, 0);
    if (after == NULL || json_scan_white(after, end) != end)
        return (struct span){0};
    struct span keys = json_read_member((struct span){p, (size_t)(after - p)}, "keys");
    return json_is_array(keys) ? keys : (struct span){0};
}

int jwks_read(struct span text, struct jwks *ret_set, char error[JWK_ERROR_SIZE])
{
    struct span keys = keys_of(text);
    struct span object;
    int r = 0;
    ret_set->nkeys = 0;
    if (keys.n == 0)
        return complain(error, "it is no JSON object with an array `keys` (RFC 7517 section 5)");
    unsigned i = 0;
    for (size_t at = 0; r == 0 && json_read_next(keys, &at, &object); i++) {
        char what[JWK_ERROR_SIZE];
        r = read_key(object, ret_set, what);
        if (r < 0)
            complain(error, "keys[%u]: %.160s", i, what);
    }
    if (r == 0 && ret_set->nkeys == 0)
        r = complain(error, "no key in it is for RS256, ES256 or EdDSA");
    if (r < 0)
        jwks_deinit(ret_set);
    return r;
}

void jwks_deinit(struct jwks *set)
{
    for (uint32_t i = 0; i < set->nkeys; i++)
        EVP_PKEY_free(set->keys[i].public);
    set->nkeys = 0;
}

/*
 * The two numbers of an ES256 signature (RFC 7518 section 3.4) as OpenSSL wants them: DER. Returns
 * its size, 0 without memory.
 */
static size_t write_der(const unsigned char *signature, unsigned char *out)
{
    unsigned char *to = out;
    int n = 0;
    ECDSA_SIG *der = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(signature, COORDINATE, NULL);
    BIGNUM *s = BN_bin2bn(signature + COORDINATE, COORDINATE, NULL);
    if (der != NULL && r != NULL && s != NULL && ECDSA_SIG_set0(der, r, s) == 1) {
        n = i2d_ECDSA_SIG(der, &to);
    } else {
        BN_free(r);
        BN_free(s);
    }
    ECDSA_SIG_free(der);
    return n > 0 ? (size_t)n : 0;
}

static bool has_size(const struct jwk *key, size_t n)
{
    return key->alg == JWK_RS256 ? n == (size_t)EVP_PKEY_get_size(key->public)
                                 : n == (size_t)2 * COORDINATE;
}

bool jwk_verify(const struct jwk *key, struct span head, const unsigned char *signature, size_t n)
{
    unsigned char der[2 * COORDINATE + 16];
    if (!has_size(key, n))
        return false;
    if (key->alg == JWK_ES256) {
        n = write_der(signature, der);
        signature = der;
    }
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    const char *digest = key->alg == JWK_EDDSA ? NULL : "SHA256";
    bool right = n > 0 && ctx != NULL &&
                 EVP_DigestVerifyInit_ex(ctx, NULL, digest, NULL, NULL, key->public, NULL) == 1 &&
                 EVP_DigestVerify(ctx, signature, n, (const unsigned char *)head.p, head.n) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return right;
}
