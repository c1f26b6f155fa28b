#pragma once

/*
 * A JSON Web Token in compact form (RFC 7515 section 3.1, RFC 7519): taken apart, not verified.
 * Pure: nothing is allocated.
 *
 * Stricter than the RFCs: `crit` is refused whatever it lists, since no extension is understood
 * (RFC 7515 section 4.1.11); names of members have no escapes and are there once each (section
 * 4); header and claims have JWT_MEMBERS_MAX members each; and a time has no exponent.
 */

#include "common/base.h"

enum {
    JWT_MAX = 8192,       /* bytes of a token: what clients and proxies take for a header field */
    JWT_MEMBERS_MAX = 64, /* each name is compared with those before it */
    JWT_SIGNATURE_MAX = 1024 /* bytes: of RSA 8192 */
};

struct jwt {
    struct span head;   /* of the token, up to its second '.': what is signed */
    struct span alg;    /* as it is in quotes, without escapes */
    struct span kid;    /* the inside of a JSON string; p is NULL where there is none */
    struct span claims; /* the JSON object */
    struct span sub, iss, aud, exp, nbf, iat; /* values in it; n == 0: it is not there */
    size_t signature_n;
    unsigned char signature[JWT_SIGNATURE_MAX];
    char text[JWT_MAX]; /* what header and claims say; the spans point into it */
};

/*
 * Takes a token apart. Returns NULL with *ret_jwt, whose `head` points into the token, or what is
 * wrong with it: static text; *ret_jwt may have been written then.
 */
const char *jwt_parse(struct span token, struct jwt *ret_jwt);

/* What a token has to be besides being signed. Texts are borrowed. */
struct jwt_wanted {
    const char *issuer;
    char *const *audiences; /* one of them is in `aud` */
    uint32_t naudiences;
    int64_t leeway; /* seconds by which clocks may differ */
};

/*
 * Holds the claims against what is wanted; `exp` has to be there. now: seconds since 1970. Returns
 * NULL with *ret_until, the second in which the token ends, leeway included; or what is wrong with
 * them: static text.
 */
const char *jwt_judge(
    const struct jwt *jwt, const struct jwt_wanted *wanted, int64_t now, int64_t *ret_until);
