#pragma once

/*
 * The state of an HTTP/2 connection and its streams, on the server's side (RFC 9113 sections 5 and
 * 6): bytes in, events out. Pure: no socket, no clock (time is an argument), no memory of its own
 * (the caller has the streams). What a request is, is nothing of this.
 *
 * The caller keeps the bytes of an incomplete frame, and of a header block whose CONTINUATION
 * frames have not all come, together, and passes all of them again with those that have come since:
 * so however the bytes were split, the events are the same, and there is no state between frames.
 */

#include "common/list.h"
#include "common/pack.h"
#include "frontd/codec/h2_frame.h"

/*
 * Limits against clients that cost much and bring nothing (docs/configuration.md). Each says what
 * it is and why it is that number.
 */
enum {
    H2_CONTINUATIONS_MAX = 8, /* CONTINUATION frames of a block: 16 KiB fit into HEADERS alone */
    H2_EMPTY_MAX = 10,        /* empty frames of bodies, one after the other */
    H2_QUEUED_MAX = 100,     /* answers to SETTINGS, PING and faults that the client has not read */
    H2_RESETS_MAX = 200,     /* streams reset, by either side: at once, */
    H2_GLITCHES_MAX = 1000,  /* frames that have no use, and oddities: at once, */
    H2_GLITCHES_LEAVE = 750, /* from which on the connection is to be left for a new one */
    H2_COST_MS = 30,         /* and of both 33 a second in the long run */
    H2_SPARE_FIRST = 100,    /* WINDOW_UPDATE, PRIORITY, GOAWAY and unknown frames: at first, */
    H2_SPARE_EACH = 10,      /* for each stream and each DATA frame that is sent, */
    H2_SPARE_MAX = 1000,     /* and at most, until they count as glitches */
    H2_RECENT_MAX = 32,      /* of the newest streams it is known how they have ended; */
    H2_CROSSING_MS = 10000,  /* of older ones, whether one was reset in this time */
    H2_BEFORE_MAX =
        1 << 20, /* bytes: the most of another process's limits.header that is kept to */
};

/*
 * Windows that clients have, in bytes. Streams begin with H2_WINDOW_DEFAULT: a smaller one, by
 * SETTINGS, would be negative for a client that has sent a body before it has read them, with
 * which some (httpcore) cannot do.
 */
enum {
    H2_CONN_WINDOW = 1024 * 1024, /* of the connection: streams are what bounds bodies */
};

/* A stream; the caller's, zeroed, until h2_conn_open(). */
struct h2_stream {
    struct list node; /* in conn->streams, by id */
    uint64_t left;    /* bytes of the body that Content-Length promises; UINT64_MAX: not known */
    uint32_t id;
    int32_t send_window; /* bytes; may be negative: section 6.9.2 */
    int32_t recv_window;
    bool remote_closed; /* the client has ended its side */
};

/* A connection. Its times are the low bits of the clock: they are soon over. */
struct h2_conn {
    struct list streams;     /* open, by id */
    uint32_t resets_until;   /* ms: when all that was reset is forgotten: H2_COST_MS each */
    uint32_t glitches_until; /* the same of glitches */
    uint32_t crossing_until; /* ms: until then what comes for older streams may cross a reset */
    uint32_t opened;         /* of the H2_RECENT_MAX streams up to last_stream, whose bit is the
                                lowest: those that the client has opened */
    uint32_t crossing;       /* the same: those that were closed while the client might still send
                                on them, which it may not know yet */
    uint32_t last_stream;    /* the highest that the client has opened */
    uint32_t goaway_last;    /* the highest that is served; H2_STREAM_MAX: no end is told */
    int32_t send_window;
    int32_t recv_window;
    uint32_t peer_window;    /* the client's SETTINGS_INITIAL_WINDOW_SIZE */
    uint32_t before_header;  /* the limits that it was told before, which count while some of our */
    uint16_t before_streams; /* SETTINGS are `unread`, where they are larger than those of now */
    uint16_t open;           /* streams */
    uint16_t spare;          /* frames that may come before they count as glitches */
    uint8_t empty;           /* empty frames, one after the other */
    uint8_t queued;          /* answers that the client has not read */
    uint8_t unread;          /* SETTINGS of ours that it has not acknowledged */
    bool preface : 1;        /* it has been read */
    bool settings : 1;       /* and the SETTINGS behind it */
    bool tells_table : 1;    /* the next answer is the first: h2_reply.h */
    bool leave : 1;          /* H2_GLITCHES_LEAVE was reached, and GOAWAY is to be sent */
    bool going : 1;          /* GOAWAY has been sent: with H2_STREAM_MAX, or the last stream */
    bool failed : 1;         /* GOAWAY with an error has been sent */
    bool pinged : 1;         /* a PING is out whose answer says that GOAWAY has been read */
    bool tells_streams : 1;  /* the limits are others than those that it was told: */
    bool tells_header : 1;   /* h2_conn_tell() */
    bool tells_connect : 1;  /* the same of `connects` */
    bool connects : 1;       /* it was told that it may send extended CONNECT, which stays so */
};

struct h2_config {
    uint32_t header;  /* bytes of a header block: limits.header */
    uint32_t streams; /* open at the same time: limits.streams */
    bool connects;    /* clients are told that they may send extended CONNECT (RFC 8441) */
};

/* How many bytes a header block may have, as it is sent and decoded. */
static inline uint32_t h2_conn_header_limit(
    const struct h2_conn *conn, const struct h2_config *config)
{
    return MAX(config->header, conn->before_header);
}

enum h2_kind {
    H2_EVENT_MORE,    /* nothing is complete */
    H2_EVENT_NONE,    /* nothing that concerns a stream */
    H2_EVENT_HEADERS, /* a block, which has to be decoded, whatever its `use` is */
    H2_EVENT_DATA,    /* bytes of a body, or its end */
    H2_EVENT_RESET,   /* the client has reset the stream; it is not the connection's any more */
    H2_EVENT_WINDOW,  /* windows of some streams are others than before, in either direction */
    H2_EVENT_PONG,    /* the client has read all that was sent before our PING */
    H2_EVENT_STREAM_FAULT, /* to be reset: h2_conn_reset() */
    H2_EVENT_FAULT,        /* the connection is to be closed: h2_conn_goaway() */
};

/* What a header block is for. */
enum h2_use {
    H2_USE_REQUEST,  /* of a new stream: h2_conn_open() or h2_conn_reset() */
    H2_USE_TRAILERS, /* of event.stream, which they end */
    H2_USE_NONE,     /* nothing: the stream is closed, or not served any more */
    H2_USE_FAULT,    /* event.fault is wrong with the stream: h2_conn_reset() */
};

enum { H2_ANSWER_MAX = H2_HEAD_SIZE + H2_PING_SIZE };

struct h2_event {
    enum h2_kind kind;
    enum h2_use use;               /* HEADERS */
    enum h2_fault fault;           /* FAULT, STREAM_FAULT, HEADERS with H2_USE_FAULT */
    uint32_t id;                   /* of the stream; 0: it concerns none */
    struct h2_stream *stream;      /* the same; NULL: it is not open */
    struct span bytes;             /* HEADERS: the block; DATA */
    bool end_stream;               /* HEADERS, DATA: the client ends its side */
    uint8_t answer[H2_ANSWER_MAX]; /* to be sent, whatever the event is */
    uint8_t answer_n;              /* bytes of it */
};

enum { H2_START_MAX = H2_HEAD_SIZE + 3 * H2_SETTING_SIZE + H2_HEAD_SIZE + 4 };

/*
 * Begins a connection, and writes what the server sends first: SETTINGS, and WINDOW_UPDATE. Returns
 * its bytes. config->header: told as SETTINGS_MAX_HEADER_LIST_SIZE. now: ms.
 */
size_t h2_conn_init(struct h2_conn *conn, const struct h2_config *config, uint64_t now,
    uint8_t out[static H2_START_MAX]);

enum { H2_TELL_MAX = H2_HEAD_SIZE + 3 * H2_SETTING_SIZE };

/* Whether h2_conn_tell() has something to tell. */
static inline bool h2_conn_tells(const struct h2_conn *conn)
{
    return conn->tells_streams || conn->tells_header || conn->tells_connect;
}

/*
 * Tells the client of what has changed since h2_conn_restore(), if anything. Returns the bytes of
 * the SETTINGS that are written, or 0.
 */
size_t h2_conn_tell(
    struct h2_conn *conn, const struct h2_config *config, uint8_t out[static H2_TELL_MAX]);

/*
 * Looks at the `n` bytes at `p`, at the first frame that has not been used. Returns how many bytes
 * are used; 0 with MORE and FAULT. Spans of the event are within `p`; a block's frames are put
 * together there. now: ms.
 */
size_t h2_conn_feed(struct h2_conn *conn, char *p, size_t n, const struct h2_config *config,
    uint64_t now, struct h2_event *ret_event);

/* All that was sent has been written to the client. */
static inline void h2_conn_flushed(struct h2_conn *conn)
{
    conn->queued = 0;
}

/* Streams */

/*
 * Opens the stream of a H2_USE_REQUEST block. stream: zeroed, in the list from now on. length: of
 * Content-Length, or UINT64_MAX. Returns H2_OK, or H2_FAULT_BODY_LENGTH, and it is not open.
 */
enum h2_fault h2_conn_open(
    struct h2_conn *conn, struct h2_stream *stream, uint32_t id, uint64_t length, bool end_stream);

/* Both sides have ended the stream, or the client has reset it: it leaves the list. */
void h2_conn_close(struct h2_conn *conn, struct h2_stream *stream);

/*
 * Closes a stream, which need not be open, with RST_STREAM. stream: NULL, or of that id. What the
 * client has sent on it before it knows of that is ignored, unless it had ended its side (section
 * 5.1). Returns the bytes written, with H2_OK in *ret_fault; or H2_FAULT_RESETS: that was one too
 * many, and the connection is to be closed. (An answer that is complete before its request is, and
 * so ends with H2_NO_ERROR, and one that breaks off, with H2_INTERNAL_ERROR, are not counted.)
 */
size_t h2_conn_reset(struct h2_conn *conn, struct h2_stream *stream, uint32_t id, enum h2_code code,
    uint64_t now, uint8_t out[static H2_HEAD_SIZE + 4], enum h2_fault *ret_fault);

/* The stream of that id; NULL: it is not open. */
struct h2_stream *h2_conn_find(const struct h2_conn *conn, uint32_t id);

/* Flow control */

/* How many bytes of a body may be sent in one DATA frame now; 0: none. */
uint32_t h2_conn_sendable(const struct h2_conn *conn, const struct h2_stream *stream);

/* A DATA frame of `n` bytes, of what h2_conn_sendable() allows, is sent. */
void h2_conn_sent(struct h2_conn *conn, struct h2_stream *stream, uint32_t n);

/*
 * Has the client send up to `window` bytes more on that stream, where it may not yet. Returns the
 * bytes of the WINDOW_UPDATE that is written, or 0.
 */
size_t h2_conn_grant(
    struct h2_stream *stream, uint32_t window, uint8_t out[static H2_HEAD_SIZE + 4]);

/* Ending */

enum { H2_LEAVE_MAX = H2_HEAD_SIZE + 8 + H2_HEAD_SIZE + H2_PING_SIZE };

/*
 * The connection is to end (section 6.8): tells the client so, and asks with PING when it has read
 * that; until then it may open streams. Returns the bytes written.
 */
size_t h2_conn_leave(struct h2_conn *conn, uint8_t out[static H2_LEAVE_MAX]);

/*
 * Tells the client that no further stream is served. fault: why, or H2_OK. Returns the bytes
 * written.
 */
size_t h2_conn_goaway(struct h2_conn *conn, enum h2_fault fault, uint8_t out[static H2_GOAWAY_MAX]);

/*
 * For another process: see http1_save() and http1_restore(). Streams are saved one by one, in their
 * order, and restored after the connection. The saved state is not trusted. config: of this
 * process; what the client was told by the other one is compared with it.
 */
void h2_conn_save(const struct h2_conn *conn, const struct h2_config *config, struct pack *pack);
int h2_conn_restore(
    struct h2_conn *ret_conn, const struct h2_config *config, struct unpack *unpack);
void h2_stream_save(const struct h2_stream *stream, struct pack *pack);
int h2_stream_restore(struct h2_conn *conn, struct h2_stream *ret_stream, struct unpack *unpack);
