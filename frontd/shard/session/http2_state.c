#include <errno.h>

#include "common/alloc.h"
#include "frontd/shard/session/http2_session.h"

/* What is added to these structs is saved and restored, too. */
#if __SIZEOF_POINTER__ == 8
_Static_assert(sizeof(struct http2) == 120, "saved by http2_save()");
_Static_assert(sizeof(struct http2_stream) == 168, "saved by save_stream()");
#endif

/* What a stream is besides one of a request that is taken whole. A version of the program that does
 * not know UPLOAD leaves the connection where it is. */
enum { CONNECT = 1, UPLOAD };

static void pack_buf(struct pack *pack, const struct buf *buf)
{
    pack_bytes(pack, (struct span){buf_data(buf), buf_len(buf)});
}

static void save_stream(const struct http2_stream *stream, struct pack *pack)
{
    h2_stream_save(&stream->h2, pack);
    pack_u8(pack, stream->state);
    pack_u8(pack, stream->is_head);
    pack_u8(pack, stream->is_upload ? UPLOAD : stream->is_connect);
    pack_u64(pack, stream->since);
    pack_u32(pack, stream->moved);
    pack_buf(pack, &stream->head);
    pack_buf(pack, &stream->body);
    if (stream->state == HTTP2_SOCKET)
        http2_socket_save(stream, pack);
}

void http2_save(const struct client *client, struct pack *pack)
{
    const struct http2 *http2 = client->http2;
    const struct h2_config config = http2_config(client);
    struct buf frozen = {0};
    h2_conn_save(&http2->conn, &config, pack);
    pack_u32(pack, http2->goaway_at);
    pack->failed |= http2_decoder_save(http2, &frozen) < 0;
    pack_buf(pack, &frozen);
    buf_deinit(&frozen);
    pack_u16(pack, http2->conn.open);
    list_for_each (node, &http2->conn.streams)
        save_stream(http2_stream_of(container_of(node, struct h2_stream, node)), pack);
}

static int restore_buf(struct buf *buf, struct unpack *unpack)
{
    struct span bytes = unpack_bytes(unpack);
    return bytes.n == 0 ? 0 : buf_append(buf, bytes.p, bytes.n);
}

/* Whether the state is one that a stream without a call can have. */
static bool is_right(const struct http2_stream *stream, unsigned state)
{
    static struct h2_head head;
    struct span text = {buf_data(&stream->head), buf_len(&stream->head)};
    switch (state) {
    case HTTP2_BODY:
        return !stream->h2.remote_closed && h2_head_read(text, HTTP_FIELDS_MAX, &head) == 0;
    case HTTP2_WAITS:
        return (stream->h2.remote_closed || stream->is_connect || stream->is_upload) &&
               h2_head_read(text, HTTP_FIELDS_MAX, &head) == 0;
    case HTTP2_ANSWERS: return text.n == 0 && buf_len(&stream->body) > 0;
    case HTTP2_SOCKET: return text.n == 0 && stream->is_connect;
    default: return false;
    }
}

static int restore_stream(struct client *client, struct unpack *unpack)
{
    struct http2 *http2 = client->http2;
    struct http2_stream *stream = slab_get(&client->ctx->http2->streams);
    if (stream == NULL)
        return -ENOMEM;
    int r = h2_stream_restore(&http2->conn, &stream->h2, unpack);
    if (r < 0) {
        slab_put(&client->ctx->http2->streams, stream);
        return r;
    }
    stream->client = client;
    stream->state = HTTP2_CALLED;
    list_init(&stream->sending);
    unsigned state = unpack_u8(unpack);
    stream->is_head = unpack_flag(unpack);
    unsigned kind = unpack_u8(unpack);
    stream->is_connect = kind == CONNECT;
    stream->is_upload = kind == UPLOAD;
    uint64_t since = unpack_time(unpack, ctx_now(client->ctx));
    uint32_t moved = unpack_u32(unpack);
    r = restore_buf(&stream->head, unpack);
    r = r < 0 ? r : restore_buf(&stream->body, unpack);
    /* From here on it is freed with the connection, which takes off what it holds. */
    bool right = r == 0 && kind <= UPLOAD && is_right(stream, state);
    if (right && state == HTTP2_ANSWERS)
        client->held_back += (uint32_t)buf_len(&stream->body);
    else
        http2->held += stream->head.size + stream->body.size;
    if (!right)
        return r < 0 ? r : -EBADMSG;
    http2_set_state(stream, (enum http2_stream_state)state);
    if (state == HTTP2_SOCKET)
        return http2_socket_restore(stream, unpack);
    stream->since = since;
    stream->moved = moved;
    return 0;
}

static int restore_table(struct client *client, struct unpack *unpack)
{
    struct http2 *http2 = client->http2;
    struct h2_hpack *hpack = NULL;
    struct span frozen = unpack_bytes(unpack);
    enum h2_fault fault = h2_hpack_thaw(frozen, &hpack);
    h2_hpack_free(hpack); /* it is thawed when it is needed: most are idle */
    if (fault != H2_OK)
        return fault == H2_FAULT_MEMORY ? -ENOMEM : -EBADMSG;
    if (frozen.n == 0)
        return 0;
    http2->frozen = mem_strndup(frozen.p, frozen.n);
    http2->frozen_n = http2->frozen == NULL ? 0 : (uint32_t)frozen.n;
    return http2->frozen == NULL ? -ENOMEM : 0;
}

/* What is made meanwhile is freed with the client. */
int http2_restore(struct client *client, struct unpack *unpack)
{
    if (client_listener(client)->protocol != CONF_PROTOCOL_HTTP)
        return -EBADMSG;
    if (http2_begin(client) < 0)
        return -ENOMEM;
    struct http2 *http2 = client->http2;
    const struct h2_config config = http2_config(client);
    if (h2_conn_restore(&http2->conn, &config, unpack) < 0)
        return -EBADMSG;
    if (http2_make_room(client->ctx, h2_conn_header_limit(&http2->conn, &config)) < 0)
        return -ENOMEM;
    http2->goaway_at = unpack_u32(unpack);
    int r = restore_table(client, unpack);
    unsigned streams = unpack_u16(unpack);
    for (unsigned i = 0; i < streams && r == 0 && !unpack->bad; i++)
        r = restore_stream(client, unpack);
    return r < 0 ? r : unpack_end(unpack);
}
