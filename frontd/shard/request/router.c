#include "frontd/shard/request/router.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "common/alloc.h"
#include "frontd/config/url_path.h"

enum {
    SHORT_PATH = 1024, /* bytes: up to this a normal form is made on the stack */
};

/* The host of an authority, without its port and the dot that ends a full name. */
static struct span host_of(struct span authority)
{
    size_t n = authority.n;
    while (n > 0 && authority.p[n - 1] >= '0' && authority.p[n - 1] <= '9')
        n--;
    n = n > 0 && authority.p[n - 1] == ':' ? n - 1 : authority.n;
    if (n > 1 && authority.p[n - 1] == '.')
        n--;
    return (struct span){authority.p, n};
}

static bool path_fits(const struct conf_route *route, struct span path)
{
    size_t n = route->prefix_len;
    if (path.n < n || memcmp(path.p, route->prefix, n) != 0)
        return false;
    return path.n == n || route->prefix[n - 1] == '/' || path.p[n] == '/';
}

/* path: in normal form. */
static const struct conf_route *find(
    const struct conf_listener *listener, struct span host, struct span path)
{
    for (uint32_t i = 0; i < listener->nroutes; i++) {
        const struct conf_route *route = &listener->routes[i];
        if (!path_fits(route, path))
            continue;
        if (route->host == NULL ||
            (strlen(route->host) == host.n && strncasecmp(route->host, host.p, host.n) == 0))
            return route;
    }
    return NULL;
}

int router_route(const struct conf_listener *listener, struct span authority, struct span path,
    const struct conf_route **ret_route)
{
    const struct span host = host_of(authority);
    if (listener->paths_strict && !path_is_strict(path))
        return ROUTER_E_PATH;
    if (LIKELY(path_is_normal(path))) {
        *ret_route = find(listener, host, path);
        return 0;
    }
    char room[SHORT_PATH];
    size_t size = 0;
    char *normal = path.n <= sizeof(room) ? room : mem_get(path.n, &size);
    if (normal == NULL)
        return -ENOMEM;
    size_t n;
    int r = ROUTER_E_PATH;
    if (path_normalise(path, normal, &n) == 0) {
        *ret_route = find(listener, host, (struct span){normal, n});
        r = 0;
    }
    if (normal != room)
        mem_put(normal, size);
    return r;
}

int router_pool(const struct conf *conf, const struct conf_route *route, struct span method)
{
    int best = -1;
    unsigned best_fit = 0;
    for (uint32_t i = 0; i < route->npools - route->canary; i++) {
        const struct conf_pool *pool = &conf->pools[route->pools[i]];
        for (uint32_t m = 0; m < pool->nmethods; m++) {
            unsigned fit = conf_method_fit(pool->methods[m], method);
            if (fit > best_fit) {
                best_fit = fit;
                best = (int)route->pools[i];
            }
        }
    }
    return best;
}
