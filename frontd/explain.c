#include "frontd/explain.h"

#include <stdio.h>
#include <string.h>

#include "frontd/config/describe.h"
#include "frontd/shard/request/router.h"
#include "proto/envelope.h"

/* What applies, each line a little to the right. */
static void put_lines(struct span text)
{
    while (text.n > 0) {
        const char *end = memchr(text.p, '\n', text.n);
        int n = (int)(end - text.p);
        printf("    %.*s\n", n, text.p);
        text = (struct span){end + 1, text.n - (size_t)n - 1};
    }
}

static void put_route(const struct conf *conf, const struct conf_listener *listener,
    const struct conf_route *route, const char *method)
{
    static const char *const kinds[] = {"jsonrpc", "http", "websocket", "stream"};
    struct span name = {method, strlen(method)};
    bool http = route->kind == CONF_HTTP;
    printf("listener %s (line %u), route %s%s%s (line %u), kind %s\n", listener->name,
        listener->line, route->host == NULL ? "" : route->host, route->host == NULL ? "" : " ",
        route->path, route->line == 0 ? listener->line : route->line, kinds[route->kind]);
    int pool = !http && envelope_is_reserved(name)
                   ? -1
                   : router_pool(conf, route, http ? SPAN("http.request") : name);
    if (pool < 0)
        printf("    refused: -32601, no pool takes the method, or clients may not call it\n");
    else
        printf("    pool: %s (line %u)\n", conf->pools[pool].name, conf->pools[pool].line);
    struct buf text = {0};
    if (conf_describe(&text, conf, listener, route, name) == 0)
        put_lines((struct span){buf_data(&text), buf_len(&text)});
    buf_deinit(&text);
}

int explain_print(const struct conf *conf, const char *method, const char *path)
{
    int r = 1;
    for (uint32_t i = 0; i < conf->nlisteners; i++) {
        const struct conf_listener *listener = &conf->listeners[i];
        const struct conf_route *found = NULL;
        if (listener->protocol != CONF_PROTOCOL_HTTP) {
            put_route(conf, listener, &listener->routes[0], method);
            r = 0;
            continue;
        }
        /* Each host that has a route of its own for the path, and any other. */
        for (uint32_t k = 0; k <= listener->nroutes; k++) {
            const struct conf_route *route = NULL;
            const char *host = k == listener->nroutes ? "" : listener->routes[k].host;
            if (host == NULL || router_route(listener, (struct span){host, strlen(host)},
                                    (struct span){path, strlen(path)}, &route) != 0)
                continue;
            if (route == NULL || route == found || (k < listener->nroutes && route->host == NULL))
                continue;
            found = route;
            put_route(conf, listener, route, method);
            r = 0;
        }
    }
    if (r != 0)
        printf("no route takes %s\n", path);
    return r;
}
