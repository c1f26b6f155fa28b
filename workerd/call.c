#include "workerd/call.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/alloc.h"
#include "common/log.h"
#include "workerd/front.h"
#include "workerd/worker.h"

static bool is_note(const struct workerd_call *call)
{
    return call->flags & FRAME_F_NOTIFY;
}

static void call_free(struct workerd_call *call)
{
    struct workerd *worker = call->worker;
    struct channel *channel = call->channel;
    bool noted = call->pending && is_note(call);
    mem_put(call->kept, call->kept_size);
    mem_put(call->unescaped, call->unescaped_size);
    mem_put(call->http, call->http_size);
    mem_put(call->long_id, call->long_id_size);
    stream_free(call->stream);
    slab_put(&worker->calls, call);
    worker->ncalls--;
    if (channel != NULL) {
        channel->ncalls--;
        channel->nnotes -= noted;
        if (channel->going)
            channel_touch(channel);
    }
    if (UNLIKELY(worker->state != WORKER_RUNNING))
        worker_maybe_finish(worker);
}

void call_end(struct workerd_call *call)
{
    CHECK(!call->ended);
    call->ended = true;
    if (call->pending) {
        if (call->channel != NULL)
            idmap_remove(&call->channel->pending, &call->node);
        list_remove(&call->link);
    }
    if (!call->running)
        call_free(call);
}

/* Copies the id, which the answer needs: the bytes that it was read from are gone by then. */
static int keep_id(struct workerd_call *call)
{
    char *to = call->id_bytes;
    if (call->id.n > CALL_ID_INLINE) {
        to = call->long_id = mem_get(call->id.n, &call->long_id_size);
        if (to == NULL)
            return -ENOMEM;
    }
    memcpy(to, call->id.p, call->id.n);
    call->id.p = to;
    return 0;
}

static void forget_texts(struct workerd_call *call)
{
    const struct span none = {NULL, 0};
    call->method = call->params = call->meta = call->body = call->blob = none;
}

/*
 * Cancels a call: its handler is told once, and may end the call. Where it still waits for the body
 * it knows of nothing, and the call ends here.
 */
static void cancel(struct workerd_call *call)
{
    atomic_store(&call->cancelled, true);
    struct stream *stream = call->stream;
    if (stream != NULL && stream->coming) {
        stream->coming = false;
        if (stream->part == NULL) {
            workerd_fail(call, WORKERD_CANCELLED, "cancelled", NULL, 0);
            return;
        }
    }
    workerd_callback callback = call->on_cancel;
    call->on_cancel = NULL;
    if (callback != NULL)
        callback(call->on_cancel_data);
}

/* The handler has returned without ending the call: it waits in the lists until that is done. */
static void make_pending(struct workerd_call *call)
{
    struct channel *channel = call->channel;
    if (call->kept == NULL)
        forget_texts(call);
    if (call->kept == NULL && keep_id(call) < 0) {
        call->id = SPAN("null");
        log_error("no memory for the id of a call: the channel is closed");
        channel_close(channel);
    }
    call->pending = true;
    if (channel->state == CHANNEL_HELLO || channel->state == CHANNEL_OPEN) {
        idmap_add(&channel->pending, &call->node);
        list_append(&channel->calls, &call->link);
        channel->nnotes += is_note(call);
        return;
    }
    channel->ncalls--;
    call->channel = NULL;
    if (call->stream != NULL)
        list_remove(&call->stream->waiting);
    list_append(&call->worker->orphans, &call->link);
    cancel(call);
}

static int unescape_method(struct workerd_call *call)
{
    call->unescaped = mem_get(call->method.n, &call->unescaped_size);
    if (call->unescaped == NULL)
        return -ENOMEM;
    call->method.n = jsonrpc_unescape(call->method, call->unescaped);
    call->method.p = call->unescaped;
    return 0;
}

/* Whether a method is frontd.response. */
static bool is_response(struct span method)
{
    static const struct span name = {"frontd.response", 15};
    return method.n == name.n && memcmp(method.p, name.p, name.n) == 0;
}

/* The body is put together before the handler is called: one payload, as if it had come whole. */
static void gather_begin(struct workerd_call *call)
{
    struct stream *stream = call->stream;
    size_t n = call->meta.n + call->body.n + call->blob.n;
    if (buf_append(&stream->gathered, call->meta.p, n) < 0)
        workerd_fail(call, WORKERD_INTERNAL_ERROR, "out of memory", NULL, 0);
    stream->meta_n = (uint32_t)call->meta.n;
    stream->body_n = (uint32_t)call->body.n;
    mem_put(call->unescaped, call->unescaped_size); /* the request is read again then */
    call->unescaped = NULL;
}

/* The handler gets the head, and then what came with it: the first part, or the whole body. */
static void run_parts(struct workerd_call *call, const struct method *method)
{
    struct stream *stream = call->stream;
    if (stream != NULL) {
        stream->part = method->part;
        stream->part_data = method->data;
        stream->first = (uint32_t)call->blob.n;
    }
    struct span blob = call->blob;
    method->handler(call, method->data);
    bool whole = stream == NULL;
    if (!call->ended && !workerd_call_cancelled(call) && (whole || blob.n > 0))
        method->part(call, call_text(blob), whole, method->data);
}

static void run(struct workerd_call *call)
{
    if (is_note(call) && UNLIKELY(is_response(call->method)) && call->worker->ops->answered(call))
        return;
    const struct method *method = methods_find(&call->worker->methods, call->method);
    if (UNLIKELY(method == NULL)) {
        workerd_fail(call, WORKERD_METHOD_NOT_FOUND, "method not found", NULL, 0);
        return;
    }
    if (UNLIKELY(method->part != NULL))
        run_parts(call, method);
    else if (UNLIKELY(call->stream != NULL && call->stream->coming))
        gather_begin(call);
    else
        method->handler(call, method->data);
}

/* Reads the request, and has it handled. */
static void serve(struct workerd_call *call)
{
    struct jsonrpc_request request;
    size_t count;
    bool batch;
    int r = jsonrpc_scan(call->body.p, call->body.n, &request, 1, &count, &batch);
    call->id = r != JSONRPC_E_BATCH && request.id.n > 0 ? request.id : SPAN("null");
    if (UNLIKELY(r != 0 || batch || request.kind > JSONRPC_NOTIFY)) {
        /* frontd checks what it sends (section 5), but there may be fronts of other kinds. */
        workerd_fail(call, r == JSONRPC_E_PARSE ? -32700 : WORKERD_INVALID_REQUEST,
            r == JSONRPC_E_PARSE ? "parse error" : "invalid request", NULL, 0);
        return;
    }
    call->method = request.method;
    call->params = request.params;
    if (UNLIKELY(request.method_escaped) && unescape_method(call) < 0)
        workerd_fail(call, WORKERD_INTERNAL_ERROR, "out of memory", NULL, 0);
    else
        run(call);
}

/* A handler, or a callback about a call that is pending, has returned: the call may have ended. */
static void settle(struct workerd_call *call)
{
    call->running = false;
    if (call->ended)
        call_free(call);
}

void call_begin(struct channel *channel, const struct frame *frame)
{
    struct workerd *worker = channel->worker;
    struct workerd_call *call = slab_get(&worker->calls);
    if (call == NULL) {
        log_error("shard %u: no memory for a call: the channel is closed", channel->shard);
        channel_close(channel);
        return;
    }
    call->node.id = frame->head.call;
    call->channel = channel;
    call->worker = worker;
    call->conn = (struct workerd_conn){frame->head.conn, channel->front->id, channel->serial};
    call->came = uv_now(&worker->loop);
    call->flags = frame->head.flags;
    call->running = true;
    call->meta = frame->meta;
    call->body = frame->body;
    call->blob = frame->blob;
    if (UNLIKELY(frame->meta.n > 0))
        call->progress = jsonrpc_member(frame->meta, SPAN("progress")).n == sizeof("true") - 1;
    worker->ncalls++;
    channel->ncalls++;

    if (UNLIKELY(frame->head.flags & FRAME_F_MORE))
        call->stream = stream_new(call);
    if (UNLIKELY((frame->head.flags & FRAME_F_MORE) && call->stream == NULL)) {
        call->id = SPAN("null");
        workerd_fail(call, WORKERD_INTERNAL_ERROR, "out of memory", NULL, 0);
    } else {
        if (call->stream != NULL)
            call->stream->coming = true;
        serve(call);
    }
    call->running = false;
    if (LIKELY(call->ended))
        call_free(call);
    else
        make_pending(call);
}

struct workerd_call *call_find(const struct channel *channel, uint64_t number)
{
    struct idmap_node *node = idmap_find(&channel->pending, number);
    return node == NULL ? NULL : container_of(node, struct workerd_call, node);
}

void call_cancel(struct channel *channel, uint64_t number)
{
    struct workerd_call *call = call_find(channel, number);
    if (call != NULL)
        cancel(call);
}

/* The body is complete: the handler gets the call as if it had come whole, its texts kept. */
static void gather_end(struct workerd_call *call)
{
    struct stream *stream = call->stream;
    CHECK(stream->gathered.start == 0);
    call->kept = stream->gathered.memory;
    call->kept_size = stream->gathered.size;
    size_t n = buf_len(&stream->gathered);
    size_t at = stream->meta_n + stream->body_n;
    call->meta = (struct span){call->kept, stream->meta_n};
    call->body = (struct span){call->kept + stream->meta_n, stream->body_n};
    call->blob = (struct span){call->kept + at, n - at};
    stream->gathered = (struct buf){0};
    call->running = true;
    serve(call);
    settle(call);
}

static void gather(struct workerd_call *call, struct span blob)
{
    struct stream *stream = call->stream;
    if (buf_len(&stream->gathered) + blob.n > call->worker->max_frame) {
        workerd_fail(call, WORKERD_INTERNAL_ERROR, "the request is too large", NULL, 0);
    } else if (buf_append(&stream->gathered, blob.p, blob.n) < 0) {
        workerd_fail(call, WORKERD_INTERNAL_ERROR, "out of memory", NULL, 0);
    } else if (!stream->coming) {
        gather_end(call);
    } else {
        workerd_took(call, blob.n);
    }
}

void call_data(struct workerd_call *call, const struct frame *frame)
{
    struct stream *stream = call->stream;
    struct span blob = frame->blob;
    const char *wrong = NULL;
    if (frame->body.n > 0)
        wrong = "has bytes that are no blob";
    else if (!stream_came(stream, blob.n))
        wrong = "is over the window";
    if (UNLIKELY(wrong != NULL)) {
        log_warning("shard %u: DATA of call %" PRIu64 " %s: the call is cancelled",
            call->channel->shard, call->node.id, wrong);
        cancel(call);
        return;
    }
    stream->coming = frame->head.flags & FRAME_F_MORE;
    if (!stream->coming)
        call->came = uv_now(&call->worker->loop); /* its deadline begins anew */
    if (stream->part == NULL) {
        gather(call, blob);
        return;
    }
    call->running = true;
    stream->part(call, call_text(blob), !stream->coming, stream->part_data);
    settle(call);
}

/* Tells that there is room; the call may end in the callback. */
static void tell_room(struct workerd_call *call)
{
    const struct stream *stream = call->stream;
    if (stream->on_room == NULL || workerd_call_cancelled(call))
        return;
    call->running = true;
    stream->on_room(stream->on_room_data);
    settle(call);
}

void call_window(struct workerd_call *call, uint64_t bytes)
{
    if (call->stream == NULL || !call->stream->begun)
        return;
    stream_credit(call->stream, bytes);
    tell_room(call);
}

void call_drained(struct channel *channel)
{
    /*
     * Each of them may fill the channel again, and then waits at the end of the list. Any call may
     * end meanwhile.
     */
    while (!list_empty(&channel->waiting) && buf_len(&channel->framed.out) <= FRAMED_OUT_MAX) {
        struct stream *stream = list_first(&channel->waiting, struct stream, waiting);
        list_remove(&stream->waiting);
        tell_room(stream->call);
    }
}

void call_orphan_all(struct channel *channel)
{
    /*
     * A callback may end any call, this one or others: no pointer into the list is kept meanwhile.
     */
    while (!list_empty(&channel->calls)) {
        struct workerd_call *call = list_first(&channel->calls, struct workerd_call, link);
        idmap_remove(&channel->pending, &call->node);
        list_remove(&call->link);
        if (call->stream != NULL)
            list_remove(&call->stream->waiting);
        list_append(&channel->worker->orphans, &call->link);
        channel->ncalls--;
        channel->nnotes -= is_note(call);
        call->channel = NULL;
        /*
         * After a GOAWAY the front has waited for the answers that it wants; notifications are
         * still wanted, and are not cancelled.
         */
        if (!is_note(call) || !channel->going)
            cancel(call);
    }
}

void workerd_on_cancel(struct workerd_call *call, workerd_callback callback, void *data)
{
    call->on_cancel = callback;
    call->on_cancel_data = data;
    if (callback != NULL && workerd_call_cancelled(call))
        cancel(call);
}

bool workerd_call_cancelled(const struct workerd_call *call)
{
    return atomic_load(&call->cancelled);
}

static void rebase(struct span *span, const char *from, const char *to)
{
    if (span->n > 0)
        span->p = to + (span->p - from);
}

int workerd_call_keep(struct workerd_call *call)
{
    CHECK(call->running);
    if (call->kept != NULL)
        return 0;
    CHECK(!call->pending); /* in its handler */
    /* One copy for all: meta, body and blob lie one behind the other (section 2). */
    const char *from = call->meta.p;
    size_t n = call->meta.n + call->body.n + call->blob.n;
    char *copy = mem_get(n, &call->kept_size);
    if (copy == NULL)
        return -ENOMEM;
    call->kept = copy;
    memcpy(copy, from, n);
    bool has_id = call->id.p >= from && call->id.p < from + n;
    if (has_id)
        rebase(&call->id, from, copy);
    if (call->unescaped == NULL)
        rebase(&call->method, from, copy);
    rebase(&call->params, from, copy);
    rebase(&call->meta, from, copy);
    rebase(&call->body, from, copy);
    rebase(&call->blob, from, copy);
    return 0;
}
