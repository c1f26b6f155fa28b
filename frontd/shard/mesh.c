/*
 * The supervisor makes a socket pair for each two shards, anew when one of them is started again,
 * and hands the ends out (CTL_PEER). Each side begins with HELLO, which tells who it is and where
 * its stream of pushes stands; then come the pushes, their number in the header's `call`. A sibling
 * that ends is seen as the end of its socket; what waited for it was for connections that are gone
 * too.
 */

#include "frontd/shard/mesh.h"

#include <errno.h>

#include "common/fdpass.h"
#include "common/log.h"
#include "frontd/shard/push.h"

enum {
    BACKLOG_MAX = 8 * 1024 * 1024, /* bytes for one sibling; past it workers are not read */
    /* So long what a shard said counts after its end: others may not have read all of it. */
    ECHO_MS = 2000,
};

struct peer {
    struct stream stream;
    int next_fd; /* a new socket that came before the old one was closed; -1: none */
    unsigned seat;
    /* Of the shard before on that seat until this one's HELLO has come: connections that go by then
     * have got what it had said. */
    struct position heard;
    bool greeted;      /* HELLO has come */
    uint64_t asked;    /* number of the last PING that was sent to it; 0: none was */
    uint64_t answered; /* number of the last PONG from it */
    uint64_t gone_at;  /* ms: its socket was closed */
};

static struct peer peers[SHARE_SEATS];
static unsigned seats;     /* one more than the highest that there has been a socket to */
static uint64_t passed_on; /* how much this shard has */
static uint64_t last_ping; /* its number */

static struct peer *peer_of(struct stream *stream)
{
    return container_of(stream, struct peer, stream);
}

void mesh_init(struct ctx *ctx)
{
    (void)ctx;
    seats = 0;
    passed_on = last_ping = 0;
    for (unsigned i = 0; i < SHARE_SEATS; i++)
        peers[i] = (struct peer){.seat = i, .next_fd = -1};
}

static bool on_air(const struct peer *peer)
{
    return peer->stream.open && !peer->stream.closing;
}

/* All that came before it has been given to the connections by now. */
static void answer(struct stream *stream, uint64_t number)
{
    const struct frame_head pong = {.type = FRAME_PONG, .call = number};
    if (stream_add(stream, &pong) == NULL)
        log_error("no memory: a shard that ends is not told what this one has heard");
}

static void on_frame(struct stream *stream, const struct frame *frame)
{
    struct peer *peer = peer_of(stream);
    switch (frame->head.type) {
    case FRAME_HELLO:
        peer->heard = (struct position){frame->head.conn, frame->head.call};
        peer->greeted = true;
        return;
    case FRAME_PING: answer(stream, frame->head.call); return;
    case FRAME_PONG: peer->answered = frame->head.call; return;
    default: break;
    }
    if (frame->head.call != peer->heard.seq + 1)
        log_error("the shard on seat %u has passed on number %llu after %llu", peer->seat,
            (unsigned long long)frame->head.call, (unsigned long long)peer->heard.seq);
    peer->heard.seq = frame->head.call;
    if (journal_add(peer->seat, peer->heard, frame) < 0)
        log_error("no memory: a connection that moves may miss a message");
    static const struct push_from sibling;
    push_handle(stream->ctx, &sibling, frame);
}

static void on_broken(struct stream *stream, const char *why)
{
    log_debug("the socket to the shard on seat %u is closed: %s", peer_of(stream)->seat, why);
    peer_of(stream)->gone_at = ctx_now(stream->ctx);
    stream_close(stream);
}

static void on_closed(struct stream *stream)
{
    struct peer *peer = peer_of(stream);
    int fd = peer->next_fd;
    peer->next_fd = -1;
    if (fd >= 0 && mesh_add(stream->ctx, peer->seat, fd) < 0)
        log_error("the shard on seat %u cannot be reached: no memory", peer->seat);
}

static const struct stream_ops stream_ops = {
    .frame = on_frame,
    .broken = on_broken,
    .closed = on_closed,
};

int mesh_add(struct ctx *ctx, unsigned seat, int fd)
{
    if (seat > SHARE_SEAT_LAST || seat == ctx->seat) {
        fdpass_close(&fd, 1);
        return -EPROTO;
    }
    struct peer *peer = &peers[seat];
    seats = MAX(seats, seat + 1);
    if (peer->stream.open) {
        peer->gone_at = ctx_now(ctx);
        if (peer->next_fd >= 0)
            fdpass_close(&peer->next_fd, 1);
        peer->next_fd = fd;
        stream_close(&peer->stream);
        return 0;
    }
    const struct frame_head hello = {
        .type = FRAME_HELLO, .call = passed_on, .conn = ctx->identity.incarnation};
    peer->greeted = false;
    peer->asked = peer->answered = 0;
    int r = stream_open(&peer->stream, ctx, &stream_ops, fd, false);
    return r == 0 && stream_add(&peer->stream, &hello) == NULL ? -ENOMEM : r;
}

static struct position own_position(const struct ctx *ctx)
{
    return (struct position){ctx->identity.incarnation, passed_on};
}

void mesh_forward(struct ctx *ctx, const struct frame *frame)
{
    struct frame_head head = frame->head;
    head.call = ++passed_on;
    if (journal_add(ctx->seat, own_position(ctx), frame) < 0)
        log_error("no memory: a connection that moves may miss a message");
    for (unsigned i = 0; i < seats; i++) {
        if (!on_air(&peers[i]))
            continue;
        char *room = stream_add(&peers[i].stream, &head);
        if (room == NULL)
            log_error("no memory: a message for connections of another shard is lost");
        else if (head.length > 0)
            memcpy(room, frame->meta.p, head.length); /* meta, body and blob lie in one piece */
    }
}

void mesh_positions(const struct ctx *ctx, struct positions *ret_positions)
{
    uint64_t now = ctx_now(ctx);
    *ret_positions = (struct positions){0};
    for (unsigned i = 0; i <= SHARE_SEAT_LAST; i++) {
        if (on_air(&peers[i]) || now - peers[i].gone_at < ECHO_MS)
            ret_positions->of[i] = peers[i].heard;
    }
    ret_positions->of[ctx->seat] = own_position(ctx);
}

bool mesh_complete(const struct ctx *ctx)
{
    (void)ctx;
    for (unsigned i = 0; i <= SHARE_SEAT_LAST; i++) {
        if (on_air(&peers[i]) && !peers[i].greeted)
            return false;
    }
    return true;
}

bool mesh_has_heard(const struct ctx *ctx, const struct positions *wanted)
{
    for (unsigned i = 0; i <= SHARE_SEAT_LAST; i++) {
        struct position heard = i == ctx->seat ? own_position(ctx) : peers[i].heard;
        uint64_t wanted_of = wanted->of[i].incarnation;
        /* Sockets to all who are older were the first thing that we got: one of those that has
         * none had ended before. */
        bool ended = !on_air(&peers[i]) &&
                     (heard.incarnation == wanted_of || wanted_of < ctx->identity.incarnation);
        if (position_before(heard, wanted->of[i]) && !ended)
            return false;
    }
    return true;
}

bool mesh_congested(const struct ctx *ctx)
{
    (void)ctx;
    for (unsigned i = 0; i < seats; i++) {
        if (buf_len(&peers[i].stream.out) > BACKLOG_MAX)
            return true;
    }
    return false;
}

bool mesh_flushed(const struct ctx *ctx)
{
    (void)ctx;
    for (unsigned i = 0; i <= SHARE_SEAT_LAST; i++) {
        if (on_air(&peers[i]) && buf_len(&peers[i].stream.out) > 0)
            return false;
    }
    return true;
}

uint64_t mesh_ask(void)
{
    const struct frame_head ping = {.type = FRAME_PING, .call = ++last_ping};
    for (unsigned i = 0; i <= SHARE_SEAT_LAST; i++) {
        if (on_air(&peers[i]) && stream_add(&peers[i].stream, &ping) != NULL)
            peers[i].asked = last_ping;
    }
    return last_ping;
}

bool mesh_answered(uint64_t asked)
{
    for (unsigned i = 0; i <= SHARE_SEAT_LAST; i++) {
        if (on_air(&peers[i]) && peers[i].asked >= asked && peers[i].answered < asked)
            return false;
    }
    return true;
}

void mesh_set_deaf(struct ctx *ctx, bool deaf)
{
    (void)ctx;
    for (unsigned i = 0; i <= SHARE_SEAT_LAST; i++)
        stream_set_deaf(&peers[i].stream, deaf);
}

void mesh_shut(void)
{
    for (unsigned i = 0; i <= SHARE_SEAT_LAST; i++) {
        if (peers[i].next_fd >= 0)
            fdpass_close(&peers[i].next_fd, 1);
        peers[i].next_fd = -1;
        stream_close(&peers[i].stream);
    }
}
