#include "frontd/ipc/metric_rows.h"

#include <errno.h>
#include <string.h>

#include "common/alloc.h"

static unsigned claim_route(struct share *share, unsigned listener, const struct conf_route *route)
{
    struct buf name = {0};
    unsigned row = 0;
    const char *path = route->path == NULL ? "" : route->path;
    if (buf_printf(&name, "%s%s", route->host == NULL ? "" : route->host, path) == 0)
        row = share_name_claim(
            share, METRIC_KIND_route, listener, (struct span){buf_data(&name), buf_len(&name)});
    buf_deinit(&name);
    return row;
}

static void claim_routes(struct metric_rows *rows, struct share *share, const struct conf *conf,
    const struct conf_listener *listener, unsigned row)
{
    for (uint32_t i = 0; i < listener->nroutes; i++) {
        const struct conf_route *route = &listener->routes[i];
        unsigned own = claim_route(share, row, route);
        rows->routes[route->number] = (uint16_t)own;
        for (uint32_t k = 0; k < route->npools; k++) {
            const char *pool = conf->pools[route->pools[k]].name;
            rows->pairs[route->pair + k] = (uint16_t)share_name_claim(
                share, METRIC_KIND_pair, own, (struct span){pool, strlen(pool)});
        }
    }
}

int metric_rows_init(struct metric_rows *rows, struct share *share, const struct conf *conf)
{
    *rows = (struct metric_rows){0};
    rows->routes = mem_zalloc((conf->nroutes + 1) * sizeof(*rows->routes));
    rows->pairs = mem_zalloc((conf->npairs + 1) * sizeof(*rows->pairs));
    if (rows->routes == NULL || rows->pairs == NULL) {
        metric_rows_deinit(rows);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < conf->nlisteners; i++) {
        const struct conf_listener *listener = &conf->listeners[i];
        unsigned row = share_name_claim(share, METRIC_KIND_listener, listener->protocol,
            (struct span){listener->name, strlen(listener->name)});
        rows->listeners[i] = (uint16_t)row;
        rows->none[i] = (uint16_t)share_name_claim(share, METRIC_KIND_route, row, SPAN("none"));
        claim_routes(rows, share, conf, listener, row);
    }
    return 0;
}

void metric_rows_deinit(struct metric_rows *rows)
{
    rows->routes = mem_free(rows->routes);
    rows->pairs = mem_free(rows->pairs);
}
