#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/shard/request/router.h"

static struct span span(const char *text)
{
    return (struct span){text, strlen(text)};
}

static struct conf_route route(char *path, char *host)
{
    return (struct conf_route){.prefix = path, .prefix_len = strlen(path), .host = host};
}

static const struct conf_route no_route;

/* The route, or NULL; &no_route where the path is refused. */
static const struct conf_route *find(
    const struct conf_listener *listener, const char *authority, struct span path)
{
    const struct conf_route *found = NULL;
    int r = router_route(listener, span(authority), path, &found);
    cr_assert(r == 0 || r == ROUTER_E_PATH);
    return r == 0 ? found : &no_route;
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
        int route; /* -1: none; -2: the path is refused */
    } cases[] = {
        {"", "/rpc", 3},
        {"", "/rpc/", 3},
        {"", "/rpc/x", 3},
        {"", "/rpcx", -1},
        {"", "/rp", -1},
        {"", "/", -1},
        {"", "", -1},
        {"", "/RPC", -1},
        {"", "//rpc", 3},
        {"", "/%72pc", 3},
        {"", "/x/../rpc", 3},
        {"", "/./rpc/.", 3},
        {"", "/rpc%2Fdeep", 1},
        {"", "/rpc/%2E%2e/rpc/./deep", 1},
        {"", "/rpc/..", -1},
        {"", "/%2572pc", -1},
        {"", "/rpc/../..", -2},
        {"", "/rpc/%", -2},
        {"", "/nowhere/%00", -2},
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
        {"h.test.", "/rpc", 0},
        {"H.test.:80", "/rpc", 0},
        {"h.test..", "/rpc", 3},
        {"h.test.x", "/rpc", 3},
        {".", "/rpc", 3},
        {".:80", "/rpc", 3},
        {":80", "/rpc", 3},
        {"80", "/rpc", 3},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct conf_route *found = find(&listener, cases[i].authority, span(cases[i].path));
        int at = found == NULL ? -1 : found == &no_route ? -2 : (int)(found - routes);
        cr_expect_eq(at, cases[i].route, "%s%s", cases[i].authority, cases[i].path);
    }
    routes[3] = route(root, NULL);
    cr_expect_eq(find(&listener, "", span("/anything")), &routes[3]);
    listener.nroutes = 0;
    cr_expect_null(find(&listener, "", span("/")));
}

/* One that has no room on the stack takes memory, and gives it back. */
Test(router, long_paths)
{
    enum { MOST = 4096 };
    static char rpc[] = "/rpc", path[MOST + 8];
    struct conf_route routes[] = {route(rpc, NULL)};
    struct conf_listener listener = {.routes = routes, .nroutes = 1};
    static const size_t sizes[] = {1023, 1024, 1025, MOST};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        size_t n = sizes[i], used = mem_in_use();
        memset(path, '/', n);
        memcpy(path + n - 6, "/%72pc", 6);
        cr_expect_eq(find(&listener, "", (struct span){path, n}), &routes[0], "%zu", n);
        memcpy(path + n - 6, "/%00pc", 6);
        cr_expect_eq(find(&listener, "", (struct span){path, n}), &no_route, "%zu", n);
        cr_expect_eq(mem_in_use(), used);
        memcpy(path + n - 6, "/%72pc", 6);
        mem_trim();
        mem_fail_after(0);
        const struct conf_route *found = &no_route;
        int r = router_route(&listener, span(""), (struct span){path, n}, &found);
        mem_fail_after(-1);
        cr_expect_eq(r, n > 1024 ? -ENOMEM : 0, "%zu: %d", n, r);
    }
}

Test(router, strict_paths)
{
    static char root[] = "/", file[] = "/a b";
    struct conf_route routes[] = {route(file, NULL), route(root, NULL)};
    struct conf_listener listener = {.routes = routes, .nroutes = 2, .paths_strict = true};
    static const struct {
        const char *path;
        int route; /* -2: refused */
    } cases[] = {
        {"/", 1},
        {"/a%20b", 0},
        {"/a%20b/", 0},
        {"/a%20c", 1},
        {"//a%20b", -2},
        {"/./a%20b", -2},
        {"/%61%20b", -2},
        {"/a%2fb", -2},
        {"/a%2Fb", -2},
        {"/a%c3%a4", -2},
        {"/a%C3%A4", 1},
        {"/a\"b", -2},
        {"/a%", -2},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct conf_route *found = find(&listener, "", span(cases[i].path));
        int at = found == &no_route ? -2 : (int)(found - routes);
        cr_expect_eq(at, cases[i].route, "%s", cases[i].path);
    }
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
