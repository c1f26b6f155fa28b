/* What a handler may ask about its call (protocol section 5). */

#include <errno.h>

#include "workerd/call.h"
#include "workerd/worker.h"

struct workerd *workerd_call_worker(const struct workerd_call *call)
{
    return call->worker;
}

struct workerd_text workerd_call_method(const struct workerd_call *call)
{
    return call_text(call->method);
}

struct workerd_text workerd_call_params(const struct workerd_call *call)
{
    return call_text(call->params);
}

struct workerd_text workerd_call_id(const struct workerd_call *call)
{
    return call_text(call->id);
}

struct workerd_text workerd_call_body(const struct workerd_call *call)
{
    return call_text(call->body);
}

struct workerd_text workerd_call_blob(const struct workerd_call *call)
{
    return call_text(call->blob);
}

struct workerd_text workerd_call_meta(const struct workerd_call *call)
{
    return call_text(call->meta);
}

uint64_t workerd_call_number(const struct workerd_call *call)
{
    return call->node.id;
}

struct workerd_conn workerd_call_conn(const struct workerd_call *call)
{
    return call->conn;
}

bool workerd_call_is_notification(const struct workerd_call *call)
{
    return call->flags & FRAME_F_NOTIFY;
}

bool workerd_call_is_retry(const struct workerd_call *call)
{
    return call->flags & FRAME_F_RETRY;
}

bool workerd_call_is_binary(const struct workerd_call *call)
{
    return call->flags & FRAME_F_BINARY;
}

void workerd_call_set_data(struct workerd_call *call, void *data)
{
    call->data = data;
}

void *workerd_call_data(const struct workerd_call *call)
{
    return call->data;
}

int call_string(struct workerd_text value, char *out, size_t size)
{
    int r = workerd_json_string(value, out, size);
    return r == -EINVAL ? -ENOENT : r;
}

int workerd_call_peer(const struct workerd_call *call, char *out, size_t size)
{
    return call_string(workerd_json_member(call_text(call->meta), "peer"), out, size);
}

int workerd_call_header(const struct workerd_call *call, const char *name, char *out, size_t size)
{
    struct workerd_text headers = workerd_json_member(call_text(call->meta), "headers");
    return call_string(workerd_json_member(headers, name), out, size);
}

int64_t workerd_call_deadline(const struct workerd_call *call)
{
    int64_t left;
    struct workerd_text value = workerd_json_member(call_text(call->meta), "deadline_ms");
    if (workerd_json_integer(value, &left) < 0 || left < 0)
        return -1;
    if (call->stream != NULL && call->stream->coming)
        return left;
    int64_t gone = (int64_t)(uv_now(&call->worker->loop) - call->came);
    return left > gone ? left - gone : 0;
}
