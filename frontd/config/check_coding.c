#include "frontd/config/check_coding.h"

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

void conf_check_coding(struct checker *checker, const char *parent,
    const struct conf_raw_route *raw, struct conf_route *route)
{
    char key[CHECKER_PATH_SIZE];
    if (route->kind == CONF_JSONRPC || route->kind == CONF_HTTP) {
        check_request_encodings(checker, parent, raw, route);
        return;
    }
    snprintf(key, sizeof(key), "%s.request_encodings", parent);
    if (checker_has(checker, parent, "request_encodings"))
        checker_complain(checker, key, "only for kind: jsonrpc and http");
}
