#include "tests/unit/support/shard_pair.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "frontd/shard/turn.h"

enum { TURN_MS = 5, DRAIN_MS = 3600 * 1000 };

static uint64_t fake_ms; /* 0: the clock is the kernel's */

/* In place of the C library's, for libuv too. */
__attribute__((visibility("default"))) int clock_gettime(clockid_t clock, struct timespec *ret_time)
{
    if (fake_ms == 0 || (clock != CLOCK_MONOTONIC && clock != CLOCK_MONOTONIC_COARSE))
        return (int)syscall(SYS_clock_gettime, clock, ret_time);
    ret_time->tv_sec = (time_t)(fake_ms / 1000);
    ret_time->tv_nsec = (long)(fake_ms % 1000) * 1000000;
    return 0;
}

void pair_stop_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    fake_ms = (uint64_t)now.tv_sec * 1000 + 1;
}

void pair_start_clock(void)
{
    fake_ms = 0;
}

struct side sides[SIDES];

static struct {
    enum cut cut;
    unsigned at;       /* the message, counting from 1 */
    unsigned messages; /* that were sent so far; read: with CUT_RECEIVER_READ */
    int fds[SIDES];    /* the sides' ends of the socket */
    bool ends[SIDES];  /* that side is to end it, once its turn is over */
    bool by_end;       /* pair_ends_when_cut() */
    bool done;
} wire;

static bool is_wire(int fd)
{
    int type = 0;
    socklen_t size = sizeof(type);
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET;
}

static unsigned side_of(int fd)
{
    return fd == wire.fds[OLD] ? OLD : NEW;
}

static void end_handover(unsigned side)
{
    wire.ends[side] = false;
    if (side == OLD)
        sender_shut(sides[OLD].shardlet.ctx.sender);
    else
        receiver_shut(sides[NEW].shardlet.ctx.receiver);
}

static void break_wire(int fd)
{
    wire.done = true;
    if (wire.by_end)
        end_handover(1 - side_of(fd));
    else
        cr_assert_eq(shutdown(fd, SHUT_RDWR), 0);
}

/* In place of the C library's, as recvmsg(). */
ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    bool now = is_wire(fd) && wire.cut != CUT_RECEIVER_READ && ++wire.messages == wire.at;
    if (now && wire.cut == CUT_NOT_SENT)
        break_wire(fd);
    ssize_t n = syscall(SYS_sendmsg, fd, message, flags);
    if (!now)
        return n;
    wire.done = true;
    switch (wire.cut) {
    case CUT_SENT: break_wire(fd); break;
    case CUT_RECEIVER_UNREAD: wire.ends[1 - side_of(fd)] = true; break;
    case CUT_SENDER: wire.ends[side_of(fd)] = true; break;
    default: break;
    }
    return n;
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    if (!is_wire(fd) || wire.cut != CUT_RECEIVER_READ)
        return syscall(SYS_recvmsg, fd, message, flags);
    if (wire.ends[side_of(fd)]) { /* it reads no more */
        errno = EAGAIN;
        return -1;
    }
    ssize_t n = syscall(SYS_recvmsg, fd, message, flags);
    if (n > 0 && ++wire.messages == wire.at)
        wire.done = wire.ends[side_of(fd)] = true;
    return n;
}

void pair_cut_at(enum cut cut, unsigned message)
{
    wire.cut = cut;
    wire.at = message;
    wire.messages = 0;
    wire.done = false;
}

void pair_ends_when_cut(bool on)
{
    wire.by_end = on;
}

bool pair_was_cut(void)
{
    return wire.done;
}

unsigned pair_messages(void)
{
    return wire.messages;
}

/* What is pushed takes longer to the other shard than a message of the hand-over. */
static void connect_mesh(void)
{
    int small = 1;
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    for (unsigned i = 0; i < SIDES; i++)
        cr_assert_eq(setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
    cr_assert_eq(mesh_add(&sides[OLD].shardlet.parts.mesh, NEW, pair[OLD]), 0);
    cr_assert_eq(mesh_add(&sides[NEW].shardlet.parts.mesh, OLD, pair[NEW]), 0);
}

void pair_connect(void)
{
    cr_assert_eq(
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, wire.fds), 0);
    cr_assert_eq(receiver_add(sides[NEW].shardlet.ctx.receiver, OLD, wire.fds[NEW]), 0);
    cr_assert_eq(sender_add(sides[OLD].shardlet.ctx.sender, NEW, wire.fds[OLD]), 0);
}

bool pair_is_leaving(void)
{
    const struct ctx *ctx = &sides[OLD].shardlet.ctx;
    return !list_empty(sides[OLD].clients) || sender_has_clients(ctx->sender);
}

void pair_leave(void)
{
    if (sides[OLD].shardlet.ctx.leaving)
        return;
    sender_start(sides[OLD].shardlet.ctx.sender, sides[OLD].clients, DRAIN_MS, true);
}

void pair_open(const char *conf)
{
    for (unsigned i = 0; i < SIDES; i++) {
        struct side *side = &sides[i];
        shardlet_init(&side->shardlet, conf, i);
        side->clients = &side->shardlet.clients;
        side->worker = (struct worker){.pool = &side->shardlet.pools[0]};
    }
    struct side *new = &sides[NEW];
    cr_assert_eq(acceptor_init(&new->acceptor, &new->shardlet.ctx, 0), 0);
    new->clients = &new->acceptor.clients;
    receiver_init(new->shardlet.ctx.receiver, &new->acceptor);
    memset(&wire, 0, sizeof(wire));
    connect_mesh();
}

static void turn(struct side *side)
{
    struct ctx *ctx = &side->shardlet.ctx;
    uv_run(&ctx->loop, UV_RUN_NOWAIT);
    turn_expire(ctx);
    turn_end(ctx, side->clients);
    share_beat(ctx->share, ctx->seat);
    for (unsigned i = 0; i < SIDES; i++) {
        if (wire.ends[i])
            end_handover(i);
    }
}

void pair_turn(void)
{
    fake_ms += TURN_MS;
    turn(&sides[OLD]);
    turn(&sides[NEW]);
}

static bool is_calm(const struct side *side)
{
    return !turn_unfinished(&side->shardlet.ctx) && mesh_flushed(&side->shardlet.parts.mesh);
}

void pair_settle(void)
{
    enum { TURNS_MOST = 1000, CALM = 3 };
    int calm = 0;
    for (int i = 0; i < TURNS_MOST && calm < CALM; i++) {
        pair_turn();
        calm = is_calm(&sides[OLD]) && is_calm(&sides[NEW]) ? calm + 1 : 0;
    }
    cr_assert_eq(calm, (int)CALM);
}

void pair_close(void)
{
    end_handover(OLD);
    end_handover(NEW);
    for (unsigned i = 0; i < SIDES; i++)
        mesh_shut(&sides[i].shardlet.parts.mesh);
    pair_turn();
    struct side *new = &sides[NEW];
    acceptor_close(&new->acceptor);
    list_join(&new->shardlet.clients, &new->acceptor.clients);
    acceptor_deinit(&new->acceptor);
    new->clients = &new->shardlet.clients;
    for (unsigned i = 0; i < SIDES; i++)
        shardlet_deinit(&sides[i].shardlet);
}
