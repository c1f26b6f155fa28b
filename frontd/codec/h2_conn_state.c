#include <errno.h>

#include "frontd/codec/h2_conn.h"

/* What is added to these structs is saved and restored, too. */
#if __SIZEOF_POINTER__ == 8
_Static_assert(sizeof(struct h2_conn) == 72, "saved by h2_conn_save()");
_Static_assert(sizeof(struct h2_stream) == 40, "saved by h2_stream_save()");
#endif

enum {
    FLAG_PREFACE = 1 << 0,
    FLAG_SETTINGS = 1 << 1,
    FLAG_TELLS_TABLE = 1 << 2,
    FLAG_LEAVE = 1 << 3,
    FLAG_GOING = 1 << 4,
    FLAG_PINGED = 1 << 5,
    FLAG_FAILED = 1 << 6,
    FLAG_CONNECTS = 1 << 7,
};

static uint8_t flags_of(const struct h2_conn *conn)
{
    return (uint8_t)((conn->preface ? FLAG_PREFACE : 0) | (conn->settings ? FLAG_SETTINGS : 0) |
                     (conn->tells_table ? FLAG_TELLS_TABLE : 0) | (conn->leave ? FLAG_LEAVE : 0) |
                     (conn->going ? FLAG_GOING : 0) | (conn->pinged ? FLAG_PINGED : 0) |
                     (conn->failed ? FLAG_FAILED : 0) | (conn->connects ? FLAG_CONNECTS : 0));
}

void h2_conn_save(const struct h2_conn *conn, const struct h2_config *config, struct pack *pack)
{
    pack_u32(pack, config->header);
    pack_u32(pack, config->streams);
    pack_u32(pack, conn->before_header);
    pack_u16(pack, conn->before_streams);
    pack_u8(pack, conn->unread);
    pack_u32(pack, conn->resets_until);
    pack_u32(pack, conn->glitches_until);
    pack_u32(pack, conn->crossing_until);
    pack_u32(pack, conn->opened);
    pack_u32(pack, conn->crossing);
    pack_u32(pack, conn->last_stream);
    pack_u32(pack, conn->goaway_last);
    pack_u32(pack, (uint32_t)conn->send_window);
    pack_u32(pack, (uint32_t)conn->recv_window);
    pack_u32(pack, conn->peer_window);
    pack_u16(pack, conn->spare);
    pack_u8(pack, conn->empty);
    pack_u8(pack, conn->queued);
    pack_u8(pack, flags_of(conn));
}

static void set_flags(struct h2_conn *conn, uint8_t flags)
{
    conn->preface = (flags & FLAG_PREFACE) != 0;
    conn->settings = (flags & FLAG_SETTINGS) != 0;
    conn->tells_table = (flags & FLAG_TELLS_TABLE) != 0;
    conn->leave = (flags & FLAG_LEAVE) != 0;
    conn->going = (flags & FLAG_GOING) != 0;
    conn->pinged = (flags & FLAG_PINGED) != 0;
    conn->failed = (flags & FLAG_FAILED) != 0;
    conn->connects = (flags & FLAG_CONNECTS) != 0;
}

static bool was_opened(const struct h2_conn *conn, uint32_t id)
{
    uint32_t back = (conn->last_stream - id) / 2;
    return back >= H2_RECENT_MAX || conn->opened >> back & 1;
}

static bool are_recent_right(const struct h2_conn *conn)
{
    bool any = conn->last_stream != 0;
    return any == (conn->opened & 1) && (any || conn->opened == 0) &&
           (conn->crossing & ~conn->opened) == 0;
}

static bool is_right(const struct h2_conn *conn)
{
    return (conn->last_stream == 0 || conn->last_stream % 2 == 1) &&
           conn->last_stream <= H2_STREAM_MAX && conn->goaway_last <= H2_STREAM_MAX &&
           are_recent_right(conn) && conn->recv_window >= 0 &&
           conn->recv_window <= H2_CONN_WINDOW && conn->peer_window <= H2_WINDOW_MAX &&

           conn->spare <= H2_SPARE_MAX && conn->empty <= H2_EMPTY_MAX &&
           conn->queued <= H2_QUEUED_MAX && (conn->preface || !conn->settings) &&
           (conn->settings || conn->last_stream == 0);
}

/* Reads what the client was told, and what it was before, of which the larger goes on to count. */
static void restore_limits(
    struct h2_conn *conn, const struct h2_config *config, struct unpack *unpack)
{
    uint32_t header = unpack_u32(unpack);
    uint32_t streams = unpack_u32(unpack);
    conn->before_header = unpack_u32(unpack);
    conn->before_streams = unpack_u16(unpack);
    conn->unread = unpack_u8(unpack);
    conn->tells_header = header != config->header;
    conn->tells_streams = streams != config->streams;
    if (conn->tells_header)
        conn->before_header = MAX(conn->before_header, header);
    if (conn->tells_streams)
        conn->before_streams = (uint16_t)MAX(conn->before_streams, MIN(streams, UINT16_MAX));
    conn->before_header = MIN(conn->before_header, (uint32_t)H2_BEFORE_MAX);
    if (conn->unread == 0 && !conn->tells_header && !conn->tells_streams)
        conn->before_header = conn->before_streams = 0; /* which no state has */
}

int h2_conn_restore(struct h2_conn *ret_conn, const struct h2_config *config, struct unpack *unpack)
{
    struct h2_conn conn = {0};
    restore_limits(&conn, config, unpack);
    conn.resets_until = unpack_u32(unpack);
    conn.glitches_until = unpack_u32(unpack);
    conn.crossing_until = unpack_u32(unpack);
    conn.opened = unpack_u32(unpack);
    conn.crossing = unpack_u32(unpack);
    conn.last_stream = unpack_u32(unpack);
    conn.goaway_last = unpack_u32(unpack);
    conn.send_window = (int32_t)unpack_u32(unpack);
    conn.recv_window = (int32_t)unpack_u32(unpack);
    conn.peer_window = unpack_u32(unpack);
    conn.spare = unpack_u16(unpack);
    conn.empty = unpack_u8(unpack);
    conn.queued = unpack_u8(unpack);
    uint8_t flags = unpack_u8(unpack);
    set_flags(&conn, flags);
    /* It is not taken back: RFC 8441 section 3. */
    conn.tells_connect = config->connects && !conn.connects;
    if (unpack->bad || !is_right(&conn))
        return -EBADMSG;
    *ret_conn = conn;
    list_init(&ret_conn->streams);
    return 0;
}

void h2_stream_save(const struct h2_stream *stream, struct pack *pack)
{
    pack_u32(pack, stream->id);
    pack_u64(pack, stream->left);
    pack_u32(pack, (uint32_t)stream->send_window);
    pack_u32(pack, (uint32_t)stream->recv_window);
    pack_u8(pack, stream->remote_closed);
}

int h2_stream_restore(struct h2_conn *conn, struct h2_stream *ret_stream, struct unpack *unpack)
{
    uint32_t last = list_empty(&conn->streams)
                        ? 0
                        : container_of(conn->streams.prev, struct h2_stream, node)->id;
    struct h2_stream stream = {.id = unpack_u32(unpack)};
    stream.left = unpack_u64(unpack);
    stream.send_window = (int32_t)unpack_u32(unpack);
    stream.recv_window = (int32_t)unpack_u32(unpack);
    stream.remote_closed = unpack_flag(unpack);
    if (unpack->bad || stream.id % 2 == 0 || stream.id <= last || stream.id > conn->last_stream ||
        !was_opened(conn, stream.id) || conn->open == UINT16_MAX ||
        stream.send_window < -H2_WINDOW_MAX || stream.recv_window < 0 ||
        (stream.remote_closed && stream.left != UINT64_MAX && stream.left > 0))
        return -EBADMSG;
    *ret_stream = stream;
    list_append(&conn->streams, &ret_stream->node);
    conn->open++;
    return 0;
}
