#include "frontd/config/check_coding.h"

#include <string.h>

#include "common/alloc.h"
#include "frontd/codec/compress.h"
#include "frontd/config/value.h"

enum { GZIP_LEVEL = 3, BR_LEVEL = 2 /* docs/performance.md says why */ };

static void check_request_encodings(struct checker *checker, const char *parent,
    const struct conf_raw_route *raw, struct conf_route *route)
{
    static const char *const codings[] = {"gzip"};
    char key[CHECKER_PATH_SIZE];
    /* A worker of kind http may want bodies as they came. */
    route->gunzip = route->kind == CONF_JSONRPC &&
                    !checker_has(checker, parent, "request_encodings");
    for (unsigned i = 0; i < raw->request_encodings_count && !checker->failed; i++) {
        snprintf(key, sizeof(key), "%s.request_encodings[%u]", parent, i);
        checker_name(checker, key, raw->request_encodings[i], codings, ARRAY_LEN(codings));
        checker_once(checker, key, raw->request_encodings, i);
        route->gunzip = true;
    }
}

/* Types whose bodies become smaller; images and films are compressed already. */
static const char *const usual_types[] = {"text/*", "application/json", "application/problem+json",
    "application/javascript", "application/xml", "application/manifest+json", "image/svg+xml"};

static void check_encodings(struct checker *checker, const char *parent,
    const struct conf_raw_compress *raw, struct conf_compress *compress)
{
    static const char *const names[] = {"br", "gzip"};
    static const uint8_t codings[] = {CODING_BR, CODING_GZIP};
    char key[CHECKER_PATH_SIZE];
    if (!checker_has(checker, parent, "encodings")) {
        memcpy(compress->codings, codings, sizeof(codings));
        compress->ncodings = ARRAY_LEN(codings);
    }
    for (unsigned i = 0; i < raw->encodings_count && !checker->failed; i++) {
        snprintf(key, sizeof(key), "%s.encodings[%u]", parent, i);
        int index = checker_name(checker, key, raw->encodings[i], names, ARRAY_LEN(names));
        checker_once(checker, key, raw->encodings, i);
        if (!checker->failed)
            compress->codings[compress->ncodings++] = codings[index];
    }
    snprintf(key, sizeof(key), "%s.encodings", parent);
    if (compress->ncodings == 0)
        checker_complain(checker, key, "at least one of br and gzip");
    for (uint32_t i = 0; i < compress->ncodings; i++)
        compress->gzip |= compress->codings[i] == CODING_GZIP;
}

/* "text/html", or a star for all subtypes. */
static bool is_type(const char *text)
{
    char part[128];
    const char *slash = strchr(text, '/');
    if (slash == NULL || (size_t)(slash - text) >= sizeof(part))
        return false;
    memcpy(part, text, (size_t)(slash - text));
    part[slash - text] = '\0';
    return conf_value_token(part) == NULL && strcmp(part, "*") != 0 &&
           conf_value_token(slash + 1) == NULL;
}

static void check_types(struct checker *checker, const char *parent,
    const struct conf_raw_compress *raw, struct conf_compress *compress)
{
    char key[CHECKER_PATH_SIZE];
    bool own = checker_has(checker, parent, "types");
    char **types = own ? raw->types : (char **)(uintptr_t)usual_types;
    unsigned n = own ? raw->types_count : (unsigned)ARRAY_LEN(usual_types);
    snprintf(key, sizeof(key), "%s.types", parent);
    if (n == 0 || n > CONF_COMPRESS_TYPES_MAX)
        checker_complain(checker, key, "1 to %d types", CONF_COMPRESS_TYPES_MAX);
    for (unsigned i = 0; i < n && !checker->failed; i++) {
        snprintf(key, sizeof(key), "%s.types[%u]", parent, i);
        if (!is_type(types[i]))
            checker_complain(
                checker, key, "a media type such as text/html or text/*: '%s'", types[i]);
    }
    if (checker->failed)
        return;
    compress->types = checker_copy_texts(checker, types, n, true);
    compress->ntypes = compress->types == NULL ? 0 : n;
}

static void check_compress(struct checker *checker, const char *route_path,
    const struct conf_raw_compress *raw, struct conf_route *route)
{
    char parent[CHECKER_PATH_SIZE - 32], key[CHECKER_PATH_SIZE];
    snprintf(parent, sizeof(parent), "%s.compress", route_path);
    struct conf_compress *compress = checker_take(checker, mem_zalloc(sizeof(*compress)));
    route->compress = compress;
    if (compress == NULL)
        return;
    check_encodings(checker, parent, raw, compress);
    check_types(checker, parent, raw, compress);
    snprintf(key, sizeof(key), "%s.from", parent);
    checker_size(checker, key, raw->from, 1024, 1, &compress->from);
    snprintf(key, sizeof(key), "%s.up_to", parent);
    checker_size(checker, key, raw->up_to, 256 << 10, 1, &compress->up_to);
    if (compress->up_to > CONF_COMPRESS_UP_TO_MAX || compress->up_to < compress->from)
        checker_complain(checker, key, "from `from` to 4MiB");
    snprintf(key, sizeof(key), "%s.gzip_level", parent);
    compress->gzip_level = (unsigned)checker_number(
        checker, key, raw->gzip_level, GZIP_LEVEL, 1, COMPRESS_GZIP_MAX);
    snprintf(key, sizeof(key), "%s.br_level", parent);
    compress->br_level = (unsigned)checker_number(
        checker, key, raw->br_level, BR_LEVEL, 0, COMPRESS_BR_MAX);
    snprintf(key, sizeof(key), "%s.credentials", parent);
    compress->credentials = checker_flag(checker, key, raw->credentials);
}

void conf_check_coding(struct checker *checker, const char *parent,
    const struct conf_raw_route *raw, struct conf_route *route)
{
    static const char *const keys[] = {"request_encodings", "compress"};
    char key[CHECKER_PATH_SIZE];
    if (route->kind == CONF_JSONRPC || route->kind == CONF_HTTP) {
        check_request_encodings(checker, parent, raw, route);
        if (raw->compress != NULL)
            check_compress(checker, parent, raw->compress, route);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        snprintf(key, sizeof(key), "%s.%s", parent, keys[i]);
        if (checker_has(checker, parent, keys[i]))
            checker_complain(checker, key, "only for kind: jsonrpc and http");
    }
}
