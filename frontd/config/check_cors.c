#include "frontd/config/check_cors.h"

#include <string.h>
#include <strings.h>

#include "common/alloc.h"
#include "frontd/config/value.h"

enum { MAX_AGE_MAX_MS = 24 * 60 * 60 * 1000 /* browsers keep an answer no longer */ };

/* Like checker_once(), but case makes no difference in hosts and names of fields. */
static void check_twice(
    struct checker *checker, const char *key, char *const *texts, unsigned index)
{
    for (unsigned i = 0; i < index; i++) {
        if (strcasecmp(texts[i], texts[index]) == 0)
            checker_complain(checker, key, "'%s' is there twice", texts[index]);
    }
}

/*
 * Checks a list: of at most so many texts, with at most so many bytes each. wrong: says what is
 * wrong with a text, or NULL.
 */
static void check_list(struct checker *checker, const char *name, char *const *texts,
    unsigned count, int max, size_t bytes_max, const char *(*wrong)(const char *text))
{
    char key[CHECKER_PATH_SIZE];
    if (count > (unsigned)max)
        checker_complain(checker, name, "at most %d", max);
    for (unsigned i = 0; i < count && !checker->failed; i++) {
        snprintf(key, sizeof(key), "%s[%u]", name, i);
        const char *what = wrong(texts[i]);
        if (what != NULL)
            checker_complain(checker, key, "%s: '%s'", what, texts[i]);
        else if (strlen(texts[i]) > bytes_max)
            checker_complain(checker, key, "at most %zu bytes", bytes_max);
        check_twice(checker, key, texts, i);
    }
}

static void check_origins(struct checker *checker, const char *parent,
    const struct conf_raw_route *raw, struct conf_route *route)
{
    char name[CHECKER_PATH_SIZE];
    char key[CHECKER_PATH_SIZE];
    snprintf(name, sizeof(name), "%s.origins", parent);
    check_list(checker, name, raw->origins, raw->origins_count, CONF_ORIGINS_MAX,
        CONF_ORIGIN_BYTES_MAX, conf_value_origin);
    for (unsigned i = 0; i < raw->origins_count && raw->origins_count > 1; i++) {
        snprintf(key, sizeof(key), "%s.origins[%u]", parent, i);
        if (strcmp(raw->origins[i], "*") == 0)
            checker_warn(checker, key, "'*' lets any in: the others have no effect");
    }
    route->origins = checker_copy_texts(checker, raw->origins, raw->origins_count, true);
    route->norigins = route->origins == NULL ? 0 : raw->origins_count;
}

/*
 * The default: on a route of JSON-RPC, requests that no preflight guards are refused; WebSocket is
 * open to all pages.
 */
static void check_cross_site(struct checker *checker, const char *parent,
    const struct conf_raw_route *raw, struct conf_route *route)
{
    static const char *const choices[] = {"refuse", "allow"};
    char key[CHECKER_PATH_SIZE];
    snprintf(key, sizeof(key), "%s.cross_site", parent);
    bool refuse = checker_name(checker, key, raw->cross_site, choices, ARRAY_LEN(choices)) == 0;
    route->cross_site_refuse = refuse;
    if (route->kind != CONF_WEBSOCKET)
        return;
    route->cross_site_refuse = refuse && raw->cross_site != NULL;
    if (raw->cross_site != NULL && route->norigins > 0)
        checker_complain(checker, key, "on a websocket route `origins` says it already");
}

static bool lists(char *const *texts, unsigned n, const char *text)
{
    for (unsigned i = 0; i < n; i++) {
        if (strcmp(texts[i], text) == 0)
            return true;
    }
    return false;
}

static void check_headers(
    struct checker *checker, const char *parent, const struct conf_raw_cors *raw)
{
    char key[CHECKER_PATH_SIZE];
    snprintf(key, sizeof(key), "%s.cors.headers", parent);
    check_list(checker, key, raw->headers, raw->headers_count, CONF_CORS_HEADERS_MAX,
        CONF_CORS_HEADER_BYTES_MAX, conf_value_token);
}

/* Any page can have the origin "null", by a frame with `sandbox`. */
static void check_credentials(struct checker *checker, const char *parent,
    const struct conf_raw_route *raw, const struct conf_route *route)
{
    static const char *const any_page[] = {"*", "null"};
    char key[CHECKER_PATH_SIZE];
    snprintf(key, sizeof(key), "%s.cors.credentials", parent);
    for (size_t i = 0; i < ARRAY_LEN(any_page); i++) {
        if (lists(route->origins, route->norigins, any_page[i]))
            checker_complain(checker, key,
                "'%s' among `origins` is a page of anybody's: name those that get credentials",
                any_page[i]);
    }
    if (lists(raw->cors.headers, raw->cors.headers_count, "*"))
        checker_complain(checker, key, "with credentials, browsers take no '*' in `headers`");
}

/* Writes the lines that answers have, once, so that no request formats them. */
static void write_fields(struct checker *checker, const struct conf_raw_cors *raw, bool credentials,
    uint64_t max_age, struct conf_route *route)
{
    struct conf_cors *cors = &route->cors;
    size_t n = route->norigins + (size_t)1;
    cors->fields = checker_take(checker, mem_zalloc(n * sizeof(*cors->fields)));
    int r = cors->fields == NULL ? -1 : 0;
    for (size_t i = 0; i < n && r == 0; i++) {
        size_t before = buf_len(&cors->text);
        if (i < route->norigins)
            r = buf_printf(&cors->text, "Access-Control-Allow-Origin: %s\r\n%s", route->origins[i],
                credentials ? "Access-Control-Allow-Credentials: true\r\n" : "");
        if (r == 0)
            r = buf_printf(&cors->text, "Vary: Origin\r\n");
        cors->fields[i].n = buf_len(&cors->text) - before;
    }
    size_t before = buf_len(&cors->text);
    if (r == 0)
        r = buf_printf(&cors->text, "Access-Control-Allow-Methods: POST\r\n"
                                    "Access-Control-Allow-Headers: content-type");
    for (unsigned i = 0; i < raw->headers_count && r == 0; i++) {
        if (strcasecmp(raw->headers[i], "content-type") != 0)
            r = buf_printf(&cors->text, ", %s", raw->headers[i]);
    }
    if (r == 0)
        r = buf_printf(&cors->text, "\r\nAccess-Control-Max-Age: %llu\r\n",
            (unsigned long long)(max_age / 1000));
    if (r != 0) {
        checker_complain(checker, "config", "no memory");
        return;
    }
    const char *p = buf_data(&cors->text); /* the text does not move from now on */
    for (size_t i = 0; i < n; p += cors->fields[i++].n)
        cors->fields[i].p = p;
    cors->preflight = (struct span){p, buf_len(&cors->text) - before};
}

static void check_cors(struct checker *checker, const char *parent,
    const struct conf_raw_route *raw, struct conf_route *route)
{
    char key[CHECKER_PATH_SIZE];
    uint64_t max_age;
    if (route->norigins == 0) {
        snprintf(key, sizeof(key), "%s.cors", parent);
        if (checker_has(checker, parent, "cors"))
            checker_complain(checker, key, "needs `origins`");
        return;
    }
    check_headers(checker, parent, &raw->cors);
    snprintf(key, sizeof(key), "%s.cors.credentials", parent);
    bool credentials = checker_flag(checker, key, raw->cors.credentials);
    if (credentials)
        check_credentials(checker, parent, raw, route);
    snprintf(key, sizeof(key), "%s.cors.max_age", parent);
    checker_duration(checker, key, raw->cors.max_age, 10 * 60 * 1000, &max_age);
    if (max_age > MAX_AGE_MAX_MS || max_age % 1000 != 0)
        checker_complain(checker, key, "whole seconds, at most 24h: '%s'", raw->cors.max_age);
    if (!checker->failed)
        write_fields(checker, &raw->cors, credentials, max_age, route);
}

static void refuse_key(
    struct checker *checker, const char *parent, const char *name, const char *why)
{
    char key[CHECKER_PATH_SIZE];
    snprintf(key, sizeof(key), "%s.%s", parent, name);
    if (checker_has(checker, parent, name))
        checker_complain(checker, key, "%s", why);
}

void conf_check_cors(struct checker *checker, const char *parent, const struct conf_raw_route *raw,
    struct conf_route *route)
{
    static const char both[] = "only for kind: jsonrpc and websocket";
    if (route->kind != CONF_JSONRPC)
        refuse_key(checker, parent, "cors", "only for kind: jsonrpc");
    if (route->kind == CONF_JSONRPC || route->kind == CONF_WEBSOCKET) {
        check_origins(checker, parent, raw, route);
        check_cross_site(checker, parent, raw, route);
    } else {
        refuse_key(checker, parent, "origins", both);
        refuse_key(checker, parent, "cross_site", both);
    }
    if (route->kind == CONF_JSONRPC && !checker->failed) /* else origins may be missing */
        check_cors(checker, parent, raw, route);
}
