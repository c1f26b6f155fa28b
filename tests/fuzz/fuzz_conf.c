/* The input is a config. */

#include <netdb.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/config/parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Instead of libc's: names would be asked of the network. Only one address is known. */
int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
    struct addrinfo **ret_found)
{
    static struct sockaddr_in address = {.sin_family = AF_INET};
    static struct addrinfo found = {
        .ai_family = AF_INET,
        .ai_addrlen = sizeof(address),
        .ai_addr = (struct sockaddr *)&address,
    };
    CHECK(service != NULL && hints != NULL);
    if (strcmp(host, "127.0.0.1") != 0)
        return EAI_NONAME;
    *ret_found = &found;
    return 0;
}

void freeaddrinfo(struct addrinfo *found)
{
    (void)found;
}

static void check_route(const struct conf *conf, const struct conf_route *route)
{
    CHECK(route->path != NULL && route->path[0] == '/' && strlen(route->path) == route->path_len);
    const struct span prefix = {route->prefix, route->prefix_len};
    CHECK(prefix.n > 0 && strlen(prefix.p) == prefix.n && prefix.p[0] == '/');
    CHECK(route->host == NULL || route->host[0] != '\0');
    CHECK(route->timeout > 0 && route->npools > 0);
    for (uint32_t i = 0; i < route->npools; i++)
        CHECK(route->pools[i] < conf->npools);
    for (uint32_t i = 0; i < route->nheaders; i++)
        CHECK(route->headers[i] != NULL);
}

/* What is accepted can be used. */
static void check_conf(const struct conf *conf)
{
    CHECK(conf->run_dir[0] == '/' && conf->shards >= 1 && conf->shards <= CONF_SHARDS_MAX);
    CHECK(conf->limits.header >= 128 && conf->limits.body >= 1 && conf->limits.connections >= 1);
    CHECK(conf->npools >= 1 && conf->npools <= CONF_POOLS_MAX);
    CHECK(conf->nlisteners >= 1 && conf->nlisteners <= CONF_LISTENERS_MAX);
    for (uint32_t i = 0; i < conf->nlisteners; i++) {
        const struct conf_listener *listener = &conf->listeners[i];
        CHECK(listener->name != NULL && listener->address.len > 0 && listener->nroutes > 0);
        for (uint32_t r = 0; r < listener->nroutes; r++) {
            /* Those of a stream's only route are not compared with a path. */
            if (listener->protocol == CONF_PROTOCOL_HTTP)
                check_route(conf, &listener->routes[r]);
        }
    }
    for (uint32_t i = 0; i < conf->npools; i++) {
        const struct conf_pool *pool = &conf->pools[i];
        CHECK(pool->name != NULL && pool->nworkers > 0 && pool->nmethods > 0);
        CHECK((pool->hash_name != NULL) ==
              (pool->hash == CONF_HASH_HEADER || pool->hash == CONF_HASH_PARAM));
        CHECK((pool->command != NULL) == (pool->instances > 0) &&
              pool->instances <= CONF_INSTANCES_MAX);
        CHECK(pool->command == NULL || (pool->ncommand > 0 && pool->command[0][0] != '\0' &&
                                           pool->nworkers == 1 && pool->restart_delay > 0));
        for (uint32_t w = 0; w < pool->nworkers; w++)
            CHECK(pool->workers[w].pattern != NULL || pool->workers[w].host != NULL ||
                  pool->workers[w].address.len > 0);
        for (uint32_t m = 0; m < pool->nmethods; m++)
            conf_method_fit(pool->methods[m], SPAN("m"));
    }
}

static void check_error(const char *error)
{
    CHECK(strncmp(error, "f:", 2) == 0);
    char *end;
    unsigned long line = strtoul(error + 2, &end, 10);
    CHECK(line >= 1 && strncmp(end, ": ", 2) == 0 && strstr(end + 2, ": ") != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char error[512] = "";
    struct conf *conf = NULL;
    size_t before = mem_in_use();
    /* An allocation fails, too, where the input says so. */
    mem_fail_after(size > 0 && data[size - 1] > 0xf0 ? data[size - 1] - 0xf1 : -1);
    int r = conf_parse("f", (const char *)data, size, &conf, error, sizeof(error));
    mem_fail_after(-1);
    if (r == 0) {
        check_conf(conf);
    } else {
        CHECK(conf == NULL);
        check_error(error);
    }
    conf_free(conf);
    CHECK(mem_in_use() == before);
    return 0;
}
