#pragma once

/*
 * WebSocket frames (RFC 6455 section 5), as a server reads them: bytes in, messages and control
 * frames out; and the heads of frames that a server sends. Pure: no socket, no clock, no memory of
 * its own.
 *
 * The caller keeps the bytes of a message together until it is complete, and passes all of them
 * again with those that have come since, as with http1.h. A message is unmasked and put together
 * in place, so that a complete small one is used where it was read.
 */

#include "common/pack.h"

enum ws_opcode {
    WS_CONTINUATION = 0,
    WS_TEXT = 1,
    WS_BINARY = 2,
    WS_CLOSE = 8,
    WS_PING = 9,
    WS_PONG = 10,
};

/* RFC 6455 section 7.4.1, and the registry that it makes */
enum ws_code {
    WS_CODE_NORMAL = 1000,
    WS_CODE_GOING_AWAY = 1001,
    WS_CODE_PROTOCOL_ERROR = 1002,
    WS_CODE_UNSUPPORTED = 1003,
    WS_CODE_NONE = 1005, /* never sent: a Close frame without a code */
    WS_CODE_LOST = 1006, /* never sent: the connection ended without a Close frame */
    WS_CODE_BAD_DATA = 1007,
    WS_CODE_POLICY = 1008,
    WS_CODE_TOO_BIG = 1009,
    WS_CODE_RESTART = 1012,
    WS_CODE_TRY_LATER = 1013,
};

enum {
    WS_HEAD_MAX = 10,     /* bytes of a head that a server sends */
    WS_CONTROL_MAX = 125, /* payload bytes of a control frame */
};

struct ws_limits {
    uint32_t message; /* payload bytes of a message, over all its fragments */
    uint32_t frame;   /* payload bytes of one frame */
    bool deflate;     /* permessage-deflate was agreed on: messages may be compressed (RSV1) */
};

/* The state of a connection between two calls; zeroed at first. */
struct ws {
    uint32_t left;      /* payload bytes of the current frame that are still to come */
    uint32_t message;   /* bytes of the current message that lie, unmasked, at the front */
    uint32_t gap;       /* bytes after them that have been used: see ws_feed() */
    uint8_t mask[4];    /* the mask of the current frame, turned to its next byte */
    uint32_t excess;    /* bytes of its frames' heads beyond their payload */
    uint32_t looked;    /* where ws_ahead() goes on, from the first byte; 0: where ws_feed() does */
    uint8_t utf8;       /* of a text message: the state of utf8_feed() after its last byte */
    uint8_t opcode : 7; /* of the current message (WS_TEXT, WS_BINARY); 0: none has begun */
    uint8_t compressed : 1; /* the current message (RFC 7692 section 6) */
    bool in_frame;          /* the head of a data frame has been read, its payload not wholly */
    bool fin;               /* the current frame is the last of its message */
};

enum ws_event {
    WS_EVENT_MORE,    /* nothing is complete */
    WS_EVENT_MESSAGE, /* a message: result.payload, result.opcode WS_TEXT or WS_BINARY */
    WS_EVENT_CONTROL, /* a control frame: result.opcode WS_PING, WS_PONG or WS_CLOSE */
    WS_EVENT_ERROR,   /* close with result.code */
};

struct ws_result {
    enum ws_event event;
    uint8_t opcode;
    bool compressed; /* MESSAGE: the payload is that of permessage-deflate, and no text yet */
    uint16_t code;   /* ERROR: the code to close with; WS_CLOSE: the client's, or WS_CODE_NONE */
    struct span payload; /* MESSAGE; CONTROL (of WS_CLOSE: the reason); within `p` */
    size_t used;         /* MESSAGE: its bytes; the next frame follows at p + used */
    size_t kept; /* MORE, CONTROL: how many bytes at `p` have to be kept: the message so far and the
                    bytes that have not been looked at; the caller goes on with p and kept */
};

/*
 * Looks at the `n` bytes at `p`, which begin with the message so far (ws->message bytes, unmasked)
 * and the gap. The bytes change: frame heads and control frames are taken out, so that they become
 * fewer. The payload of a control frame (result.payload) is copied to `control`, since it stands
 * in the way of the message. The hole that it leaves is only remembered (ws->gap) until
 * WS_EVENT_MORE closes it: moving the rest up for each of the thousands of pings that fit in one
 * read would cost a client little and the server much.
 *
 * After MESSAGE and CONTROL it has to be called again until it returns MORE. What follows WS_CLOSE
 * need not be looked at (RFC 6455 section 1.4), and after ERROR `ws` must not be used again. The
 * limits may differ from call to call; a frame is held to those of the call that read its head.
 *
 * Refused are, with the code to close with:
 * - 1002: unmasked frames, reserved bits (but for RSV1 on the first frame of a message, with
 *   limits->deflate), reserved opcodes, fragmented or long control frames, a
 *   continuation without a beginning, a beginning within a message, lengths not in the shortest
 *   form or with the top bit, Close with one byte, with a code that must not be sent or with a
 *   reason that is not UTF-8
 * - 1007: text that is not UTF-8, as soon as that is certain; not of a compressed message
 * - 1009: a frame or message over its limit, as soon as its head says so; a message of fragments
 *   whose heads are longer than their payload, when the difference is over limits->message and
 *   over 128 bytes: empty ones would never end
 */
struct ws_result ws_feed(struct ws *ws, char *p, size_t n, const struct ws_limits *limits,
    char control[static WS_CONTROL_MAX]);

/*
 * Looks for control frames behind a message that may not be started yet, and within it, and takes
 * one out that is found, so that ws_feed() later reads what it would have read without it. Data
 * frames are only passed over. May be called whenever ws_feed() has returned (not after ERROR);
 * looking again at the same bytes, or at more of them, costs only what is new.
 *
 * opcodes: which control frames are wanted, a bit (1 << WS_PING, …) for each. It stops at the
 * first control frame of another opcode, and at the first invalid head. hole: 0 in the first call
 * of a pass, which ends with MORE or WS_CLOSE.
 *
 * Returns:
 * - CONTROL with opcode and payload for a Ping or Pong; then it has to be called again with the
 *   same p, n and hole
 * - CONTROL with WS_CLOSE; the frame stays where it is, for ws_feed() to check in its turn
 * - MORE
 *
 * With the last two, result.kept bytes are left at `p`.
 */
struct ws_result ws_ahead(struct ws *ws, char *p, size_t n, const struct ws_limits *limits,
    unsigned opcodes, size_t *hole, char control[static WS_CONTROL_MAX]);

/*
 * Saves the state for another process, which is given the bytes of the message, too; and restores
 * it. The saved state is not trusted: *ret_ws is one that ws_feed() can have left behind with
 * these bytes.
 *
 * How far ws_ahead() has looked is not saved, but found out again. Version WS_SAVED has no
 * `excess`, and WS_SAVED_EXCESS no `compressed`; each is still written where what it lacks is 0:
 * ws_save_version() says which version ws_save() writes.
 *
 * bytes: those that are kept, from the first one of the message. Returns 0 with *ret_ws, or
 * -EBADMSG.
 */
enum { WS_SAVED = 1, WS_SAVED_EXCESS = 2, WS_SAVED_COMPRESSED = 3 };
unsigned ws_save_version(const struct ws *ws);
void ws_save(const struct ws *ws, struct pack *pack);
int ws_restore(struct ws *ret_ws, struct unpack *unpack, unsigned version, struct span bytes);

/* Writes the head of an unfragmented frame from the server; returns its bytes (2, 4 or 10). */
size_t ws_head_write(uint8_t out[static WS_HEAD_MAX], enum ws_opcode opcode, uint64_t payload);

/* Says in the head of a message that is written at `out` that it is compressed. */
void ws_head_set_compressed(uint8_t out[static WS_HEAD_MAX]);

/*
 * Writes a whole Close frame: head, code and as much of the reason as fits, cut between
 * characters. code: a valid one (close_code_valid()), or WS_CODE_NONE for a frame without payload.
 * reason: UTF-8. Returns the bytes written.
 */
size_t ws_close_write(uint8_t out[static 2 + WS_CONTROL_MAX], unsigned code, struct span reason);

/* XORs `n` bytes with the mask, which is turned so that it fits the byte after them. */
void ws_unmask(char *p, size_t n, uint8_t mask[static 4]);
