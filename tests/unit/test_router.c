#include <criterion/criterion.h>
#include <string.h>

#include "frontd/shard/router.h"

static struct span span(const char *text)
{
    return (struct span){text, strlen(text)};
}

static struct conf_route route(char *path, char *host)
{
    return (struct conf_route){.path = path, .path_len = strlen(path), .host = host};
}

Test(router, routes)
{
    /* In the order that the config's check gives them: with a host first, then the longest path. */
    static char root[] = "/", rpc[] = "/rpc", deep[] = "/rpc/deep", slash[] = "/dir/",
                host[] = "h.test";
    struct conf_route routes[] = {
        route(rpc, host), route(deep, NULL), route(slash, NULL), route(rpc, NULL)};
    struct conf_listener listener = {.routes = routes, .nroutes = 4};
    static const struct {
        const char *authority;
        const char *path;
        int route; /* -1: none */
    } cases[] = {
        {"", "/rpc", 3},
        {"", "/rpc/", 3},
        {"", "/rpc/x", 3},
        {"", "/rpcx", -1},
        {"", "/rp", -1},
        {"", "/", -1},
        {"", "", -1},
        {"", "/RPC", -1},
        {"", "//rpc", -1},
        {"", "/%72pc", -1},
        {"", "/rpc/deep", 1},
        {"", "/rpc/deep/", 1},
        {"", "/rpc/deeper", 3},
        {"", "/rpc/dee", 3},
        {"", "/dir/", 2},
        {"", "/dir/x", 2},
        {"", "/dir", -1},
        {"h.test", "/rpc", 0},
        {"H.Test:80", "/rpc/deep", 0},
        {"h.test:", "/rpc", 0},
        {"h.test:80", "/dir/", 2},
        {"h.test:x", "/rpc", 3},
        {"h.tes", "/rpc", 3},
        {"h.test.", "/rpc", 3},
        {":80", "/rpc", 3},
        {"80", "/rpc", 3},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct conf_route *found = router_route(
            &listener, span(cases[i].authority), span(cases[i].path));
        cr_expect_eq(found == NULL ? -1 : (int)(found - routes), cases[i].route, "%s%s",
            cases[i].authority, cases[i].path);
    }
    routes[3] = route(root, NULL);
    cr_expect_eq(router_route(&listener, span(""), span("/anything")), &routes[3]);
    listener.nroutes = 0;
    cr_expect_null(router_route(&listener, span(""), span("/")));
}

Test(router, pools)
{
    static char all[] = "*", get[] = "get_*", get_x[] = "get_x*", exact[] = "get_xy", ge[] = "ge";
    static char *none[] = {exact}, *two[] = {ge, get}, *three[] = {get_x}, *any[] = {all};
    struct conf_pool pools[] = {
        {.methods = any, .nmethods = 1},
        {.methods = two, .nmethods = 2},
        {.methods = three, .nmethods = 1},
        {.methods = none, .nmethods = 1},
        {.methods = any, .nmethods = 1},
    };
    struct conf conf = {.pools = pools, .npools = 5};
    uint32_t order[] = {4, 1, 2, 3, 0};
    struct conf_route every = {.pools = order, .npools = 5};
    struct conf_route narrow = {.pools = order + 1, .npools = 3};
    static const struct {
        const char *method;
        int every;
        int narrow;
    } cases[] = {
        {"get_xy", 3, 3},
        {"get_xyz", 2, 2},
        {"get_x", 2, 2},
        {"get_y", 1, 1},
        {"get_", 1, 1},
        {"ge", 1, 1},
        {"get", 4, -1},
        {"g", 4, -1},
        {"", 4, -1},
        {"GET_x", 4, -1},
        {"*", 4, -1},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct span method = span(cases[i].method);
        cr_expect_eq(router_pool(&conf, &every, method), cases[i].every, "%s", cases[i].method);
        cr_expect_eq(router_pool(&conf, &narrow, method), cases[i].narrow, "%s", cases[i].method);
    }
}
