#include "frontd/shard/router.h"

#include <string.h>
#include <strings.h>

/* The host of an authority, without its port. */
static struct span host_of(struct span authority)
{
    size_t n = authority.n;
    while (n > 0 && authority.p[n - 1] >= '0' && authority.p[n - 1] <= '9')
        n--;
    if (n > 0 && authority.p[n - 1] == ':')
        return (struct span){authority.p, n - 1};
    return authority;
}

static bool path_fits(const struct conf_route *route, struct span path)
{
    size_t n = route->path_len;
    if (path.n < n || memcmp(path.p, route->path, n) != 0)
        return false;
    return path.n == n || route->path[n - 1] == '/' || path.p[n] == '/';
}

const struct conf_route *router_route(
    const struct conf_listener *listener, struct span authority, struct span path)
{
    struct span host = host_of(authority);
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

int router_pool(const struct conf *conf, const struct conf_route *route, struct span method)
{
    int best = -1;
    unsigned best_fit = 0;
    for (uint32_t i = 0; i < route->npools; i++) {
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
