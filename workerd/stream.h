#pragma once

/*
 * What is kept of a call whose body comes in parts, or whose answer goes in parts (protocol section
 * 8): windows in both directions, and callbacks. Other calls have none.
 */

#include "common/buf.h"
#include "common/list.h"
#include "workerd/workerd.h"

enum {
    STREAM_WINDOW = 262144,     /* bytes of DATA that may be unacknowledged, in each direction */
    STREAM_WINDOW_STEP = 65536, /* bytes that were taken and are told of in one WINDOW */
};

struct stream {
    struct workerd_call *call;
    struct list waiting; /* in channel->waiting: the front does not read, and it wants to send */

    workerd_part part; /* NULL: the body is gathered */
    void *part_data;
    struct buf gathered; /* the payload of the REQUEST, and what has come of the blob since */
    uint32_t meta_n;     /* bytes of that which are meta … */
    uint32_t body_n;     /* … and body */
    uint32_t first;      /* bytes that came with the REQUEST and are not taken: beside the window */
    uint32_t held;       /* bytes of DATA that have come and are not taken */
    uint32_t taken;      /* bytes of DATA that were taken, and no WINDOW has told so */
    bool coming;         /* more of the body is to come */

    bool begun;    /* the answer: its RESPONSE was sent */
    uint32_t room; /* bytes of DATA that the front takes now */
    workerd_callback on_room;
    void *on_room_data;
};

/* Returns a stream for a call that has none, or NULL where there is no memory. */
struct stream *stream_new(struct workerd_call *call);

/* Frees it; accepts NULL. Returns NULL. */
struct stream *stream_free(struct stream *stream);

/* Counts bytes of DATA that have come. Returns false where they are beyond the window. */
bool stream_came(struct stream *stream, size_t n);

/*
 * Counts bytes that were taken, at most those that have come. Returns how many a WINDOW has to tell
 * of now, or 0.
 */
uint32_t stream_took(struct stream *stream, size_t n);

/* Counts what a WINDOW gives for the answer, in bytes. */
void stream_credit(struct stream *stream, uint64_t n);
