#include "frontd/config/config.h"

#include <string.h>

#include "common/alloc.h"

static void free_texts(char **texts, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        mem_free(texts[i]);
    mem_free(texts);
}

static void free_pool(struct conf_pool *pool)
{
    for (uint32_t i = 0; i < pool->nworkers; i++) {
        mem_free(pool->workers[i].text);
        mem_free(pool->workers[i].pattern);
        mem_free(pool->workers[i].host);
        mem_free(pool->workers[i].server_name);
    }
    if (pool->tls != NULL) {
        mem_free(pool->tls->ca.path);
        mem_free(pool->tls->own.cert.path);
        mem_free(pool->tls->own.key.path);
        mem_free(pool->tls);
    }
    mem_free(pool->workers);
    mem_free(pool->name);
    mem_free(pool->realm);
    mem_free(pool->hash_name);
    free_texts(pool->idempotent, pool->nidempotent);
    free_texts(pool->methods, pool->nmethods);
    free_texts(pool->command, pool->ncommand);
}

static void free_tls(struct conf_tls *tls)
{
    if (tls == NULL)
        return;
    for (uint32_t i = 0; i < tls->ncertificates; i++) {
        mem_free(tls->certificates[i].cert.path);
        mem_free(tls->certificates[i].key.path);
    }
    mem_free(tls->client_ca.path);
    mem_free(tls->certificates);
    free_texts(tls->alpn, tls->nalpn);
    mem_free(tls);
}

static void free_compress(struct conf_compress *compress)
{
    if (compress == NULL)
        return;
    free_texts(compress->types, compress->ntypes);
    mem_free(compress);
}

static void free_listener(struct conf_listener *listener)
{
    for (uint32_t i = 0; i < listener->nroutes; i++) {
        struct conf_route *route = &listener->routes[i];
        mem_free(route->path);
        mem_free(route->prefix);
        mem_free(route->host);
        mem_free(route->pools);
        mem_free(route->canary_header);
        free_texts(route->headers, route->nheaders);
        free_texts(route->origins, route->norigins);
        buf_deinit(&route->cors.text);
        mem_free(route->cors.fields);
        free_texts(route->protocols, route->nprotocols);
        mem_free(route->access.rules);
        conf_free_policies(route);
        free_compress(route->compress);
    }
    mem_free(listener->routes);
    mem_free(listener->trusted_proxies);
    mem_free(listener->access.rules);
    free_tls(listener->tls);
    mem_free(listener->name);
    mem_free(listener->text);
}

static void free_jwt(struct conf_jwt *jwt)
{
    mem_free(jwt->jwks.path);
    mem_free(jwt->key);
    mem_free(jwt->issuer);
    free_texts(jwt->audiences, jwt->naudiences);
    mem_free(jwt->header);
    mem_free(jwt->query);
    mem_free(jwt->cookie);
    free_texts(jwt->claims, jwt->nclaims);
    mem_free(jwt);
}

static void free_logs(struct conf *conf)
{
    if (conf->access_log != NULL) {
        mem_free(conf->access_log->path);
        mem_free(conf->access_log->format);
        mem_free(conf->access_log->parts);
        mem_free(conf->access_log);
    }
    if (conf->tracing != NULL) {
        mem_free(conf->tracing->endpoint);
        mem_free(conf->tracing->authority);
        mem_free(conf->tracing->path);
        mem_free(conf->tracing);
    }
    mem_free(conf->request_id);
}

struct conf *conf_free(struct conf *conf)
{
    if (conf == NULL)
        return NULL;
    for (uint32_t i = 0; i < conf->npools; i++)
        free_pool(&conf->pools[i]);
    for (uint32_t i = 0; i < conf->nlisteners; i++)
        free_listener(&conf->listeners[i]);
    mem_free(conf->pools);
    mem_free(conf->listeners);
    mem_free(conf->admin.text);
    mem_free(conf->admin.token_file.path);
    free_texts(conf->metric_methods, conf->nmetric_methods);
    for (uint32_t i = 0; i < conf->njwts; i++)
        free_jwt(conf->jwts[i]);
    free_logs(conf);
    mem_free(conf->run_dir);
    mem_free(conf->user);
    return mem_free(conf);
}

uint64_t conf_connections_of(uint64_t descriptors, uint32_t shards)
{
    static const uint64_t kept_least = 32; /* 16 are in use with one worker and one listener */
    static const uint64_t kept_most = 128;
    /* For each other shard a socket and an eventfd; during a reload as many for each new shard,
     * and a socket for the hand-over. */
    static const uint64_t kept_for_shard = 5;
    uint64_t kept = MIN(MAX(descriptors / 4, kept_least), kept_most) +
                    (shards - 1) * kept_for_shard;
    return descriptors > kept ? descriptors - kept : 1;
}

unsigned conf_method_fit(const char *pattern, struct span method)
{
    size_t n = strlen(pattern);
    if (pattern[n - 1] != '*')
        return n == method.n && memcmp(pattern, method.p, n) == 0 ? UINT32_MAX : 0;
    n--;
    return n <= method.n && memcmp(pattern, method.p, n) == 0 ? (unsigned)n + 1 : 0;
}

void conf_free_policies(struct conf_route *route)
{
    for (uint32_t i = 0; i < route->npolicies; i++) {
        struct conf_policy *policy = &route->policies[i];
        for (uint32_t k = 0; policy->rates_of == policy->number && k < policy->nrates; k++)
            mem_free(policy->rates[k].header);
        if (policy->rates_of == policy->number)
            mem_free(policy->rates);
        mem_free(policy->match);
    }
    mem_free(route->policies);
}

const struct conf_policy *conf_policy_of(const struct conf_route *route, struct span method)
{
    for (uint32_t i = 0; i < route->npolicies; i++) {
        if (conf_method_fit(route->policies[i].match, method) > 0)
            return &route->policies[i];
    }
    return NULL;
}

bool conf_trusts(const struct conf_listener *listener, const struct peer *peer)
{
    return peer_is_in(peer, listener->trusted_proxies, listener->ntrusted_proxies);
}

bool conf_method_listed(char *const *patterns, uint32_t n, struct span method)
{
    for (uint32_t i = 0; i < n; i++) {
        if (conf_method_fit(patterns[i], method) > 0)
            return true;
    }
    return false;
}
