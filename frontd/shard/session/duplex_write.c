/* Messages in the framing of a duplex connection. */

#include "frontd/shard/session/duplex.h"
#include "frontd/shard/session/ws_compress.h"

static size_t head_size(enum session_kind kind, size_t payload)
{
    switch (kind) {
    case SESSION_WEBSOCKET: return payload <= 125 ? 2 : payload <= 65535 ? 4 : 10;
    case SESSION_FRAME: return 4;
    default: return 0;
    }
}

static size_t encoded_size(enum session_kind kind, size_t payload)
{
    return head_size(kind, payload) + payload + (kind == SESSION_LINE);
}

/* Writes a message; a line's line ends, which in JSON are white space, become spaces. */
static void encode(char *out, enum session_kind kind, struct span payload, bool binary)
{
    size_t head = head_size(kind, payload.n);
    char *text = out + head;
    if (payload.n > 0)
        memcpy(text, payload.p, payload.n);
    if (kind == SESSION_WEBSOCKET) {
        uint8_t bytes[WS_HEAD_MAX];
        ws_head_write(bytes, binary ? WS_BINARY : WS_TEXT, payload.n);
        memcpy(out, bytes, head);
    } else if (kind == SESSION_FRAME) {
        out[0] = (char)(payload.n >> 24);
        out[1] = (char)(payload.n >> 16);
        out[2] = (char)(payload.n >> 8);
        out[3] = (char)payload.n;
    } else {
        for (size_t i = 0; i < payload.n; i++) {
            if (text[i] == '\n' || text[i] == '\r')
                text[i] = ' ';
        }
        text[payload.n] = '\n';
    }
}

struct message *duplex_encode(enum session_kind kind, struct span payload, bool binary, bool push)
{
    struct message *message = message_new(encoded_size(kind, payload.n), push);
    if (message != NULL)
        encode(message->bytes, kind, payload, binary);
    return message;
}

size_t duplex_payload(enum session_kind kind, const struct message *message)
{
    size_t len = message->len;
    if (kind == SESSION_WEBSOCKET)
        return len - (len <= encoded_size(kind, 125)        ? 2
                         : len <= encoded_size(kind, 65535) ? 4
                                                            : 10);
    return len - encoded_size(kind, 0);
}

struct message *duplex_encode_for(
    struct client *client, struct span payload, bool binary, bool push)
{
    enum session_kind kind = client->session;
    bool compressed = client->duplex->deflate != 0 && ws_compress(client, payload, &payload);
    struct message *message = duplex_encode(kind, payload, binary, push);
    if (compressed && message != NULL)
        ws_head_set_compressed((uint8_t *)message->bytes);
    if (compressed)
        ws_compression_trim(client->ctx->ws_compression);
    return message;
}

void duplex_send_text(struct client *client, struct span payload)
{
    enum session_kind kind = client->session;
    bool compressed = client->duplex->deflate != 0 && ws_compress(client, payload, &payload);
    char *room = client_room(client, encoded_size(kind, payload.n));
    if (room != NULL)
        encode(room, kind, payload, false);
    if (compressed && room != NULL)
        ws_head_set_compressed((uint8_t *)room);
    if (compressed)
        ws_compression_trim(client->ctx->ws_compression);
}

void duplex_send_control(struct client *client, enum ws_opcode opcode, struct span payload)
{
    uint8_t head[WS_HEAD_MAX];
    size_t n = ws_head_write(head, opcode, payload.n);
    char *room = client_room(client, n + payload.n);
    if (room == NULL)
        return;
    memcpy(room, head, n);
    if (payload.n > 0)
        memcpy(room + n, payload.p, payload.n);
}

void duplex_send_close(struct client *client, unsigned code, struct span reason)
{
    uint8_t frame[2 + WS_CONTROL_MAX];
    size_t n = ws_close_write(frame, code, reason);
    char *room = client_room(client, n);
    if (room != NULL)
        memcpy(room, frame, n);
    client->duplex->close_sent = true;
}
