#include "frontd/codec/h2_frame.h"

#include <string.h>

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
_Static_assert(sizeof(preface) - 1 == H2_PREFACE_SIZE, "RFC 9113 section 3.4");

enum {
    PRIORITY_SIZE = 5, /* bytes: of PRIORITY, and of what HEADERS has of it */
    CODE_SIZE = 4,     /* of RST_STREAM */
    INCREMENT_SIZE = 4,
    GOAWAY_SIZE = 8, /* at least */
    ON_STREAM = 1,   /* the frame is of a stream */
    ON_CONNECTION,
};

/* Where a frame of a type may be, and how long its payload is; size 0: any length. */
static const struct {
    uint8_t on;
    uint8_t size;
} types[] = {
    [H2_DATA] = {ON_STREAM, 0},
    [H2_HEADERS] = {ON_STREAM, 0},
    [H2_PRIORITY] = {ON_STREAM, 0}, /* a wrong size is a fault of the stream */
    [H2_RST_STREAM] = {ON_STREAM, CODE_SIZE},
    [H2_SETTINGS] = {ON_CONNECTION, 0},
    [H2_PUSH_PROMISE] = {ON_STREAM, 0},
    [H2_PING] = {ON_CONNECTION, H2_PING_SIZE},
    [H2_GOAWAY] = {ON_CONNECTION, 0},
    [H2_WINDOW_UPDATE] = {0, INCREMENT_SIZE},
    [H2_CONTINUATION] = {ON_STREAM, 0},
};

static uint32_t get(const char *p, size_t n)
{
    uint32_t value = 0;
    for (size_t i = 0; i < n; i++)
        value = value << 8 | (unsigned char)p[i];
    return value;
}

static uint8_t *put(uint8_t *out, uint32_t value, size_t n)
{
    while (n-- > 0)
        *out++ = (uint8_t)(value >> 8 * n);
    return out;
}

static uint32_t get_stream(const char *p)
{
    return get(p, 4) & H2_STREAM_MAX; /* the reserved bit is ignored: section 4.1 */
}

size_t h2_preface_match(const char *p, size_t n)
{
    size_t i = 0;
    n = MIN(n, (size_t)H2_PREFACE_SIZE);
    while (i < n && p[i] == preface[i])
        i++;
    return i;
}

/* What the head alone shows to be wrong. */
static enum h2_fault check_head(const struct h2_frame *frame)
{
    if (frame->length > H2_FRAME_MAX)
        return H2_FAULT_TOO_LONG;
    if (frame->type >= ARRAY_LEN(types))
        return H2_OK;
    if (types[frame->type].on == ON_STREAM && frame->stream == 0)
        return H2_FAULT_STREAM_ZERO;
    if (types[frame->type].on == ON_CONNECTION && frame->stream != 0)
        return H2_FAULT_STREAM_GIVEN;
    if (types[frame->type].size != 0 && frame->length != types[frame->type].size)
        return H2_FAULT_SIZE;
    switch (frame->type) {
    case H2_SETTINGS:
        if (frame->length % H2_SETTING_SIZE != 0 ||
            (frame->flags & H2_FLAG_ACK && frame->length > 0))
            return H2_FAULT_SIZE;
        break;
    case H2_GOAWAY: return frame->length < GOAWAY_SIZE ? H2_FAULT_SIZE : H2_OK;
    case H2_PUSH_PROMISE: return H2_FAULT_PUSH_PROMISE;
    default: break;
    }
    return H2_OK;
}

/* Cuts the padding of DATA and HEADERS off, and HEADERS' priority, which means nothing any more
 * (section 5.3.2). */
static enum h2_fault unpad(struct h2_frame *frame)
{
    struct span *payload = &frame->payload;
    size_t padding = 0;
    if (frame->flags & H2_FLAG_PADDED) {
        if (payload->n == 0)
            return H2_FAULT_SIZE;
        padding = (unsigned char)payload->p[0];
        if (padding >= payload->n)
            return H2_FAULT_PADDING;
        *payload = (struct span){payload->p + 1, payload->n - 1 - padding};
    }
    if (frame->type == H2_HEADERS && frame->flags & H2_FLAG_PRIORITY) {
        if (payload->n < PRIORITY_SIZE)
            return padding > 0 ? H2_FAULT_PADDING : H2_FAULT_SIZE;
        *payload = (struct span){payload->p + PRIORITY_SIZE, payload->n - PRIORITY_SIZE};
    }
    return H2_OK;
}

static enum h2_fault read_payload(struct h2_frame *frame)
{
    struct span *payload = &frame->payload;
    switch (frame->type) {
    case H2_DATA:
    case H2_HEADERS: return unpad(frame);
    case H2_PRIORITY: return payload->n == PRIORITY_SIZE ? H2_OK : H2_FAULT_PRIORITY_SIZE;
    case H2_RST_STREAM: frame->code = get(payload->p, CODE_SIZE); break;
    case H2_WINDOW_UPDATE: frame->value = get_stream(payload->p); break;
    case H2_GOAWAY:
        frame->value = get_stream(payload->p);
        frame->code = get(payload->p + 4, CODE_SIZE);
        *payload = (struct span){payload->p + GOAWAY_SIZE, payload->n - GOAWAY_SIZE};
        break;
    default: break;
    }
    return H2_OK;
}

enum h2_fault h2_frame_parse(const char *p, size_t n, struct h2_frame *ret_frame, size_t *ret_used)
{
    if (n < H2_HEAD_SIZE)
        return H2_MORE;
    struct h2_frame frame = {
        .length = get(p, 3),
        .type = (uint8_t)p[3],
        .flags = (uint8_t)p[4],
        .stream = get_stream(p + 5),
    };
    enum h2_fault fault = check_head(&frame);
    if (fault != H2_OK)
        return fault;
    if (n - H2_HEAD_SIZE < frame.length)
        return H2_MORE;
    frame.payload = (struct span){p + H2_HEAD_SIZE, frame.length};
    fault = read_payload(&frame);
    *ret_used = H2_HEAD_SIZE + (size_t)frame.length;
    *ret_frame = frame;
    return fault;
}

void h2_setting_read(struct span payload, size_t index, uint16_t *ret_setting, uint32_t *ret_value)
{
    const char *p = payload.p + index * H2_SETTING_SIZE;
    *ret_setting = (uint16_t)get(p, 2);
    *ret_value = get(p + 2, 4);
}

size_t h2_write_head(
    uint8_t out[static H2_HEAD_SIZE], uint32_t length, uint8_t type, uint8_t flags, uint32_t stream)
{
    out = put(out, length, 3);
    *out++ = type;
    *out++ = flags;
    put(out, stream, 4);
    return H2_HEAD_SIZE;
}

size_t h2_write_settings(uint8_t *out, const struct h2_setting_value *settings, size_t count)
{
    const uint8_t *start = out;
    out += h2_write_head(out, (uint32_t)count * H2_SETTING_SIZE, H2_SETTINGS, 0, 0);
    for (size_t i = 0; i < count; i++) {
        out = put(out, settings[i].setting, 2);
        out = put(out, settings[i].value, 4);
    }
    return (size_t)(out - start);
}

size_t h2_write_settings_ack(uint8_t out[static H2_HEAD_SIZE])
{
    return h2_write_head(out, 0, H2_SETTINGS, H2_FLAG_ACK, 0);
}

size_t h2_write_ping(uint8_t out[static H2_HEAD_SIZE + H2_PING_SIZE],
    const char payload[static H2_PING_SIZE], bool ack)
{
    size_t n = h2_write_head(out, H2_PING_SIZE, H2_PING, ack ? H2_FLAG_ACK : 0, 0);
    memcpy(out + n, payload, H2_PING_SIZE);
    return n + H2_PING_SIZE;
}

/* A frame whose payload is one number. */
static size_t write_number(uint8_t *out, uint8_t type, uint32_t stream, uint32_t number)
{
    size_t n = h2_write_head(out, 4, type, 0, stream);
    put(out + n, number, 4);
    return n + 4;
}

size_t h2_write_reset(uint8_t out[static H2_HEAD_SIZE + 4], uint32_t stream, enum h2_code code)
{
    return write_number(out, H2_RST_STREAM, stream, code);
}

size_t h2_write_window(uint8_t out[static H2_HEAD_SIZE + 4], uint32_t stream, uint32_t increment)
{
    return write_number(out, H2_WINDOW_UPDATE, stream, increment);
}

size_t h2_write_goaway(
    uint8_t out[static H2_GOAWAY_MAX], uint32_t last_stream, enum h2_code code, struct span debug)
{
    size_t shown = MIN(debug.n, (size_t)H2_DEBUG_MAX);
    uint8_t *p = out + h2_write_head(out, (uint32_t)(GOAWAY_SIZE + shown), H2_GOAWAY, 0, 0);
    p = put(p, last_stream, 4);
    p = put(p, code, 4);
    if (shown > 0)
        memcpy(p, debug.p, shown);
    return (size_t)(p - out) + shown;
}
