#include "frontd/config/describe.h"

#include <arpa/inet.h>
#include <inttypes.h>

/* line: 0: it is a default. */
static int put_line(struct buf *out, unsigned line)
{
    return line == 0 ? buf_printf(out, " (default)\n") : buf_printf(out, " (line %u)\n", line);
}

static int put_access(struct buf *out, const char *of, const struct conf_access *access)
{
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < access->nrules; i++) {
        const struct conf_access_rule *rule = &access->rules[i];
        const struct peer_network *network = &rule->network;
        const char *verb = rule->allow ? "allow" : "deny";
        char text[INET6_ADDRSTRLEN];
        if (network->family == AF_UNIX)
            r = buf_printf(out, "addresses, %s: %s unix\n", of, verb);
        else
            r = buf_printf(out, "addresses, %s: %s %s/%u\n", of, verb,
                inet_ntop(network->family, network->bytes, text, sizeof(text)), network->bits);
    }
    return r;
}

static int put_rates(struct buf *out, const struct conf_policy *policy)
{
    static const char *const pers[] = {"all", "peer", "connection", "header:"};
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < policy->nrates; i++) {
        const struct conf_rate *rate = &policy->rates[i];
        r = buf_printf(out, "rate: one in %" PRIu64 " us, %u at once, per %s%s", rate->interval,
            rate->burst, pers[rate->per], rate->per == CONF_RATE_HEADER ? rate->header : "");
        if (r == 0)
            r = put_line(out, policy->rates_line);
    }
    return r;
}

static int put_timeout(
    struct buf *out, const struct conf_route *route, const struct conf_policy *policy)
{
    bool own = policy != NULL && policy->timeout_line != 0;
    int r = buf_printf(
        out, "timeout: %" PRIu64 " ms", policy == NULL ? route->timeout : policy->timeout);
    return r == 0 ? put_line(out, own ? policy->timeout_line : route->timeout_line) : r;
}

static int put_policy(struct buf *out, const struct conf_policy *policy)
{
    int r = 0;
    if (policy->denied_line != 0) {
        r = buf_printf(
            out, "%s", policy->denied ? "denied: -32601, or 403 on kind: http" : "allowed");
        if (r == 0)
            r = put_line(out, policy->denied_line);
    }
    if (r == 0 && policy->has_idempotent) {
        r = buf_printf(out, "idempotent: %s", policy->idempotent ? "true" : "false");
        if (r == 0)
            r = put_line(out, policy->idempotent_line);
    }
    if (r == 0 && policy->calls > 0) {
        r = buf_printf(out, "calls: %u", policy->calls);
        if (r == 0)
            r = put_line(out, policy->calls_line);
    }
    return r == 0 ? put_rates(out, policy) : r;
}

static int put_canary(struct buf *out, const struct conf *conf, const struct conf_route *route)
{
    const struct conf_pool *pool = &conf->pools[route->pools[route->npools - 1]];
    int r = buf_printf(out, "canary: pool %s (line %u) for %u %% of clients", pool->name,
        pool->line, route->canary_percent);
    if (r == 0 && route->canary_header != NULL)
        r = buf_printf(out, ", and where %s says always, not never", route->canary_header);
    return r == 0 ? buf_printf(out, "\n") : r;
}

static int put_token(struct buf *out, const struct conf_route *route)
{
    const struct conf_jwt *jwt = route->jwt;
    int r = buf_printf(out, "token: of issuer %s, in %s", jwt->issuer, jwt->header);
    if (r == 0 && jwt->query != NULL && route->kind == CONF_WEBSOCKET)
        r = buf_printf(out, ", the parameter %s", jwt->query);
    if (r == 0 && jwt->cookie != NULL)
        r = buf_printf(out, ", the cookie %s", jwt->cookie);
    if (r == 0 && jwt->expires_close && route->kind == CONF_WEBSOCKET)
        r = buf_printf(out, "; the connection ends with it");
    return r == 0 ? put_line(out, jwt->jwks.line) : r;
}

int conf_describe(struct buf *out, const struct conf *conf, const struct conf_listener *listener,
    const struct conf_route *route, struct span method)
{
    const struct conf_policy *policy = conf_policy_of(route, method.n == 0 ? SPAN("") : method);
    int r = put_access(out, "listener", &listener->access);
    if (r == 0)
        r = put_access(out, "route", &route->access);
    if (r == 0 && route->jwt != NULL)
        r = put_token(out, route);
    if (r == 0 && route->canary)
        r = put_canary(out, conf, route);
    if (r == 0)
        r = put_timeout(out, route, policy);
    return r == 0 && policy != NULL ? put_policy(out, policy) : r;
}
