/*
 * The supervisor makes a socket pair for each two shards, anew when one of them is started again,
 * and hands the ends out (CTL_PEER). A sibling that ends is seen as the end of its socket; what
 * waited for it was for connections that are gone too.
 */

#include "frontd/shard/mesh.h"

#include <errno.h>

#include "common/fdpass.h"
#include "common/log.h"
#include "common/mem.h"
#include "frontd/shard/push.h"

enum { BACKLOG_MAX = 8 * 1024 * 1024 }; /* bytes for one sibling; past it workers are not read */

struct peer {
    struct stream stream;
    int next_fd; /* a new socket that came before the old one was closed; -1: none */
    uint32_t shard;
};

static struct peer *peers;
static uint32_t npeers;

static struct peer *peer_of(struct stream *stream)
{
    return container_of(stream, struct peer, stream);
}

int mesh_init(struct ctx *ctx, uint32_t shards)
{
    (void)ctx;
    peers = mem_zalloc(shards * sizeof(*peers));
    if (peers == NULL)
        return -ENOMEM;
    npeers = shards;
    for (uint32_t i = 0; i < shards; i++) {
        peers[i].shard = i;
        peers[i].next_fd = -1;
    }
    return 0;
}

void mesh_deinit(void)
{
    peers = mem_free(peers);
    npeers = 0;
}

static void on_frame(struct stream *stream, const struct frame *frame)
{
    const char *wrong = push_handle(stream->ctx, frame, false);
    if (wrong != NULL)
        log_error("shard %u passed on a frame that is wrong: %s", peer_of(stream)->shard, wrong);
}

static void on_broken(struct stream *stream, const char *why)
{
    log_debug("the socket to shard %u is closed: %s", peer_of(stream)->shard, why);
    stream_close(stream);
}

static void on_closed(struct stream *stream)
{
    struct peer *peer = peer_of(stream);
    int fd = peer->next_fd;
    peer->next_fd = -1;
    if (fd >= 0 && mesh_add(stream->ctx, peer->shard, fd) < 0)
        log_error("shard %u cannot be reached: no memory", peer->shard);
}

static const struct stream_ops stream_ops = {
    .frame = on_frame,
    .broken = on_broken,
    .closed = on_closed,
};

int mesh_add(struct ctx *ctx, uint32_t shard, int fd)
{
    if (shard >= npeers) {
        fdpass_close(&fd, 1);
        return -EPROTO;
    }
    struct peer *peer = &peers[shard];
    if (peer->stream.open) {
        if (peer->next_fd >= 0)
            fdpass_close(&peer->next_fd, 1);
        peer->next_fd = fd;
        stream_close(&peer->stream);
        return 0;
    }
    return stream_open(&peer->stream, ctx, &stream_ops, fd, false);
}

void mesh_forward(struct ctx *ctx, const struct frame *frame)
{
    (void)ctx;
    /* The frame lies in one piece: its header right before its meta. */
    const char *bytes = frame->meta.p - FRAME_HEAD_SIZE;
    size_t n = FRAME_HEAD_SIZE + (size_t)frame->head.length;
    for (uint32_t i = 0; i < npeers; i++) {
        struct stream *stream = &peers[i].stream;
        if (!stream->open || stream->closing)
            continue;
        if (stream_add_raw(stream, bytes, n) == NULL)
            log_error("no memory: a message for connections of shard %u is lost", i);
    }
}

bool mesh_congested(const struct ctx *ctx)
{
    (void)ctx;
    for (uint32_t i = 0; i < npeers; i++) {
        if (buf_len(&peers[i].stream.out) > BACKLOG_MAX)
            return true;
    }
    return false;
}

void mesh_shut(void)
{
    for (uint32_t i = 0; i < npeers; i++) {
        if (peers[i].next_fd >= 0)
            fdpass_close(&peers[i].next_fd, 1);
        peers[i].next_fd = -1;
        stream_close(&peers[i].stream);
    }
}
