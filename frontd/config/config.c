#include "frontd/config/config.h"

#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/config/check.h"

int conf_parse(const char *file, const char *text, size_t n, struct conf **ret_conf, char *error,
    size_t error_size)
{
    return conf_try(file, text, n, NULL, ret_conf, error, error_size);
}

int conf_try(const char *file, const char *text, size_t n, const struct conf_findings *findings,
    struct conf **ret_conf, char *error, size_t error_size)
{
    struct conf_lines lines;
    struct conf_raw *raw = NULL;
    struct conf *conf = NULL;
    conf_lines_read(&lines, text, n);
    int r = -EINVAL;
    if (lines.problem != NULL)
        snprintf(error, error_size, "%s:%u: config: %s", file, lines.problem_line, lines.problem);
    else
        r = conf_raw_read(file, text, n, &lines, &raw, error, error_size);
    if (r == 0) {
        conf = mem_zalloc(sizeof(*conf));
        if (conf == NULL) {
            snprintf(error, error_size, "%s:1: config: no memory", file);
            r = -EINVAL;
        } else {
            r = conf_check(file, raw, &lines, findings, conf, error, error_size);
        }
        conf_raw_free(raw);
    }
    conf_lines_deinit(&lines);
    if (r == 0)
        *ret_conf = conf;
    else
        conf_free(conf);
    return r;
}

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
    }
    mem_free(pool->workers);
    mem_free(pool->name);
    mem_free(pool->realm);
    mem_free(pool->hash_name);
    free_texts(pool->idempotent, pool->nidempotent);
    free_texts(pool->methods, pool->nmethods);
    free_texts(pool->command, pool->ncommand);
}

static void free_listener(struct conf_listener *listener)
{
    for (uint32_t i = 0; i < listener->nroutes; i++) {
        struct conf_route *route = &listener->routes[i];
        mem_free(route->path);
        mem_free(route->prefix);
        mem_free(route->host);
        mem_free(route->pools);
        free_texts(route->headers, route->nheaders);
        free_texts(route->origins, route->norigins);
        buf_deinit(&route->cors.text);
        mem_free(route->cors.fields);
        free_texts(route->protocols, route->nprotocols);
    }
    mem_free(listener->routes);
    mem_free(listener->name);
    mem_free(listener->text);
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
    mem_free(conf->run_dir);
    mem_free(conf->user);
    return mem_free(conf);
}

uint64_t conf_connections_of(uint64_t descriptors, uint32_t shards)
{
    static const uint64_t kept_least = 32; /* with one worker and one listener, 16 are in use */
    static const uint64_t kept_most = 128;
    /* For each other shard a socket and an eventfd; at a reload as many more for each new one, and
     * a socket over which connections go to it. */
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

bool conf_method_listed(char *const *patterns, uint32_t n, struct span method)
{
    for (uint32_t i = 0; i < n; i++) {
        if (conf_method_fit(patterns[i], method) > 0)
            return true;
    }
    return false;
}
