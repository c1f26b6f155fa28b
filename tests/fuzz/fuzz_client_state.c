/*
 * The input: one byte, what another process says is the state of a client, and, as many bytes as
 * the first one tells, what the client sends on. The state is refused or lives, also when no shard
 * has written it.
 */

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/support/move_conf.h"
#include "tests/unit/support/shardlet.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct shardlet shard;

static void end_all(void)
{
    list_for_each_safe (node, &shard.clients)
        client_drain(container_of(node, struct client, node));
    shardlet_turn(&shard);
    list_for_each_safe (node, &shard.clients)
        client_doom(container_of(node, struct client, node));
    shardlet_turn(&shard);
    CHECK(list_empty(&shard.clients));
}

/* What was restored is saved as what can be restored again. */
static struct client *move_once_more(struct client *client, int fd)
{
    struct buf state = {0}, again = {0};
    struct client *moved;
    CHECK(client_save(client, &state) == 0);
    client_discard(client);
    CHECK(client_restore(&shard.ctx, &shard.clients, fd,
              (struct span){buf_data(&state), buf_len(&state)}, &moved) == 0);
    CHECK(client_save(moved, &again) == 0);
    CHECK(buf_len(&again) == buf_len(&state)); /* topics may be in another order */
    buf_deinit(&state);
    buf_deinit(&again);
    return moved;
}

static void live(struct client *client, int peer, const uint8_t *said, size_t n)
{
    static char answers[1 << 16];
    size_t read = 0;
    client_start(client);
    shardlet_turn(&shard);
    if (n > 0)
        send(peer, said, n, MSG_NOSIGNAL);
    shardlet_turn(&shard);
    shardlet_read(peer, answers, sizeof(answers), &read);
    list_for_each_safe (node, &shard.clients) { /* it, unless it has ended */
        client = container_of(node, struct client, node);
        if (client_can_move(client)) {
            client_freeze(client);
            client_thaw(client);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct client *client;
    int fds[2];
    if (size == 0)
        return 0;
    if (shard.conf == NULL)
        shardlet_init(&shard,
            MOVE_CONF_LIMITS("body: 1000, write_buffer: 2000") MOVE_CONF_WITH_QUEUE("0"), 0);
    size_t said = MIN((size_t)data[0], size - 1);
    struct span state = {(const char *)data + 1, size - 1 - said};
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
    if (client_restore(&shard.ctx, &shard.clients, fds[0], state, &client) == 0) {
        client = move_once_more(client, fds[0]);
        live(client, fds[1], data + size - said, said);
        end_all();
    } else {
        CHECK(list_empty(&shard.clients));
        close(fds[0]);
    }
    close(fds[1]);
    const struct ctx *ctx = &shard.ctx;
    CHECK(ctx->clients.used == 0 && ctx->duplexes.used == 0 && ctx->requests.used == 0);
    CHECK(ctx->calls.used == 0 && ctx->conns.count == 0);
    return 0;
}
