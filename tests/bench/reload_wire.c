#include "tests/bench/reload_wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base.h"
#include "tests/bench/ws_client.h"

enum {
    FRAME_HEAD = 4, /* the length, big-endian */
    H2_HEAD = 9,
};

enum h2_type { H2_DATA = 0, H2_HEADERS = 1, H2_SETTINGS = 4, H2_PING = 6 };
enum h2_flag { H2_ACK = 1, H2_END_STREAM = 1, H2_END_HEADERS = 4 };

int wire_kind(const char *name)
{
    static const char *const names[] = {"http", "websocket", "frame", "http2"};

    for (int i = 0; i < (int)ARRAY_LEN(names); i++) {
        if (strcmp(name, names[i]) == 0)
            return i;
    }
    return -1;
}

static size_t http_call(const char *path, const char *text, size_t n, uint8_t out[static WIRE_MAX])
{
    int length = snprintf((char *)out, WIRE_MAX,
        "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Content-Length: %zu\r\n\r\n%.*s",
        path, n, (int)n, text);

    CHECK(length > 0 && length < WIRE_MAX);
    return (size_t)length;
}

static size_t frame_call(const char *text, size_t n, uint8_t out[static WIRE_MAX])
{
    out[0] = 0;
    out[1] = 0;
    out[2] = (uint8_t)(n >> 8);
    out[3] = (uint8_t)n;
    memcpy(out + FRAME_HEAD, text, n);
    return FRAME_HEAD + n;
}

static size_t h2_frame(
    enum h2_type type, unsigned flags, uint32_t stream, const void *payload, size_t n, uint8_t *out)
{
    out[0] = 0;
    out[1] = (uint8_t)(n >> 8);
    out[2] = (uint8_t)n;
    out[3] = (uint8_t)type;
    out[4] = (uint8_t)flags;
    for (int i = 0; i < 4; i++)
        out[5 + i] = (uint8_t)(stream >> (24 - 8 * i));
    if (n > 0)
        memcpy(out + H2_HEAD, payload, n);
    return H2_HEAD + n;
}

/* A field that goes into the table, neither part of it compressed. */
static size_t h2_field(const char *name, const char *value, uint8_t *out)
{
    size_t names = strlen(name), values = strlen(value);

    CHECK(names < 127 && values < 127);
    out[0] = 0x40;
    out[1] = (uint8_t)names;
    memcpy(out + 2, name, names);
    out[2 + names] = (uint8_t)values;
    memcpy(out + 3 + names, value, values);
    return 3 + names + values;
}

static size_t h2_call(
    const char *path, uint32_t number, const char *text, size_t n, uint8_t out[static WIRE_MAX])
{
    uint8_t block[WIRE_MAX / 2];
    size_t length = h2_field(":method", "POST", block);
    uint32_t stream = 2 * number + 1;

    length += h2_field(":scheme", "https", block + length);
    length += h2_field(":authority", "localhost", block + length);
    length += h2_field(":path", path, block + length);
    length += h2_field("content-type", "application/json", block + length);
    CHECK(length + n + 2 * (size_t)H2_HEAD <= WIRE_MAX);
    size_t size = h2_frame(H2_HEADERS, H2_END_HEADERS, stream, block, length, out);
    return size + h2_frame(H2_DATA, H2_END_STREAM, stream, text, n, out + size);
}

size_t wire_call(enum wire_kind kind, const char *path, uint32_t number, const char *text, size_t n,
    uint8_t out[static WIRE_MAX])
{
    CHECK(n <= WIRE_TEXT_MAX);
    switch (kind) {
    case WIRE_HTTP: return http_call(path, text, n, out);
    case WIRE_WEBSOCKET: return ws_frame(out, text, n);
    case WIRE_FRAME: return frame_call(text, n, out);
    case WIRE_HTTP2: return h2_call(path, number, text, n, out);
    default: return 0;
    }
}

size_t wire_upgrade(const char *path, uint8_t out[static WIRE_MAX])
{
    int n = snprintf((char *)out, WIRE_MAX,
        "GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        path);

    CHECK(n > 0 && n < WIRE_MAX);
    return (size_t)n;
}

/* Bytes up to the end of the empty line; 0 where that has not come. */
static size_t head_length(const uint8_t *p, size_t n)
{
    const char *end = memmem(p, n, "\r\n\r\n", 4);

    return end ? (size_t)(end + 4 - (const char *)p) : 0;
}

/* Only answers that say their length can be read here; servers that forward ours repeat it. */
static ssize_t http_read(const uint8_t *p, size_t n, const char **ret_text, size_t *ret_n)
{
    static const char name[] = "\r\ncontent-length:";
    size_t head = head_length(p, n), length;
    const char *field = NULL;

    if (head == 0)
        return 0;
    for (size_t at = 0; !field && at + sizeof(name) - 1 <= head; at++) {
        if (strncasecmp((const char *)p + at, name, sizeof(name) - 1) == 0)
            field = (const char *)p + at + sizeof(name) - 1;
    }
    if (!field || memcmp(p, "HTTP/1.1 ", 9) != 0)
        return -1;
    length = strtoul(field, NULL, 10);
    if (n - head < length)
        return 0;
    *ret_text = (const char *)p + head;
    *ret_n = length;
    return (ssize_t)(head + length);
}

static ssize_t frame_read(const uint8_t *p, size_t n, const char **ret_text, size_t *ret_n)
{
    size_t length;

    if (n < FRAME_HEAD)
        return 0;
    length = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
    if (n - FRAME_HEAD < length)
        return 0;
    *ret_text = (const char *)p + FRAME_HEAD;
    *ret_n = length;
    return (ssize_t)(FRAME_HEAD + length);
}

size_t wire_begin(enum wire_kind kind, uint8_t out[static WIRE_MAX])
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    if (kind != WIRE_HTTP2)
        return 0;
    memcpy(out, preface, sizeof(preface) - 1);
    return sizeof(preface) - 1 + h2_frame(H2_SETTINGS, 0, 0, NULL, 0, out + sizeof(preface) - 1);
}

size_t wire_answer(enum wire_kind kind, const uint8_t *p, uint8_t out[static WIRE_MAX])
{
    if (kind != WIRE_HTTP2 || p[4] & H2_ACK)
        return 0;
    if (p[3] == H2_SETTINGS)
        return h2_frame(H2_SETTINGS, H2_ACK, 0, NULL, 0, out);
    return p[3] == H2_PING ? h2_frame(H2_PING, H2_ACK, 0, p + H2_HEAD, 8, out) : 0;
}

static ssize_t h2_read(const uint8_t *p, size_t n, const char **ret_text, size_t *ret_n)
{
    size_t length;

    if (n < H2_HEAD)
        return 0;
    length = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];
    if (n - H2_HEAD < length)
        return 0;
    if (p[3] == H2_DATA && length > 0) {
        *ret_text = (const char *)p + H2_HEAD;
        *ret_n = length;
    }
    return (ssize_t)(H2_HEAD + length);
}

ssize_t wire_read(
    enum wire_kind kind, const uint8_t *p, size_t n, const char **ret_text, size_t *ret_n)
{
    switch (kind) {
    case WIRE_HTTP: return http_read(p, n, ret_text, ret_n);
    case WIRE_WEBSOCKET: return ws_read(p, n, ret_text, ret_n);
    case WIRE_FRAME: return frame_read(p, n, ret_text, ret_n);
    case WIRE_HTTP2: return h2_read(p, n, ret_text, ret_n);
    default: return -1;
    }
}

ssize_t wire_read_upgraded(const uint8_t *p, size_t n)
{
    size_t head = head_length(p, n);

    if (head == 0)
        return 0;
    return memcmp(p, "HTTP/1.1 101 ", 13) == 0 ? (ssize_t)head : -1;
}
