#include "frontd/config/check_auth.h"

#include <string.h>
#include <strings.h>

#include "common/alloc.h"
#include "frontd/config/jwk_alg.h"
#include "frontd/config/value.h"

enum { PARENT_SIZE = 80 /* bytes of "listeners[63].routes[4294967295].auth.jwt" */ };

static void check_file(
    struct checker *checker, const char *parent, const char *path, struct conf_tls_file *file)
{
    char key[CHECKER_PATH_SIZE];
    snprintf(key, sizeof(key), "%s.jwks", parent);
    if (path[0] != '/')
        checker_complain(checker, key, "'%s': an absolute path", path);
    file->path = checker_copy(checker, path);
    file->line = conf_lines_near(checker->lines, key);
}

/* Copies a list of names, each of which is there once. */
static void check_list(struct checker *checker, const char *parent, const char *name, char **texts,
    unsigned n, unsigned max, char ***ret_texts, uint32_t *ret_n)
{
    char key[CHECKER_PATH_SIZE];
    snprintf(key, sizeof(key), "%s.%s", parent, name);
    if (n > max)
        checker_complain(checker, key, "at most %u", max);
    for (unsigned i = 0; i < n && !checker->failed; i++) {
        snprintf(key, sizeof(key), "%s.%s[%u]", parent, name, i);
        if (texts[i][0] == '\0')
            checker_complain(checker, key, "must not be empty");
        checker_once(checker, key, texts, i);
    }
    if (checker->failed)
        return;
    *ret_texts = checker_copy_texts(checker, texts, n, false);
    *ret_n = *ret_texts == NULL ? 0 : n;
}

static void check_algorithms(struct checker *checker, const char *parent,
    const struct conf_raw_jwt *raw, struct conf_jwt *jwt)
{
    char key[CHECKER_PATH_SIZE];
    jwt->algorithms = (1U << JWK_ALGS) - 1;
    if (!checker_has(checker, parent, "algorithms"))
        return;
    jwt->algorithms = 0;
    for (unsigned i = 0; i < raw->algorithms_count; i++) {
        snprintf(key, sizeof(key), "%s.algorithms[%u]", parent, i);
        jwt->algorithms |= 1U << checker_name(
                               checker, key, raw->algorithms[i], jwk_alg_names, JWK_ALGS);
        checker_once(checker, key, raw->algorithms, i);
    }
    snprintf(key, sizeof(key), "%s.algorithms", parent);
    if (raw->algorithms_count == 0)
        checker_complain(checker, key, "there is none");
}

/* Where the token is looked for. */
static void check_places(struct checker *checker, const char *parent,
    const struct conf_raw_jwt *raw, struct conf_jwt *jwt)
{
    char key[CHECKER_PATH_SIZE];
    const char *header = raw->header == NULL ? "authorization" : raw->header;
    snprintf(key, sizeof(key), "%s.header", parent);
    const char *wrong = conf_value_token(header);
    if (wrong != NULL)
        checker_complain(checker, key, "%s: '%s'", wrong, header);
    if (strlen(header) > CONF_AUTH_NAME_MAX)
        checker_complain(checker, key, "at most %d bytes", CONF_AUTH_NAME_MAX);
    jwt->header = checker_copy_lower(checker, header);
    jwt->bearer = strcasecmp(header, "authorization") == 0;
    if (raw->query == NULL)
        return;
    snprintf(key, sizeof(key), "%s.query", parent);
    wrong = conf_value_token(raw->query);
    if (wrong != NULL || strpbrk(raw->query, "%&+#") != NULL)
        checker_complain(checker, key, "'%s': a name without '%%', '&', '+' and '#'", raw->query);
    if (strlen(raw->query) > CONF_AUTH_NAME_MAX)
        checker_complain(checker, key, "at most %d bytes", CONF_AUTH_NAME_MAX);
    jwt->query = checker_copy(checker, raw->query);
}

/* A cookie is sent with requests of pages of any site: see conf_check_cookie(). */
static void check_cookie(struct checker *checker, const char *parent,
    const struct conf_raw_jwt *raw, struct conf_jwt *jwt)
{
    char key[CHECKER_PATH_SIZE];
    if (raw->cookie == NULL)
        return;
    snprintf(key, sizeof(key), "%s.cookie", parent);
    const char *wrong = conf_value_token(raw->cookie); /* RFC 6265 section 4.1.1 */
    if (wrong != NULL)
        checker_complain(checker, key, "%s: '%s'", wrong, raw->cookie);
    if (strlen(raw->cookie) > CONF_AUTH_NAME_MAX)
        checker_complain(checker, key, "at most %d bytes", CONF_AUTH_NAME_MAX);
    jwt->cookie = checker_copy(checker, raw->cookie);
}

/* They are written to workers as they are here. */
static void check_claims(struct checker *checker, const char *parent,
    const struct conf_raw_jwt *raw, struct conf_jwt *jwt)
{
    static char sub[] = "sub";
    static char *by_default[] = {sub};
    char key[CHECKER_PATH_SIZE];
    bool given = checker_has(checker, parent, "claims");
    for (unsigned i = 0; given && i < raw->claims_count; i++) {
        const char *claim = raw->claims[i];
        snprintf(key, sizeof(key), "%s.claims[%u]", parent, i);
        if (strlen(claim) > CONF_AUTH_NAME_MAX)
            checker_complain(checker, key, "at most %d bytes", CONF_AUTH_NAME_MAX);
        for (const char *p = claim; *p != '\0'; p++) {
            if (*p < ' ' || *p > '~' || *p == '"' || *p == '\\')
                checker_complain(checker, key, "'%s': ASCII without quotes and backslashes", claim);
        }
    }
    check_list(checker, parent, "claims", given ? raw->claims : by_default,
        given ? raw->claims_count : 1, CONF_CLAIMS_MAX, &jwt->claims, &jwt->nclaims);
}

static void check_jwt(struct checker *checker, const char *parent, const struct conf_raw_jwt *raw,
    struct conf_jwt *jwt)
{
    static const char *const expires[] = {"keep", "close"};
    char key[CHECKER_PATH_SIZE];
    jwt->key = checker_copy(checker, parent);
    check_file(checker, parent, raw->jwks, &jwt->jwks);
    jwt->issuer = checker_copy(checker, raw->issuer);
    snprintf(key, sizeof(key), "%s.audience", parent);
    if (raw->audience_count == 0)
        checker_complain(checker, key, "a list with at least one audience is needed here");
    check_list(checker, parent, "audience", raw->audience, raw->audience_count, CONF_AUDIENCES_MAX,
        &jwt->audiences, &jwt->naudiences);
    check_algorithms(checker, parent, raw, jwt);
    snprintf(key, sizeof(key), "%s.leeway", parent);
    checker_duration(checker, key, raw->leeway, 30 * 1000, &jwt->leeway);
    check_places(checker, parent, raw, jwt);
    check_cookie(checker, parent, raw, jwt);
    snprintf(key, sizeof(key), "%s.expires", parent);
    jwt->expires_close = checker_name(checker, key, raw->expires, expires, ARRAY_LEN(expires)) == 1;
    check_claims(checker, parent, raw, jwt);
}

const struct conf_jwt *conf_check_auth(struct checker *checker, const char *parent,
    const struct conf_raw_auth *raw, const struct conf_jwt *inherited, struct conf *conf)
{
    char key[CHECKER_PATH_SIZE];
    if (raw == NULL)
        return inherited;
    snprintf(key, sizeof(key), "%s.auth.none", parent);
    bool none = checker_flag(checker, key, raw->none);
    snprintf(key, sizeof(key), "%s.auth", parent);
    if (none == (raw->jwt != NULL)) {
        checker_complain(checker, key, "either jwt or none: true is needed here");
        return NULL;
    }
    if (none)
        return NULL;
    if (conf->njwts == CONF_JWTS_MAX) {
        checker_complain(checker, key, "at most %d in all", CONF_JWTS_MAX);
        return NULL;
    }
    struct conf_jwt *jwt = checker_take(checker, mem_zalloc(sizeof(*jwt)));
    if (jwt == NULL)
        return NULL;
    char own[PARENT_SIZE];
    snprintf(own, sizeof(own), "%.60s.auth.jwt", parent);
    jwt->number = conf->njwts;
    conf->jwts[conf->njwts++] = jwt;
    check_jwt(checker, own, raw->jwt, jwt);
    return jwt;
}

void conf_check_cookie(struct checker *checker, const char *parent, const struct conf_route *route)
{
    if (checker->failed || route->jwt == NULL || route->jwt->cookie == NULL)
        return;
    if (route->kind != CONF_JSONRPC && route->kind != CONF_WEBSOCKET)
        return;
    bool any = route->norigins == 0;
    for (uint32_t i = 0; i < route->norigins; i++)
        any |= strcmp(route->origins[i], "*") == 0;
    /* With `cross_site: allow`, `origins` of JSON-RPC only says who may read answers. */
    if (!route->cross_site_refuse && (any || route->kind == CONF_JSONRPC))
        checker_warn(checker, parent,
            "a token may come in a cookie, which browsers send for pages of any site: name those "
            "that may use the route in `origins`, or set `cross_site: refuse`");
}
