#pragma once

/*
 * A JSON Web Key Set (RFC 7517): the public keys by which tokens are verified, and what OpenSSL
 * makes of them. No socket, no file, no clock.
 */

#include <openssl/types.h>

#include "common/base.h"
#include "frontd/config/jwk_alg.h"

enum {
    JWKS_FILE_MAX = 256 << 10, /* bytes of a file */
    JWKS_KEYS_MAX = 64,        /* that tokens may be signed with; others are passed over */
    JWK_ERROR_SIZE = 200,
};

struct jwk {
    enum jwk_alg alg; /* bound to the key (RFC 8725 section 3.1): a token cannot choose */
    struct span kid;  /* the inside of a JSON string, in the set's text; p is NULL: it has none */
    EVP_PKEY *public; /* jwks_deinit() */
};

struct jwks {
    struct jwk keys[JWKS_KEYS_MAX];
    uint32_t nkeys;
};

/*
 * Reads a set, whose text is borrowed until jwks_deinit(). A key is passed over where it is of a
 * kind, for a use or for an algorithm that is not known here (RFC 7517 section 5). ret_set: may
 * have been written after an error, too, and needs no jwks_deinit() then.
 *
 * Returns 0; -EINVAL with what is wrong in `error`: a key with secret members, RSA of less than
 * 2048 or more than 8192 bits, a point that is not on its curve, two keys with one kid, no key
 * left, or no memory for one.
 */
int jwks_read(struct span text, struct jwks *ret_set, char error[JWK_ERROR_SIZE]);

/* Frees the keys. Accepts a zeroed one. */
void jwks_deinit(struct jwks *set);

/* Whether the signature of `head` is the key's. */
bool jwk_verify(const struct jwk *key, struct span head, const unsigned char *signature, size_t n);
