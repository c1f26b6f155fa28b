#include <criterion/criterion.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frontd/shard/turn.h"
#include "tests/unit/support/counted.h"
#include "tests/unit/support/descriptors.h"
#include "tests/unit/support/move_conf.h"
#include "tests/unit/support/shardlet.h"

static struct shardlet shard;

static void set_up(void)
{
    shardlet_init(&shard, MOVE_CONF, 0);
}

static void tear_down(void)
{
    shardlet_deinit(&shard);
}

TestSuite(client, .init = set_up, .fini = tear_down);

/* As where the kernel's limit for what is watched is reached: it ends, and nothing else does. */
Test(client, that_cannot_be_waited_for)
{
    static const char *const listeners[] = {"web", "lines", "frames"};
    for (size_t i = 0; i < ARRAY_LEN(listeners); i++) {
        size_t before = open_count();
        int peer;
        struct client *other = shardlet_client(&shard, listeners[i], &peer);
        int fd = memfd_create("file", MFD_CLOEXEC); /* no file can be waited for */
        cr_assert_geq(fd, 0);
        shardlet_accepted(&shard, listeners[i], fd);
        shardlet_turn(&shard);
        cr_assert_eq(fcntl(fd, F_GETFD), -1, "closed");
        cr_assert(shardlet_connections() == 1 && shardlet_peers() == 1 && shard.ctx.open == 1);
        cr_assert_eq(counted_closed(&shard.ctx), 2 * i + 1);
        cr_assert_eq(other->state, CLIENT_OPEN);
        close(peer);
        shardlet_turn(&shard);
        cr_assert_eq(open_count(), before);
    }
}

/* The same where its socket is full, and nothing of it was waited for before: another process may
 * have its descriptor still, and nothing is to be heard of it here. */
Test(client, whose_room_cannot_be_waited_for)
{
    int writers = shard.ctx.writers.fd;
    struct epoll_event event;
    int peer;
    struct client *client = shardlet_client(&shard, "frames", &peer);
    shardlet_turn(&shard);
    client_freeze(client);
    cr_assert_eq(send(peer, "x", 1, 0), 1);
    shardlet_turn(&shard);
    cr_assert_eq(client->events, 0);
    int elsewhere = dup(client->fd);
    client_thaw(client);
    char *room = client_room(client, 8 << 20);
    cr_assert_not_null(room);
    memset(room, 'x', 8 << 20);
    shard.ctx.writers.fd = memfd_create("none", MFD_CLOEXEC); /* nothing can be added to it */
    shardlet_step(&shard);
    close(shard.ctx.writers.fd);
    shard.ctx.writers.fd = writers;
    cr_assert_eq(shard.ctx.open, 0u);
    cr_assert_eq(epoll_wait(shard.ctx.poller.fd, &event, 1, 0), 0);
    close(elsewhere);
    close(peer);
}

static void one_turn(void)
{
    shardlet_step(&shard);
}

/* Messages that cost a client next to nothing: so many are taken up in a turn, and the others in
 * the next ones, before more is read. `ends`: its end comes right behind them. */
static void take_turns(const char *listener, const char *one, size_t n, size_t answer, bool ends)
{
    const size_t counts[] = {
        1, WORK_CLIENT_MESSAGES, WORK_CLIENT_MESSAGES + 1, 5 * WORK_CLIENT_MESSAGES, 12000};
    for (size_t k = 0; k < ARRAY_LEN(counts); k++) {
        static char in[512 * 1024];
        static char out[4 * 1024 * 1024];
        size_t sent = 0;
        size_t got = 0;
        int peer;
        struct client *client = shardlet_client(&shard, listener, &peer);
        for (size_t i = 0; i < counts[k]; i++)
            memcpy(in + i * n, one, n);
        size_t turns = 0;
        for (; got < counts[k] * answer; turns++) {
            size_t before = got;
            ssize_t r = send(peer, in + sent, counts[k] * n - sent, MSG_NOSIGNAL);
            sent += r > 0 ? (size_t)r : 0;
            if (ends && sent == counts[k] * n)
                shutdown(peer, SHUT_WR);
            cr_assert_lt(turns, 10000u, "%s: %zu of %zu", listener, got, counts[k] * answer);
            one_turn();
            shardlet_read(peer, out, sizeof(out), &got);
            /* In the turn in which it is read, and at its end once more. */
            cr_assert_leq(
                got - before, 2 * WORK_CLIENT_MESSAGES * answer, "%s, turn %zu", listener, turns);
            if (shard.ctx.open > 0 && client->pending != NULL)
                cr_assert_leq(buf_len(&client->pending->bytes), (size_t)2 * CTX_READ_SIZE);
        }
        cr_expect_geq(turns, counts[k] / WORK_CLIENT_MESSAGES / 2);
        cr_expect_eq(got, counts[k] * answer);
        close(peer);
        for (int i = 0; i < 4; i++)
            one_turn();
        cr_assert_eq(shard.ctx.open, 0u);
        cr_assert_not(turn_unfinished(&shard.ctx));
    }
}

Test(client, that_sends_very_many_heartbeats)
{
    take_turns("frames", "\0\0\0\0", 4, 4, false);
    take_turns("frames", "\0\0\0\0", 4, 4, true);
}

Test(client, that_sends_very_many_wrong_lines)
{
    static const char answer[] = "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32700,\"message\":"
                                 "\"parse error\"},\"id\":null}\n";
    take_turns("lines", "x\n", 2, sizeof(answer) - 1, false);
    take_turns("lines", "x\n", 2, sizeof(answer) - 1, true);
}

/* One that has had its share is closed, whatever it has left. */
Test(client, that_is_closed_while_it_yields)
{
    static char in[40000];
    int peer;
    struct client *client = shardlet_client(&shard, "frames", &peer);
    cr_assert_eq(write(peer, in, sizeof(in)), (ssize_t)sizeof(in));
    one_turn();
    cr_assert(client->later && client->yields && turn_unfinished(&shard.ctx));
    client_doom(client);
    one_turn();
    cr_assert_eq(shard.ctx.open, 0u);
    close(peer);
}

/* Whether client_set_state() lets a client go from one state to the other. */
static bool may_move(enum client_state from, enum client_state to)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        struct client client = {.state = (uint8_t)from};
        close(STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        client_set_state(&client, to);
        _exit(client.state == to ? 0 : 1);
    }
    cr_assert(pid > 0 && waitpid(pid, &status, 0) == pid);
    cr_assert((WIFEXITED(status) && WEXITSTATUS(status) == 0) ||
              (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT));
    return WIFEXITED(status);
}

Test(client_states, moves)
{
    static const char *const names[CLIENT_STATES] = {
        "open", "half closed", "ending", "lingering", "doomed", "closed"};
    /* clang-format off */
    static const bool allowed[CLIENT_STATES][CLIENT_STATES] = {
        /* to:                open   half   ending linger doomed closed */
        [CLIENT_OPEN] =        {false, true,  true,  false, true,  true},
        [CLIENT_HALF_CLOSED] = {false, false, true,  false, true,  true},
        [CLIENT_ENDING] =      {false, false, false, true,  true,  true},
        [CLIENT_LINGERING] =   {false, false, false, false, true,  true},
        [CLIENT_DOOMED] =      {false, false, false, false, false, true},
        [CLIENT_CLOSED] =      {false, false, false, false, false, false},
    };
    /* clang-format on */
    for (unsigned from = 0; from < CLIENT_STATES; from++) {
        for (unsigned to = 0; to < CLIENT_STATES; to++)
            cr_expect_eq(may_move(from, to), allowed[from][to], "%s to %s", names[from], names[to]);
    }
}
