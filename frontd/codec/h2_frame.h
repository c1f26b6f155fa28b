#pragma once

/*
 * Frames of HTTP/2 (RFC 9113 sections 3.4, 4 and 6), as a server reads them, and those that it
 * sends. Pure: no socket, no clock, no memory of its own, no state.
 *
 * A frame is looked at when all of it is there: the caller keeps the bytes of an incomplete one
 * together, as with http1.h. What its head shows to be wrong is an error as soon as that is there.
 */

#include "frontd/codec/h2_fault.h"

enum h2_type {
    H2_DATA,
    H2_HEADERS,
    H2_PRIORITY,
    H2_RST_STREAM,
    H2_SETTINGS,
    H2_PUSH_PROMISE,
    H2_PING,
    H2_GOAWAY,
    H2_WINDOW_UPDATE,
    H2_CONTINUATION,
};

enum {
    H2_FLAG_ACK = 0x1,
    H2_FLAG_END_STREAM = 0x1,
    H2_FLAG_END_HEADERS = 0x4,
    H2_FLAG_PADDED = 0x8,
    H2_FLAG_PRIORITY = 0x20,
};

enum h2_setting {
    H2_SETTING_HEADER_TABLE_SIZE = 1,
    H2_SETTING_ENABLE_PUSH = 2,
    H2_SETTING_MAX_CONCURRENT_STREAMS = 3,
    H2_SETTING_INITIAL_WINDOW_SIZE = 4,
    H2_SETTING_MAX_FRAME_SIZE = 5,
    H2_SETTING_MAX_HEADER_LIST_SIZE = 6,
    H2_SETTING_ENABLE_CONNECT_PROTOCOL = 8, /* RFC 8441 section 3 */
};

enum {
    H2_HEAD_SIZE = 9,           /* bytes of a frame's head */
    H2_PREFACE_SIZE = 24,       /* bytes of the client's preface, SETTINGS not included */
    H2_FRAME_MAX = 16384,       /* bytes of a payload that this server takes: the least allowed */
    H2_FRAME_LIMIT = 16777215,  /* bytes: the largest SETTINGS_MAX_FRAME_SIZE */
    H2_WINDOW_DEFAULT = 65535,  /* bytes: section 6.9.2 */
    H2_WINDOW_MAX = 2147483647, /* bytes: section 6.9.1 */
    H2_STREAM_MAX = 2147483647, /* section 5.1.1 */
    H2_SETTING_SIZE = 6,        /* bytes of one setting */
    H2_PING_SIZE = 8,           /* bytes of the payload */
    H2_DEBUG_MAX = 64,          /* bytes of GOAWAY's debug data that h2_write_goaway() writes */
    H2_GOAWAY_MAX = H2_HEAD_SIZE + 8 + H2_DEBUG_MAX,
};

struct h2_frame {
    /* DATA: without padding. HEADERS, CONTINUATION: the fragment of the block. SETTINGS, PING:
     * all. GOAWAY: the debug data. */
    struct span payload;
    uint32_t length; /* bytes of the whole payload, as flow control counts them */
    uint32_t stream;
    uint32_t value; /* WINDOW_UPDATE: the increment. GOAWAY: the last stream */
    uint32_t code;  /* RST_STREAM, GOAWAY: not always one of enum h2_code */
    uint8_t type;   /* enum h2_type, or another one, which is to be ignored (section 5.5) */
    uint8_t flags;
};

/*
 * How many of the `n` bytes at `p`, at most H2_PREFACE_SIZE, are as the preface begins: it is there
 * when that is H2_PREFACE_SIZE.
 */
size_t h2_preface_match(const char *p, size_t n);

/*
 * Looks at the frame at the beginning of the `n` bytes at `p`. Returns:
 * - H2_OK with *ret_frame and *ret_used, its bytes; its spans are within `p`
 * - H2_MORE
 * - a fault of a stream: *ret_used is set, and of *ret_frame the stream
 * - a fault of the connection
 */
enum h2_fault h2_frame_parse(const char *p, size_t n, struct h2_frame *ret_frame, size_t *ret_used);

/* A setting of a SETTINGS frame's payload (section 6.5.1). index: below payload.n / 6. */
void h2_setting_read(struct span payload, size_t index, uint16_t *ret_setting, uint32_t *ret_value);

/* The following write one frame each and return its bytes. */

/* The head alone; `length` bytes follow. */
size_t h2_write_head(uint8_t out[static H2_HEAD_SIZE], uint32_t length, uint8_t type, uint8_t flags,
    uint32_t stream);

struct h2_setting_value {
    uint16_t setting;
    uint32_t value;
};

/* out: room for H2_HEAD_SIZE + count * H2_SETTING_SIZE bytes. */
size_t h2_write_settings(uint8_t *out, const struct h2_setting_value *settings, size_t count);
size_t h2_write_settings_ack(uint8_t out[static H2_HEAD_SIZE]);
size_t h2_write_ping(uint8_t out[static H2_HEAD_SIZE + H2_PING_SIZE],
    const char payload[static H2_PING_SIZE], bool ack);
size_t h2_write_reset(uint8_t out[static H2_HEAD_SIZE + 4], uint32_t stream, enum h2_code code);
size_t h2_write_window(uint8_t out[static H2_HEAD_SIZE + 4], uint32_t stream, uint32_t increment);

/* debug: what has happened, for the other side's log; no more than H2_DEBUG_MAX bytes of it. */
size_t h2_write_goaway(
    uint8_t out[static H2_GOAWAY_MAX], uint32_t last_stream, enum h2_code code, struct span debug);
