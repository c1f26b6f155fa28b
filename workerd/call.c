#include "workerd/call.h"

#include <errno.h>
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

/* Cancels a call: its handler is told once, and may end the call. */
static void cancel(struct workerd_call *call)
{
    atomic_store(&call->cancelled, true);
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

static void run(struct workerd_call *call)
{
    if (is_note(call) && UNLIKELY(is_response(call->method)) && call->worker->ops->answered(call))
        return;
    const struct method *method = methods_find(&call->worker->methods, call->method);
    if (UNLIKELY(method == NULL)) {
        workerd_fail(call, WORKERD_METHOD_NOT_FOUND, "method not found", NULL, 0);
        return;
    }
    method->handler(call, method->data);
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
    worker->ncalls++;
    channel->ncalls++;

    struct jsonrpc_request request;
    size_t count;
    bool batch;
    int r = jsonrpc_scan(frame->body.p, frame->body.n, &request, 1, &count, &batch);
    call->id = r != JSONRPC_E_BATCH && request.id.n > 0 ? request.id : SPAN("null");
    if (UNLIKELY(r != 0 || batch || request.kind > JSONRPC_NOTIFY)) {
        /* frontd checks what it sends (section 5), but there may be fronts of other kinds. */
        workerd_fail(call, r == JSONRPC_E_PARSE ? -32700 : WORKERD_INVALID_REQUEST,
            r == JSONRPC_E_PARSE ? "parse error" : "invalid request", NULL, 0);
    } else {
        call->method = request.method;
        call->params = request.params;
        if (UNLIKELY(request.method_escaped) && unescape_method(call) < 0)
            workerd_fail(call, WORKERD_INTERNAL_ERROR, "out of memory", NULL, 0);
        else
            run(call);
    }
    call->running = false;
    if (LIKELY(call->ended))
        call_free(call);
    else
        make_pending(call);
}

void call_cancel(struct channel *channel, uint64_t number)
{
    struct idmap_node *node = idmap_find(&channel->pending, number);
    if (node != NULL)
        cancel(container_of(node, struct workerd_call, node));
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
