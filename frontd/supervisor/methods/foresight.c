#include "frontd/supervisor/methods/foresight.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/config/file.h"
#include "frontd/config/flat.h"
#include "frontd/config/value.h"
#include "frontd/supervisor/sockets/endpoint.h"
#include "frontd/supervisor/trial.h"
#include "frontd/supervisor/workers/worker_pool.h"
#include "frontd/system/spawn.h"

enum { ERROR_SIZE = 5120 };

/* What differs in the two texts */

static void on_change(void *data, const char *key, const char *from, const char *to)
{
    struct json_writer *out = data;
    json_begin(out, NULL, '{');
    json_add_text(out, "key", key);
    if (from != NULL)
        json_add_text(out, "from", from);
    if (to != NULL)
        json_add_text(out, "to", to);
    json_end(out, '}');
}

static void put_changes(struct json_writer *out, int conf_fd, const struct buf *text)
{
    struct conf_flat from = {0};
    struct conf_flat to = {0};
    struct stat st;
    char *before = fstat(conf_fd, &st) < 0 ? NULL : mem_zalloc((size_t)st.st_size + 1);
    if (before != NULL && pread(conf_fd, before, (size_t)st.st_size, 0) == st.st_size &&
        conf_flat_read(&from, before, (size_t)st.st_size) == 0 &&
        conf_flat_read(&to, buf_data(text), buf_len(text)) == 0) {
        json_begin(out, "changes", '[');
        conf_flat_compare(&from, &to, on_change, out);
        json_end(out, ']');
    }
    conf_flat_deinit(&from);
    conf_flat_deinit(&to);
    mem_free(before);
}

/* Names that one config has, and the other does not */

static const struct conf_listener *find_listener(const struct conf *conf, const char *name)
{
    for (uint32_t i = 0; i < conf->nlisteners; i++) {
        if (strcmp(conf->listeners[i].name, name) == 0)
            return &conf->listeners[i];
    }
    return NULL;
}

static const struct conf_pool *find_pool(const struct conf *conf, const char *name)
{
    for (uint32_t i = 0; i < conf->npools; i++) {
        if (strcmp(conf->pools[i].name, name) == 0)
            return &conf->pools[i];
    }
    return NULL;
}

static bool same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static const struct conf_route *find_route(
    const struct conf_listener *listener, const struct conf_route *route)
{
    for (uint32_t i = 0; listener != NULL && i < listener->nroutes; i++) {
        const struct conf_route *other = &listener->routes[i];
        if (same_text(other->path, route->path) && same_text(other->host, route->host))
            return other;
    }
    return NULL;
}

/* Listeners of `conf` that `other` does not have. */
static void put_listeners(
    struct json_writer *out, const char *key, const struct conf *conf, const struct conf *other)
{
    json_begin(out, key, '[');
    for (uint32_t i = 0; i < conf->nlisteners; i++) {
        if (find_listener(other, conf->listeners[i].name) == NULL)
            json_add_text(out, NULL, conf->listeners[i].name);
    }
    json_end(out, ']');
}

static void put_pools(
    struct json_writer *out, const char *key, const struct conf *conf, const struct conf *other)
{
    json_begin(out, key, '[');
    for (uint32_t i = 0; i < conf->npools; i++) {
        if (find_pool(other, conf->pools[i].name) == NULL)
            json_add_text(out, NULL, conf->pools[i].name);
    }
    json_end(out, ']');
}

static void put_route(
    struct json_writer *out, const struct conf_listener *listener, const struct conf_route *route)
{
    json_add_text(out, "listener", listener->name);
    if (route->host != NULL)
        json_add_text(out, "host", route->host);
    if (route->path != NULL)
        json_add_text(out, "path", route->path);
}

static void put_routes(
    struct json_writer *out, const char *key, const struct conf *conf, const struct conf *other)
{
    json_begin(out, key, '[');
    for (uint32_t i = 0; i < conf->nlisteners; i++) {
        const struct conf_listener *listener = &conf->listeners[i];
        const struct conf_listener *there = find_listener(other, listener->name);
        for (uint32_t k = 0; k < listener->nroutes; k++) {
            if (find_route(there, &listener->routes[k]) != NULL || listener->routes[k].path == NULL)
                continue;
            json_begin(out, NULL, '{');
            put_route(out, listener, &listener->routes[k]);
            json_end(out, '}');
        }
    }
    json_end(out, ']');
}

/* Workers that are replaced, since what they run has changed */

static unsigned count_replaced(
    const struct worker_pool *pool, const struct conf_pool *conf, const char *user)
{
    char path[4096];
    unsigned replaced = 0;
    bool found = spawn_find(conf->command[0], path, sizeof(path)) == 0;
    struct fingerprint wanted = fingerprint_take(
        found ? path : NULL, conf->command, conf->ncommand, user);
    list_for_each (node, &pool->workers) {
        const struct worker_process *worker = container_of(node, struct worker_process, node);
        replaced += worker->state != WORKER_LEAVING && worker->name.slot < conf->instances &&
                    !fingerprint_equal(&worker->fingerprint, &wanted);
    }
    return replaced;
}

static void put_workers(
    struct json_writer *out, struct supervisor *supervisor, const struct conf *next)
{
    struct spawn_user user = {0};
    if (spawn_user_find(next->user, &user) < 0)
        user.name[0] = '\0';
    json_begin(out, "workers_replaced", '[');
    list_for_each (node, &supervisor->workers.ctx.pools) {
        const struct worker_pool *pool = container_of(node, struct worker_pool, node);
        const struct conf_pool *conf = find_pool(next, pool->name);
        unsigned n = conf == NULL || conf->command == NULL ? 0
                                                           : count_replaced(pool, conf, user.name);
        if (n == 0)
            continue;
        json_begin(out, NULL, '{');
        json_add_text(out, "pool", pool->name);
        json_add_number(out, "workers", n);
        json_end(out, '}');
    }
    json_end(out, ']');
}

/* Connections that stay with the old shards, and end with them */

static void put_stay(struct json_writer *out, const struct conf_listener *listener,
    const struct conf_route *route, const char *why)
{
    json_begin(out, NULL, '{');
    if (route != NULL)
        put_route(out, listener, route);
    else
        json_add_text(out, "listener", listener->name);
    json_add_text(out, "reason", why);
    json_end(out, '}');
}

static bool stays_open(const struct conf_route *route)
{
    return route->kind == CONF_WEBSOCKET;
}

static void put_staying(struct json_writer *out, const struct conf *conf, const struct conf *next)
{
    json_begin(out, "connections_stay", '[');
    for (uint32_t i = 0; i < conf->nlisteners; i++) {
        const struct conf_listener *listener = &conf->listeners[i];
        const struct conf_listener *there = find_listener(next, listener->name);
        if (there == NULL) {
            put_stay(out, listener, NULL, "the listener is not in the new config");
            continue;
        }
        if (there->protocol != listener->protocol) {
            put_stay(out, listener, NULL, "the listener has another protocol");
            continue;
        }
        for (uint32_t k = 0; k < listener->nroutes; k++) {
            const struct conf_route *route = &listener->routes[k];
            const struct conf_route *other = find_route(there, route);
            if (stays_open(route) && (other == NULL || other->kind != route->kind))
                put_stay(out, listener, route, "the route is not in the new config");
        }
    }
    json_end(out, ']');
}

/* Whether it would be refused: as do_start() in supervisor.c says. */

/* An address that is new has to be free. Returns 0, or -errno with a message in `error`. */
static int try_addresses(
    struct supervisor *supervisor, const struct conf *next, char *error, size_t size)
{
    for (uint32_t i = 0; i < next->nlisteners; i++) {
        const struct conf_listener *listener = &next->listeners[i];
        for (uint32_t a = 0; a < listener->naddresses; a++) {
            const struct conf_address *address = &listener->addresses[a];
            if (endpoints_find(&supervisor->front.endpoints, address) != NULL)
                continue;
            int r = endpoint_probe(address);
            if (r < 0 && !(endpoint_is_foreign(r) && listener->naddresses > 1)) {
                snprintf(error, size, "listener %s: %s: %s", listener->name, listener->text,
                    endpoint_explain(r));
                return r;
            }
        }
    }
    return 0;
}

static int try_all(struct supervisor *supervisor, const struct conf *next, char *error, size_t size)
{
    const struct front *front = &supervisor->front;
    const char *run_dir = front_serving(front)->conf->run_dir;
    struct spawn_user user;
    if (strcmp(next->run_dir, run_dir) != 0) {
        snprintf(error, size, "run_dir cannot change while the front runs: it is %s", run_dir);
        return -EINVAL;
    }
    int r = trial_secrets(front->conf_name, next, false, error, size);
    if (r == 0 && spawn_user_find(next->user, &user) < 0) {
        snprintf(error, size, "cannot find user %s", next->user);
        r = -ENOENT;
    }
    return r == 0 ? try_addresses(supervisor, next, error, size) : r;
}

static void put_all(struct json_writer *out, struct supervisor *supervisor, const struct conf *next,
    int conf_fd, const struct buf *text)
{
    const struct generation *serving = front_serving(&supervisor->front);
    put_changes(out, conf_fd, text);
    if (serving->stand_in)
        return; /* its config is of another version: what it means is not known */
    put_listeners(out, "listeners_added", next, serving->conf);
    put_listeners(out, "listeners_removed", serving->conf, next);
    put_routes(out, "routes_added", next, serving->conf);
    put_routes(out, "routes_removed", serving->conf, next);
    put_pools(out, "pools_added", next, serving->conf);
    put_pools(out, "pools_removed", serving->conf, next);
    put_workers(out, supervisor, next);
    put_staying(out, serving->conf, next);
}

static void write_all(int fd, const struct buf *text)
{
    const char *p = buf_data(text);
    for (size_t left = buf_len(text); left > 0;) {
        ssize_t n = write(fd, p, left);
        if (n <= 0 && errno != EINTR)
            return;
        p += MAX(n, 0);
        left -= (size_t)MAX(n, 0);
    }
}

void foresight_write(struct supervisor *supervisor, int conf_fd, int fd)
{
    char error[ERROR_SIZE] = "";
    struct buf text = {0};
    struct conf *next = NULL;
    struct json_writer out = {0};
    static const struct conf_findings none = {.odd = NULL};
    int r = conf_file_try(supervisor->front.conf_name, &none, &text, &next, error, sizeof(error));
    if (r == 0)
        r = try_all(supervisor, next, error, sizeof(error));
    json_begin(&out, NULL, '{');
    if (r < 0)
        json_add_text(&out, "error", error);
    else
        put_all(&out, supervisor, next, conf_fd, &text);
    json_end(&out, '}');
    if (!out.failed)
        write_all(fd, &out.out);
}
