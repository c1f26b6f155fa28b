#pragma once

/* Frames that a client of HTTP/2 sends, for tests. */

#include <string.h>

#include "frontd/codec/h2_frame.h"

#define H2_PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

/* Bytes that a test says. */
struct h2_bytes {
    size_t n;
    char p[1 << 18];
};

static inline void h2_say(struct h2_bytes *bytes, const void *p, size_t n)
{
    CHECK(n <= sizeof(bytes->p) - bytes->n);
    if (n > 0)
        memcpy(bytes->p + bytes->n, p, n);
    bytes->n += n;
}

static inline void h2_frame(
    struct h2_bytes *bytes, uint8_t type, uint8_t flags, uint32_t stream, const void *p, size_t n)
{
    uint8_t head[H2_HEAD_SIZE];
    h2_write_head(head, (uint32_t)n, type, flags, stream);
    h2_say(bytes, head, sizeof(head));
    h2_say(bytes, p, n);
}

#define H2_SAY(bytes, type, flags, stream, literal)                                                \
    h2_frame(bytes, type, flags, stream, literal, sizeof(literal) - 1)

/* A frame whose payload is one number: RST_STREAM, WINDOW_UPDATE. */
static inline void h2_number(struct h2_bytes *bytes, uint8_t type, uint32_t stream, uint32_t number)
{
    const uint8_t payload[] = {
        (uint8_t)(number >> 24), (uint8_t)(number >> 16), (uint8_t)(number >> 8), (uint8_t)number};
    h2_frame(bytes, type, 0, stream, payload, sizeof(payload));
}

static inline void h2_setting(struct h2_bytes *bytes, uint16_t setting, uint32_t value)
{
    uint8_t out[H2_HEAD_SIZE + H2_SETTING_SIZE];
    h2_say(bytes, out, h2_write_settings(out, &(struct h2_setting_value){setting, value}, 1));
}

/* The preface, and SETTINGS behind it. */
static inline void h2_begin(struct h2_bytes *bytes)
{
    bytes->n = 0;
    h2_say(bytes, H2_PREFACE, sizeof(H2_PREFACE) - 1);
    h2_frame(bytes, H2_SETTINGS, 0, 0, NULL, 0);
}

/* The same as literals: a frame's head, and whole frames. stream: a literal of one byte. */
#define H2_HEAD(length, type, flags, stream) "\0\0" length type flags "\0\0\0" stream
#define H2_SETTINGS_NONE                     H2_HEAD("\0", "\x04", "\0", "\0")
#define H2_START                             H2_PREFACE H2_SETTINGS_NONE
#define H2_GET(stream)                       H2_HEAD("\x0c", "\x01", "\x05", stream) H2_GET_NONE
#define H2_POST(stream)                      H2_HEAD("\x0b", "\x01", "\x04", stream) H2_POST_RPC

enum { H2_END = H2_FLAG_END_HEADERS | H2_FLAG_END_STREAM };

/* Blocks of "GET /none" and of "POST /rpc" for http://h, without a dynamic table. */
#define H2_GET_NONE                                                                                \
    "\x82\x86\x04\x05/none\x01\x01"                                                                \
    "h"
#define H2_POST_RPC                                                                                \
    "\x83\x86\x04\x04/rpc\x01\x01"                                                                 \
    "h"
