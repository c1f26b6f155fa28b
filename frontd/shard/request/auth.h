#pragma once

/*
 * Tokens of clients (`auth.jwt`): found in a request, verified once, and remembered until they end
 * (RFC 6750, RFC 7519). Claims are what workers are told of one.
 *
 * What is cheap is looked at first, and a signature last. A turn has a share of such for all
 * clients together (WORK_VERIFY_TURN); requests for which none is left wait: parked.h.
 */

#include <openssl/types.h>

#include "frontd/codec/jwt.h"
#include "frontd/config/jwks.h"
#include "frontd/shard/client/client.h"

struct tls_material;

/* ms: a timer that is so far off is set once more when it is due. */
#define CLAIMS_LEFT_MAX ((uint64_t)24 * 3600 * 1000)

enum {
    AUTH_SETS = 256, /* of the cache */
    AUTH_WAYS = 4,   /* tokens in a set: the one that was used last stays longest */
    AUTH_TRIES = 4,  /* keys that a token without kid is tried with */
};

/* What workers are told of a token: a JSON object. Shared, and counted. */
struct claims {
    uint32_t refs;
    uint32_t n;
    int64_t until; /* seconds since 1970: when the token ends, leeway included */
    char text[];
};

struct claims *claims_new(struct span text, int64_t until); /* NULL: no memory */
struct claims *claims_ref(struct claims *claims);           /* accepts NULL */
void claims_put(struct claims *claims);                     /* accepts NULL */

/* ms until they end, by the wall clock; 0: they have. At most CLAIMS_LEFT_MAX. */
uint64_t claims_left(const struct claims *claims);

struct auth_entry {
    unsigned char digest[32]; /* SHA-256 of the token */
    struct claims *claims;    /* NULL: the place is free */
    uint64_t used;            /* ms */
    uint32_t jwt;             /* conf_jwt.number */
};

struct auth {
    const struct conf *conf;
    struct jwks *sets; /* for each of conf->jwts; NULL: no keys have come */
    char **texts;      /* of the sets */
    uint32_t nsets;
    struct auth_entry *cache; /* AUTH_SETS * AUTH_WAYS */
    EVP_MD *sha256;
    EVP_MD_CTX *hash;
    struct jwt token;   /* the one that is being looked at */
    uint64_t verified;  /* signatures that were looked at, ever */
    uint64_t spent;     /* units of this turn's WORK_VERIFY_TURN */
    struct list parked; /* requests that wait for a turn with units left: parked.h */
    bool in_order;      /* the request that is being judged was the first of them */
};

/* Before there are keys: every token is refused. conf: borrowed. */
void auth_init(struct auth *auth, const struct conf *conf);
void auth_deinit(struct auth *auth);

/* Takes the keys that the supervisor has read. Once. Returns 0 or -errno, and the log says why. */
int auth_use(struct auth *auth, const struct tls_material *material);

enum auth_verdict {
    AUTH_PASS,
    AUTH_NONE,  /* there is no token */
    AUTH_WRONG, /* the token is not taken */
    AUTH_LATER, /* its signature is to be looked at, in a later turn */
    AUTH_MEMORY /* no memory to say */
};

/*
 * Looks for the token of a request and judges it. query: it may be in the query, too. now: seconds
 * since 1970. *ret_claims: the caller's, AUTH_PASS only (claims_put()). *ret_why: what is wrong,
 * static text.
 */
enum auth_verdict auth_judge(struct auth *auth, struct ctx *ctx, const struct conf_jwt *jwt,
    const struct http_head *head, bool query, int64_t now, struct claims **ret_claims,
    const char **ret_why);
