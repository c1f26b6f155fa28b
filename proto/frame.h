#pragma once

/* The frame of the worker protocol: a 32-byte header and a payload (protocol section 2). Pure. */

#include "common/base.h"

enum {
    FRAME_HEAD_SIZE = 32,                 /* bytes */
    FRAME_MAX_DEFAULT = 16 * 1024 * 1024, /* payload bytes, unless HELLO says otherwise */
    FRAME_PING_MAX = 64,                  /* bytes of body in a PING */
    /* payload bytes of a frame over the limit that may be skipped; a longer one is an error */
    FRAME_SKIP_MAX = 16 * FRAME_MAX_DEFAULT,
};

/* Protocol section 3. Receivers skip unknown types from FRAME_EXTENSION up. */
enum frame_type {
    FRAME_HELLO = 1,
    FRAME_REQUEST = 2,
    FRAME_RESPONSE = 3,
    FRAME_CANCEL = 4,
    FRAME_PING = 5,
    FRAME_PONG = 6,
    FRAME_GOAWAY = 7,
    FRAME_PUSH = 8,
    FRAME_PUBLISH = 9,
    FRAME_SUBSCRIBE = 10,
    FRAME_UNSUBSCRIBE = 11,
    FRAME_DISCONNECT = 12,
    FRAME_DATA = 13,
    FRAME_WINDOW = 14,
    FRAME_EXTENSION = 128,
    FRAME_STATE = 143, /* an extension, so that a front that does not know it skips it */
};

enum frame_flag {
    FRAME_F_NOTIFY = 0x01,
    FRAME_F_MORE = 0x02,
    FRAME_F_BINARY = 0x04,
    FRAME_F_RETRY = 0x08,
};

/* Results of frame_read() besides 0; positive, for the direct caller. */
enum {
    FRAME_E_MORE = 1,  /* not enough bytes yet */
    FRAME_E_PARTS = 2, /* meta_len + blob_len > length */
    FRAME_E_TYPE = 3,  /* type 0 or an unknown one below 128 */
    FRAME_E_LIMIT = 4, /* length over the limit that the receiver announced */
};

struct frame_head {
    uint64_t call;
    uint64_t conn;
    uint32_t length; /* of the payload, bytes */
    uint32_t meta_len;
    uint32_t blob_len;
    uint8_t type;
    uint8_t flags;
};

/* A frame whose parts point into the bytes it was read from. */
struct frame {
    struct frame_head head;
    struct span meta;
    struct span body;
    struct span blob;
};

/* Writes the 32 bytes of a header. */
void frame_head_write(const struct frame_head *head, uint8_t out[static FRAME_HEAD_SIZE]);

/*
 * Reads one frame from the `n` bytes at `p`. A header that breaks a rule is refused as soon as its
 * 32 bytes are there, before any payload.
 *
 * max_frame: the largest payload in bytes that the receiver announced in its HELLO.
 * Returns 0 with *ret_frame (its parts borrowed from `p`) and *ret_used (bytes of the whole frame),
 * or a FRAME_E_* with both untouched.
 */
int frame_read(
    const char *p, size_t n, uint32_t max_frame, struct frame *ret_frame, size_t *ret_used);

/*
 * Reads only the header of the frame that starts at `p`, by the same rules, for a frame whose
 * payload is skipped. Returns 0 with *ret_head, or a FRAME_E_*.
 */
int frame_head_read(const char *p, size_t n, uint32_t max_frame, struct frame_head *ret_head);

/*
 * The size of the frame that starts at `p`, header included. Returns 0 with *ret_size in bytes,
 * FRAME_E_MORE when fewer than 32 bytes are there, or another FRAME_E_*.
 */
int frame_size(const char *p, size_t n, uint32_t max_frame, size_t *ret_size);

/* The name of a type, as "PUSH", for logs; static text. */
const char *frame_type_text(uint8_t type);

/*
 * Guesses the protocol of a peer that does not send frames, from its first bytes: static text such
 * as "it speaks HTTP", or NULL where it is unknown. p, n: those bytes, any number of them.
 */
const char *frame_guess(const char *p, size_t n);

/* The reason to put into GOAWAY for a FRAME_E_*; static text. */
const char *frame_error_text(int error);
