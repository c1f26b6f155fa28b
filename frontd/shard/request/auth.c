#include "frontd/shard/request/auth.h"

#include <errno.h>
#include <openssl/evp.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "common/alloc.h"
#include "common/log.h"
#include "frontd/ipc/tls_material.h"
#include "proto/json_read.h"
#include "proto/json_write.h"

struct claims *claims_new(struct span text, int64_t until)
{
    struct claims *claims = mem_zalloc(sizeof(*claims) + text.n);
    if (claims == NULL)
        return NULL;
    claims->refs = 1;
    claims->n = (uint32_t)text.n;
    claims->until = until;
    memcpy(claims->text, text.p, text.n);
    return claims;
}

struct claims *claims_ref(struct claims *claims)
{
    if (claims != NULL)
        claims->refs++;
    return claims;
}

void claims_put(struct claims *claims)
{
    if (claims != NULL && --claims->refs == 0)
        mem_free(claims);
}

uint64_t claims_left(const struct claims *claims)
{
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    if (wall.tv_sec >= claims->until)
        return 0;
    uint64_t seconds = (uint64_t)claims->until - (uint64_t)wall.tv_sec;
    if (seconds > CLAIMS_LEFT_MAX / 1000)
        return CLAIMS_LEFT_MAX;
    /* Rounded up: a timer that is due a little early would be set for 0 ms once more. */
    return seconds * 1000 - (uint64_t)wall.tv_nsec / 1000000;
}

void auth_init(struct auth *auth, const struct conf *conf)
{
    auth->conf = conf;
    list_init(&auth->parked);
}

void auth_deinit(struct auth *auth)
{
    for (uint32_t i = 0; i < auth->nsets; i++) {
        jwks_deinit(&auth->sets[i]);
        mem_free(auth->texts[i]);
    }
    for (size_t i = 0; auth->cache != NULL && i < (size_t)AUTH_SETS * AUTH_WAYS; i++)
        claims_put(auth->cache[i].claims);
    mem_free(auth->sets);
    mem_free(auth->texts);
    mem_free(auth->cache);
    EVP_MD_free(auth->sha256);
    EVP_MD_CTX_free(auth->hash);
}

/* The set stays as long as the text: names of keys are in it. */
static int use_set(struct auth *auth, const struct conf_jwt *jwt, struct span text)
{
    char error[JWK_ERROR_SIZE];
    char *copy = mem_zalloc(text.n);
    if (copy == NULL)
        return -ENOMEM;
    memcpy(copy, text.p, text.n);
    int r = jwks_read((struct span){copy, text.n}, &auth->sets[auth->nsets], error);
    if (r < 0) {
        log_error("%s: %s", jwt->jwks.path, error);
        mem_free(copy);
        return r;
    }
    auth->texts[auth->nsets++] = copy;
    return 0;
}

int auth_use(struct auth *auth, const struct tls_material *material)
{
    const struct conf *conf = auth->conf;
    if (conf->njwts == 0)
        return 0;
    auth->sets = mem_zalloc(conf->njwts * sizeof(*auth->sets));
    auth->texts = mem_zalloc(conf->njwts * sizeof(*auth->texts));
    auth->cache = mem_zalloc((size_t)AUTH_SETS * AUTH_WAYS * sizeof(*auth->cache));
    auth->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    auth->hash = EVP_MD_CTX_new();
    bool all = auth->sets != NULL && auth->texts != NULL && auth->cache != NULL &&
               auth->sha256 != NULL && auth->hash != NULL;
    int r = all ? 0 : -ENOMEM;
    for (uint32_t i = 0; r == 0 && i < conf->njwts; i++)
        r = use_set(auth, conf->jwts[i], material->jwks[i]);
    return r;
}

/* The token in a value of Authorization (RFC 6750 section 2.1); n == 0: it has another scheme. */
static struct span after_bearer(struct span value)
{
    static const char scheme[] = "bearer ";
    const size_t n = sizeof(scheme) - 1;
    if (value.n < n || strncasecmp(value.p, scheme, n) != 0)
        return (struct span){0};
    value = (struct span){value.p + n, value.n - n};
    while (value.n > 0 && value.p[0] == ' ')
        value = (struct span){value.p + 1, value.n - 1};
    return value;
}

/* A header that is there twice has no token: readers would not agree on which it is. */
static bool find_in_header(
    const struct conf_jwt *jwt, const struct http_head *head, struct span *ret_token)
{
    const size_t n = strlen(jwt->header);
    const struct http_field *found = NULL;
    for (uint32_t i = 0; i < head->nfields; i++) {
        const struct http_field *field = &head->fields[i];
        if (field->name.n != n || strncasecmp(field->name.p, jwt->header, n) != 0)
            continue;
        if (found != NULL)
            return false;
        found = field;
    }
    if (found != NULL)
        *ret_token = jwt->bearer ? after_bearer(found->value) : found->value;
    return true;
}

/* Nothing in a token is ever written with '%', so nothing is decoded. The same of two. */
static bool find_in_query(const struct conf_jwt *jwt, struct span query, struct span *ret_token)
{
    const size_t n = strlen(jwt->query);
    const char *end = query.p + query.n;
    bool found = false;
    for (const char *p = query.p; p < end;) {
        const char *and = memchr(p, '&', (size_t)(end - p));
        const char *to = and == NULL ? end : and;
        if ((size_t)(to - p) > n && memcmp(p, jwt->query, n) == 0 && p[n] == '=') {
            if (found)
                return false;
            found = true;
            *ret_token = (struct span){p + n + 1, (size_t)(to - p) - n - 1};
        }
        p = to + 1;
    }
    return true;
}

/* Without the white space behind it, and the quotes that are no part of it (section 4.1.1). */
static struct span cookie_value(struct span value)
{
    while (value.n > 0 && (value.p[value.n - 1] == ' ' || value.p[value.n - 1] == '\t'))
        value.n--;
    if (value.n >= 2 && value.p[0] == '"' && value.p[value.n - 1] == '"')
        return (struct span){value.p + 1, value.n - 2};
    return value;
}

/*
 * The first cookie of that name (RFC 6265 section 5.4: browsers send the one with the longest path
 * first), without quotes. Browsers send one field, and HTTP/2's have been joined; of others that
 * come all are looked at.
 */
static void find_in_cookies(
    const struct conf_jwt *jwt, const struct http_head *head, struct span *ret_token)
{
    const size_t n = strlen(jwt->cookie);
    for (uint32_t i = 0; i < head->nfields; i++) {
        const struct http_field *field = &head->fields[i];
        if (field->name.n != 6 || strncasecmp(field->name.p, "cookie", 6) != 0)
            continue;
        const char *end = field->value.p + field->value.n;
        for (const char *p = field->value.p; p < end;) {
            const char *to = memchr(p, ';', (size_t)(end - p));
            to = to == NULL ? end : to;
            while (p < to && (*p == ' ' || *p == '\t'))
                p++;
            if ((size_t)(to - p) > n && memcmp(p, jwt->cookie, n) == 0 && p[n] == '=') {
                *ret_token = cookie_value((struct span){p + n + 1, (size_t)(to - p) - n - 1});
                return;
            }
            p = to + 1;
        }
    }
}

static struct auth_entry *set_of(const struct auth *auth, const unsigned char *digest)
{
    return &auth->cache[(size_t)(digest[0] % AUTH_SETS) * AUTH_WAYS];
}

static struct claims *recall(struct auth *auth, const struct conf_jwt *jwt,
    const unsigned char *digest, int64_t now, uint64_t ms)
{
    struct auth_entry *set = set_of(auth, digest);
    for (size_t i = 0; i < AUTH_WAYS; i++) {
        struct auth_entry *entry = &set[i];
        if (entry->claims == NULL || entry->jwt != jwt->number ||
            memcmp(entry->digest, digest, sizeof(entry->digest)) != 0)
            continue;
        entry->used = ms;
        if (now < entry->claims->until)
            return claims_ref(entry->claims);
        claims_put(entry->claims);
        entry->claims = NULL;
    }
    return NULL;
}

static void remember(struct auth *auth, const struct conf_jwt *jwt, const unsigned char *digest,
    struct claims *claims, uint64_t ms)
{
    struct auth_entry *set = set_of(auth, digest);
    struct auth_entry *to = &set[0];
    for (size_t i = 1; i < AUTH_WAYS && to->claims != NULL; i++) {
        if (set[i].claims == NULL || set[i].used < to->used)
            to = &set[i];
    }
    claims_put(to->claims);
    to->claims = claims_ref(claims);
    to->used = ms;
    to->jwt = jwt->number;
    memcpy(to->digest, digest, sizeof(to->digest));
}

/* Writes the claims that workers are told, as they are in the token. NULL: no memory. */
static struct claims *make_claims(
    const struct conf_jwt *jwt, const struct jwt *token, int64_t until)
{
    struct json_writer writer = {0};
    json_begin(&writer, NULL, '{');
    for (uint32_t i = 0; i < jwt->nclaims; i++) {
        struct span value = json_read_member(token->claims, jwt->claims[i]);
        if (value.n > 0)
            json_add_raw(&writer, jwt->claims[i], value);
    }
    json_end(&writer, '}');
    struct claims *claims = NULL;
    if (!writer.failed)
        claims = claims_new((struct span){buf_data(&writer.out), buf_len(&writer.out)}, until);
    buf_deinit(&writer.out);
    return claims;
}

/* The algorithm of a token, or -1 where it is not taken: `none` never is. */
static int alg_of(const struct conf_jwt *jwt, struct span alg)
{
    for (int i = 0; i < JWK_ALGS; i++) {
        if (jwt->algorithms & 1U << i && strlen(jwk_alg_names[i]) == alg.n &&
            memcmp(jwk_alg_names[i], alg.p, alg.n) == 0)
            return i;
    }
    return -1;
}

static bool may_be(const struct jwk *key, enum jwk_alg alg, struct span kid)
{
    if (key->alg != alg)
        return false;
    if (kid.p == NULL)
        return true;
    return key->kid.p != NULL && key->kid.n == kid.n && memcmp(key->kid.p, kid.p, kid.n) == 0;
}

static const char *verify(
    struct auth *auth, struct ctx *ctx, const struct conf_jwt *jwt, enum jwk_alg alg)
{
    const struct jwks *set = &auth->sets[jwt->number];
    const struct jwt *token = &auth->token;
    unsigned tries = 0;
    for (uint32_t i = 0; i < set->nkeys && tries < AUTH_TRIES; i++) {
        if (!may_be(&set->keys[i], alg, token->kid))
            continue;
        tries++;
        auth->verified++;
        auth->spent += WORK_VERIFY;
        ctx->work += WORK_VERIFY;
        if (jwk_verify(&set->keys[i], token->head, token->signature, token->signature_n))
            return NULL;
    }
    return tries == 0 ? "no key has its kid and alg" : "its signature is not of a key";
}

/* Whether a signature may be looked at in this turn, and no request waits for that already. */
static bool has_turn(const struct auth *auth)
{
    return auth->spent < WORK_VERIFY_TURN && (auth->in_order || list_empty(&auth->parked));
}

/* Returns AUTH_PASS with *ret_until, AUTH_WRONG with *ret_why, or AUTH_LATER. */
static enum auth_verdict judge(struct auth *auth, struct ctx *ctx, const struct conf_jwt *jwt,
    struct span text, int64_t now, int64_t *ret_until, const char **ret_why)
{
    const struct jwt_wanted wanted = {.issuer = jwt->issuer,
        .audiences = jwt->audiences,
        .naudiences = jwt->naudiences,
        .leeway = (int64_t)(jwt->leeway / 1000)};
    *ret_why = jwt_parse(text, &auth->token);
    if (*ret_why != NULL)
        return AUTH_WRONG;
    *ret_why = "its alg is not one of `algorithms`";
    int alg = alg_of(jwt, auth->token.alg);
    if (alg < 0)
        return AUTH_WRONG;
    *ret_why = jwt_judge(&auth->token, &wanted, now, ret_until);
    if (*ret_why != NULL)
        return AUTH_WRONG;
    if (!has_turn(auth))
        return AUTH_LATER;
    *ret_why = verify(auth, ctx, jwt, (enum jwk_alg)alg);
    return *ret_why == NULL ? AUTH_PASS : AUTH_WRONG;
}

static bool digest(struct auth *auth, struct span text, unsigned char *ret_digest)
{
    return EVP_DigestInit_ex2(auth->hash, auth->sha256, NULL) == 1 &&
           EVP_DigestUpdate(auth->hash, text.p, text.n) == 1 &&
           EVP_DigestFinal_ex(auth->hash, ret_digest, NULL) == 1;
}

enum auth_verdict auth_judge(struct auth *auth, struct ctx *ctx, const struct conf_jwt *jwt,
    const struct http_head *head, bool query, int64_t now, struct claims **ret_claims,
    const char **ret_why)
{
    unsigned char sum[EVP_MAX_MD_SIZE];
    struct span text = {0};
    int64_t until;
    *ret_why = "there is more than one token";
    if (!find_in_header(jwt, head, &text))
        return AUTH_WRONG;
    if (text.n == 0 && query && jwt->query != NULL && !find_in_query(jwt, head->query, &text))
        return AUTH_WRONG;
    if (text.n == 0 && jwt->cookie != NULL)
        find_in_cookies(jwt, head, &text);
    *ret_why = "there is no token";
    if (text.n == 0)
        return AUTH_NONE;
    *ret_why = "the token has more than 8 KiB";
    if (text.n > JWT_MAX)
        return AUTH_WRONG;
    *ret_why = "the keys are not here";
    if (jwt->number >= auth->nsets || !digest(auth, text, sum))
        return AUTH_MEMORY;
    *ret_claims = recall(auth, jwt, sum, now, ctx_now(ctx));
    if (LIKELY(*ret_claims != NULL))
        return AUTH_PASS;
    enum auth_verdict verdict = judge(auth, ctx, jwt, text, now, &until, ret_why);
    if (verdict != AUTH_PASS)
        return verdict;
    *ret_claims = make_claims(jwt, &auth->token, until);
    if (*ret_claims == NULL)
        return AUTH_MEMORY;
    remember(auth, jwt, sum, *ret_claims, ctx_now(ctx));
    return AUTH_PASS;
}
