#include "tests/unit/support/shardlet.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/log.h"
#include "frontd/config/parse.h"
#include "frontd/ipc/shm_clients.h"
#include "frontd/ipc/shm_queues.h"
#include "frontd/shard/handover/sender.h"
#include "frontd/shard/push/push.h"
#include "frontd/shard/request/parts.h"
#include "frontd/shard/request/policy.h"
#include "frontd/shard/request/request.h"
#include "frontd/shard/session/duplex.h"
#include "frontd/shard/turn.h"
#include "frontd/shard/upstream/worker.h"

enum { TURNS = 4, PEERS = 64 };

static struct share *share;
static unsigned shardlets;
static const struct sockaddr_in peer_address = {
    .sin_family = AF_INET, .sin_port = 0x1234, .sin_addr = {0x070200c0}, /* 192.0.2.7 */
};

static void map_share(void)
{
    int fd;
    struct share_table table;
    share_table_init(&table);
    CHECK(share_create(PEERS, &fd) == 0);
    CHECK(share_map(fd, &table, &share) == 0);
    close(fd);
}

void shardlet_init(struct shardlet *shardlet, const char *conf, unsigned seat)
{
    struct ctx *ctx = &shardlet->ctx;
    char error[512] = "";
    *shardlet = (struct shardlet){0};
    if (conf_parse("conf", conf, strlen(conf), &shardlet->conf, error, sizeof(error)) < 0)
        fprintf(stderr, "%s\n", error);
    CHECK(shardlet->conf != NULL);
    log_init(LOG_ERROR, LOG_TEXT, "test");
    if (shardlets++ == 0) {
        map_share();
    }
    CHECK(uv_loop_init(&ctx->loop) == 0);
    ctx->seat = seat;
    ctx->identity = (struct identity){.instance = "test", .incarnation = seat + 1, .shards = 1};
    ids_init(&ctx->conn_ids, (const uint8_t[IDS_KEY_SIZE]){1}, ctx->identity.incarnation);
    CHECK(parts_init(&shardlet->parts, ctx, shardlet->conf, share) == 0);
    list_init(&shardlet->clients);
    shardlet->pools = mem_zalloc(shardlet->conf->npools * sizeof(*shardlet->pools));
    CHECK(shardlet->pools != NULL);
    const char *names[CONF_POOLS_MAX];
    for (uint32_t i = 0; i < shardlet->conf->npools; i++)
        names[i] = shardlet->conf->pools[i].name;
    share_set_pools(share, names, shardlet->conf->npools);
    for (uint32_t i = 0; i < shardlet->conf->npools; i++)
        CHECK(parts_init_pool(&shardlet->pools[i], ctx, i) == 0);
    request_init(ctx, shardlet->pools);
    parts_register(ctx);
    CHECK(policy_init(ctx) == 0);
}

static void end_turn(struct shardlet *shardlet)
{
    turn_begin(&shardlet->ctx);
    turn_flush(&shardlet->ctx);
    turn_go_on(&shardlet->ctx, WORK_TURN);
    turn_flush(&shardlet->ctx);
    tls_turn(shardlet->ctx.tls);
    inspect_turn(shardlet->ctx.inspect);
    turn_flush(&shardlet->ctx);
    shardlet->ctx.now_us = 0;
}

void shardlet_step(struct shardlet *shardlet)
{
    uv_run(&shardlet->ctx.loop, UV_RUN_NOWAIT);
    end_turn(shardlet);
}

void shardlet_turn(struct shardlet *shardlet)
{
    for (int i = 0; i < TURNS; i++) {
        uv_run(&shardlet->ctx.loop, UV_RUN_NOWAIT);
        turn_expire(&shardlet->ctx);
        end_turn(shardlet);
    }
}

void shardlet_deinit(struct shardlet *shardlet)
{
    struct ctx *ctx = &shardlet->ctx;
    turn_begin(&shardlet->ctx);
    list_for_each_safe (node, &shardlet->clients)
        client_doom(container_of(node, struct client, node));
    turn_flush(&shardlet->ctx);
    CHECK(list_empty(&shardlet->clients) && list_empty(&ctx->idle));
    CHECK(ctx->open == 0);
    for (uint32_t i = 0; i < shardlet->conf->npools; i++)
        pool_shut(&shardlet->pools[i]);
    poller_close(&ctx->poller);
    poller_close(&ctx->writers);
    turn_flush(&shardlet->ctx);
    uv_run(&ctx->loop, UV_RUN_DEFAULT); /* only closing handles are left */
    CHECK(uv_loop_close(&ctx->loop) == 0);
    for (uint32_t i = 0; i < shardlet->conf->npools; i++)
        pool_deinit(&shardlet->pools[i]);
    mem_free(shardlet->pools);
    policy_deinit(&shardlet->ctx);
    parts_deinit(&shardlet->parts, ctx);
    conf_free(shardlet->conf);
    if (--shardlets > 0)
        return;
    CHECK(shardlet_connections() == 0 && shardlet_peers() == 0);
    share_unmap(share);
}

struct client *shardlet_accepted(struct shardlet *shardlet, const char *listener, int fd)
{
    struct ctx *ctx = &shardlet->ctx;
    const struct sockaddr *peer = (const struct sockaddr *)&peer_address;
    const struct conf_listener *found = NULL;
    for (uint32_t i = 0; i < shardlet->conf->nlisteners; i++) {
        if (strcmp(shardlet->conf->listeners[i].name, listener) == 0)
            found = &shardlet->conf->listeners[i];
    }
    CHECK(found != NULL);
    CHECK(share_connection_add(share, ctx->seat, UINT64_MAX));
    struct peer from = peer_of_address(peer);
    bool proxied = conf_trusts(found, &from);
    if (shardlet->conf->limits.connections_per_peer > 0 && !proxied)
        CHECK(share_peer_add(share, ctx->seat, peer, UINT64_MAX));
    CHECK(client_open(ctx, found, fd, &from, proxied, &shardlet->clients) == 0);
    bool unused = !list_empty(&ctx->unused);
    return container_of(unused ? ctx->unused.prev : shardlet->clients.prev, struct client, node);
}

struct client *shardlet_client(struct shardlet *shardlet, const char *listener, int *ret_peer)
{
    int fds[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
    *ret_peer = fds[1];
    return shardlet_accepted(shardlet, listener, fds[0]);
}

int shardlet_move(struct client **client, struct shardlet *to)
{
    struct buf state = {0};
    struct client *restored = NULL;
    int fd = dup((*client)->fd);
    CHECK(fd >= 0);
    client_freeze(*client);
    int r = client_save(*client, &state);
    if (r == 0)
        r = client_restore(&to->ctx, &to->clients, fd,
            (struct span){buf_data(&state), buf_len(&state)}, &restored);
    buf_deinit(&state);
    if (r < 0) {
        close(fd);
        client_keep(*client);
        return r;
    }
    client_release(*client);
    client_start(restored);
    *client = restored;
    return 0;
}

void shardlet_answer(struct call *call, struct span body, struct span blob)
{
    static struct worker worker; /* that has answered, for the log */
    static char name[] = "test";
    struct frame frame = {.body = body, .blob = blob};
    worker.pool = call->job.pool;
    worker.text = name;
    faults_init(&worker.faults, worker.pool->ctx, worker.pool->conf->name, "test");
    CHECK(pool_abandon(&call->job));
    call_job_ops.answered(&call->job, &worker, &frame);
}

void shardlet_fail(struct call *call, enum rpc_error error)
{
    CHECK(pool_abandon(&call->job));
    call_job_ops.failed(&call->job, error);
}

void shardlet_dash_dates(char *out, size_t n)
{
    static const struct span names[] = {{"\r\nDate: ", 8}, {"\x0f\x12\x1d", 3 /* HTTP/2 */}};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char *at = out;
        while ((at = memmem(at, n - (size_t)(at - out), names[i].p, names[i].n)) != NULL) {
            at += names[i].n;
            memset(at, '-', MIN((size_t)HTTP1_DATE_SIZE - 1, n - (size_t)(at - out)));
        }
    }
}

void shardlet_read(int peer, char *out, size_t size, size_t *n)
{
    ssize_t got;
    while ((got = recv(peer, out + *n, size - *n, 0)) > 0)
        *n += (size_t)got;
    shardlet_dash_dates(out, *n);
}

/* The least limit that lets one more in tells how many there are. */
uint64_t shardlet_connections(void)
{
    uint64_t n = 0;
    while (!share_connection_add(share, 0, n + 1))
        n++;
    share_connection_remove(share, 0);
    return n;
}

uint64_t shardlet_peers(void)
{
    const struct sockaddr *peer = (const struct sockaddr *)&peer_address;
    uint64_t n = 0;
    while (!share_peer_add(share, 0, peer, n + 1))
        n++;
    share_peer_remove(share, 0, peer);
    return n;
}

bool shardlet_has_failed(long n)
{
    bool left = false;
    for (long i = 0; i <= n && !left; i++) {
        void *object = mem_zalloc(1);
        left = object == NULL;
        mem_free(object);
    }
    mem_fail_after(-1);
    return !left;
}
