#pragma once

/* One request in progress, from its frame to its answer. */

#include <stdatomic.h>

#include "common/idmap.h"
#include "common/list.h"
#include "proto/jsonrpc.h"
#include "workerd/channel.h"
#include "workerd/stream.h"
#include "workerd/workerd.h"

enum {
    CALL_ID_INLINE = 40, /* bytes: a quoted UUID and all numbers */
};

struct workerd_call {
    struct idmap_node node;  /* channel->pending; its id is the call's number */
    struct list link;        /* channel->calls, or worker->orphans */
    struct channel *channel; /* NULL once it has closed */
    struct workerd *worker;
    struct workerd_conn conn;
    uint64_t came; /* ms: what deadline_ms counts from */
    uint8_t flags; /* of the frame */
    bool running;  /* its handler, or a callback about it, has not returned */
    bool pending;  /* it has returned, and the call is in the lists */
    bool ended;
    bool progress;         /* the client is told of it */
    atomic_bool cancelled; /* read by other threads */
    workerd_callback on_cancel;
    void *on_cancel_data;
    void *data;            /* the handler's */
    struct stream *stream; /* of bodies in parts; NULL: it has none */
    struct span method;
    struct span params;
    struct span id; /* JSON text; "null" where there is none */
    struct span meta;
    struct span body;
    struct span blob;
    char *kept; /* copy of the payload: workerd_call_keep(); or NULL */
    size_t kept_size;
    char *unescaped; /* a method that had escapes, or NULL */
    size_t unescaped_size;
    char *http; /* what workerd_http_read() resolved, or NULL */
    size_t http_size;
    char *long_id; /* an id that does not fit below, or NULL */
    size_t long_id_size;
    char id_bytes[CALL_ID_INLINE];
};

static inline struct workerd_text call_text(struct span span)
{
    return (struct workerd_text){span.n == 0 ? NULL : span.p, span.n};
}

/*
 * Whether a response is sent: a call has one as long as its channel is open, a notification none.
 */
static inline bool call_is_heard(const struct workerd_call *call)
{
    const struct channel *channel = call->channel;
    return channel != NULL && channel->state == CHANNEL_OPEN && !(call->flags & FRAME_F_NOTIFY);
}

/*
 * Writes the RESPONSE of an answer whose body follows in parts. The call is heard. result: a JSON
 * text; copied. Returns 0; -EMSGSIZE when it is over the front's max_frame; or -ENOMEM.
 */
int reply_begin(const struct workerd_call *call, struct span result);

/*
 * Reads a JSON string, as workerd_json_string() does. Returns its length; -ENOENT for what is no
 * string; -ENOSPC; or -ENOMEM.
 */
int call_string(struct workerd_text value, char *out, size_t size);

/* Takes a REQUEST and calls its handler, unless the body is gathered first. */
void call_begin(struct channel *channel, const struct frame *frame);

/* Returns the call of that number that is in progress on the channel, or NULL. */
struct workerd_call *call_find(const struct channel *channel, uint64_t number);

/* Takes a DATA: more of the body of a call that has more to come. The call may end in here. */
void call_data(struct workerd_call *call, const struct frame *frame);

/* Takes a WINDOW of so many bytes for an answer in parts; for other calls it means nothing. */
void call_window(struct workerd_call *call, uint64_t bytes);

/* Has those send whose answers waited for the front to read, for as long as there is room. */
void call_drained(struct channel *channel);

/* Cancels one call, if it is still in progress. */
void call_cancel(struct channel *channel, uint64_t number);

/*
 * Takes all calls from a channel that closes: they live on until their handlers end them, and are
 * cancelled, except for notifications where one side said GOAWAY.
 */
void call_orphan_all(struct channel *channel);

/* The one place that frees a call, once it has ended and its handler has returned. */
void call_end(struct workerd_call *call);
