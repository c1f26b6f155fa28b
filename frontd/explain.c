#include "frontd/explain.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "frontd/shard/request/router.h"
#include "proto/envelope.h"

/* line: 0: it is a default. */
static void put_line(unsigned line)
{
    if (line == 0)
        printf(" (default)\n");
    else
        printf(" (line %u)\n", line);
}

static void put_rates(const struct conf_policy *policy)
{
    static const char *const pers[] = {"all", "peer", "connection", "header:"};
    for (uint32_t i = 0; i < policy->nrates; i++) {
        const struct conf_rate *rate = &policy->rates[i];
        printf("    rate: one in %" PRIu64 " us, %u at once, per %s%s", rate->interval, rate->burst,
            pers[rate->per], rate->per == CONF_RATE_HEADER ? rate->header : "");
        put_line(policy->rates_line);
    }
}

static void put_policy(const struct conf_route *route, const struct conf_policy *policy)
{
    printf("    timeout: %" PRIu64 " ms", policy == NULL ? route->timeout : policy->timeout);
    put_line(
        policy == NULL || policy->timeout_line == 0 ? route->timeout_line : policy->timeout_line);
    if (policy == NULL)
        return;
    if (policy->denied_line != 0) {
        printf("    %s", policy->denied ? "denied: -32601, or 403 on kind: http" : "allowed");
        put_line(policy->denied_line);
    }
    if (policy->has_idempotent) {
        printf("    idempotent: %s", policy->idempotent ? "true" : "false");
        put_line(policy->idempotent_line);
    }
    if (policy->calls > 0) {
        printf("    calls: %u", policy->calls);
        put_line(policy->calls_line);
    }
    put_rates(policy);
}

static void put_access(const char *of, const struct conf_access *access)
{
    for (uint32_t i = 0; i < access->nrules; i++) {
        const struct conf_access_rule *rule = &access->rules[i];
        const struct peer_network *network = &rule->network;
        char text[INET6_ADDRSTRLEN];
        printf("    addresses, %s: %s ", of, rule->allow ? "allow" : "deny");
        if (network->family == AF_UNIX)
            printf("unix\n");
        else
            printf("%s/%u\n", inet_ntop(network->family, network->bytes, text, sizeof(text)),
                network->bits);
    }
}

static void put_canary(const struct conf *conf, const struct conf_route *route)
{
    const struct conf_pool *pool = &conf->pools[route->pools[route->npools - 1]];
    printf("    canary: pool %s (line %u) for %u %% of clients", pool->name, pool->line,
        route->canary_percent);
    if (route->canary_header != NULL)
        printf(", and where %s says always, not never", route->canary_header);
    printf("\n");
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
    put_access("listener", &listener->access);
    put_access("route", &route->access);
    int pool = !http && envelope_is_reserved(name)
                   ? -1
                   : router_pool(conf, route, http ? SPAN("http.request") : name);
    if (pool < 0)
        printf("    refused: -32601, no pool takes the method, or clients may not call it\n");
    else
        printf("    pool: %s (line %u)\n", conf->pools[pool].name, conf->pools[pool].line);
    if (route->canary)
        put_canary(conf, route);
    put_policy(route, conf_policy_of(route, name));
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
