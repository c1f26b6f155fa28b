/*
 * Ending calls: RESPONSE frames, written straight into the channel's output (section 5); and the
 * beginning of an answer in parts, which is a RESPONSE too (section 8).
 */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/log.h"
#include "proto/json_quote.h"
#include "workerd/call.h"
#include "workerd/worker.h"

static const struct span body_begin = {"{\"jsonrpc\":\"2.0\",\"id\":", 22};
static const struct span result_key = {",\"result\":", 10};
static const struct span error_key = {",\"error\":", 9};

static inline char *put(char *to, struct span bytes)
{
    if (bytes.n > 0)
        memcpy(to, bytes.p, bytes.n);
    return to + bytes.n;
}

/*
 * Writes a RESPONSE. Returns 0; -EMSGSIZE when it is over the front's max_frame (section 2); or
 * -ENOMEM, with the channel as it was.
 */
static int write_response(const struct workerd_call *call, uint8_t flags, struct span key,
    struct span value, struct span blob)
{
    struct channel *channel = call->channel;
    size_t body_n = body_begin.n + call->id.n + key.n + value.n + 1;
    if (UNLIKELY(value.n > channel->peer_max_frame || blob.n > channel->peer_max_frame ||
                 body_n + blob.n > channel->peer_max_frame))
        return -EMSGSIZE;
    struct frame_head head = {
        .call = call->node.id,
        .conn = call->conn.id,
        .length = (uint32_t)(body_n + blob.n),
        .blob_len = (uint32_t)blob.n,
        .type = FRAME_RESPONSE,
        .flags = flags,
    };
    char *to = framed_frame(&channel->framed, &head);
    if (UNLIKELY(to == NULL))
        return -ENOMEM;
    channel_touch(channel);
    to = put(to, body_begin);
    to = put(to, call->id);
    to = put(to, key);
    to = put(to, value);
    *to++ = '}';
    put(to, blob);
    return 0;
}

/*
 * Writes the RESPONSE that ends a call. Returns false when it is over the front's max_frame; where
 * there is no memory, the channel is closed.
 */
static bool respond(
    const struct workerd_call *call, struct span key, struct span value, struct span blob)
{
    int r = write_response(call, 0, key, value, blob);
    if (UNLIKELY(r == -ENOMEM)) {
        log_error("no memory for an answer: the channel is closed");
        channel_close(call->channel);
    }
    return r != -EMSGSIZE;
}

int reply_begin(const struct workerd_call *call, struct span result)
{
    return write_response(call, FRAME_F_MORE, result_key, result, (struct span){NULL, 0});
}

/* Writes an error object. Returns 0 or -ENOMEM. */
static int write_error(struct buf *out, int64_t code, const char *message, struct span data)
{
    size_t n = strlen(message);
    int r = buf_printf(out, "{\"code\":%" PRId64 ",\"message\":", code);
    if (r == 0)
        r = json_quote(out, message, n);
    if (r == 0 && data.n > 0)
        r = buf_append(out, ",\"data\":", 8);
    if (r == 0 && data.n > 0)
        r = buf_append(out, data.p, data.n);
    if (r == 0)
        r = buf_append(out, "}", 1);
    return r;
}

static void respond_error(
    const struct workerd_call *call, int64_t code, const char *message, struct span data)
{
    struct buf error = {0};
    if (write_error(&error, code, message, data) < 0) {
        log_error("no memory for an answer: the channel is closed");
        channel_close(call->channel);
    } else if (!respond(call, error_key, (struct span){buf_data(&error), buf_len(&error)},
                   (struct span){NULL, 0})) {
        /*
         * Where even the error does not fit, one is sent without texts that the worker has chosen.
         */
        respond(call, error_key, SPAN("{\"code\":-32603,\"message\":\"reply over max_frame\"}"),
            (struct span){NULL, 0});
    }
    buf_deinit(&error);
}

static void end_with_result(struct workerd_call *call, struct span result, struct span blob)
{
    call->on_cancel = NULL; /* it ends here, whatever becomes of the channel */
    if (call_is_heard(call)) {
        const struct span no_data = {NULL, 0};
        if (UNLIKELY(workerd_call_cancelled(call)))
            respond_error(call, WORKERD_CANCELLED, "cancelled", no_data);
        else if (!respond(call, result_key, result, blob))
            respond_error(call, WORKERD_INTERNAL_ERROR, "reply over max_frame", no_data);
    }
    call_end(call);
}

void workerd_reply(struct workerd_call *call, const char *result, size_t n)
{
    end_with_result(call, (struct span){result, n}, (struct span){NULL, 0});
}

void workerd_reply_blob(
    struct workerd_call *call, const char *result, size_t n, const void *blob, size_t blob_n)
{
    end_with_result(call, (struct span){result, n}, (struct span){blob, blob_n});
}

void workerd_fail(
    struct workerd_call *call, int64_t code, const char *message, const char *data, size_t n)
{
    call->on_cancel = NULL;
    if (call_is_heard(call)) {
        if (UNLIKELY(workerd_call_cancelled(call)))
            respond_error(call, WORKERD_CANCELLED, "cancelled", (struct span){NULL, 0});
        else
            respond_error(call, code, message, (struct span){data, n});
    }
    call_end(call);
}

/* An answer of another thread: copied there, and given in the loop. mem_get() has no locks. */
struct late_reply {
    struct workerd_call *call;
    int64_t code;
    size_t n;      /* of the result, or of the error's data */
    size_t blob_n; /* of the blob, or of the error's message with its NUL */
    bool failed;
    char bytes[]; /* the one and then the other */
};

static void on_late_reply(void *data)
{
    struct late_reply *late = data;
    const char *blob = late->bytes + late->n;
    if (late->failed)
        workerd_fail(late->call, late->code, blob, late->bytes, late->n);
    else
        workerd_reply_blob(late->call, late->bytes, late->n, blob, late->blob_n);
    free(late);
}

static int post_reply(const struct late_reply *what, const char *bytes, const void *blob)
{
    struct late_reply *late = malloc(sizeof(*late) + what->n + what->blob_n);
    if (late == NULL)
        return -ENOMEM;
    *late = *what;
    if (what->n > 0)
        memcpy(late->bytes, bytes, what->n);
    if (what->blob_n > 0)
        memcpy(late->bytes + what->n, blob, what->blob_n);
    int r = workerd_post(what->call->worker, on_late_reply, late);
    if (r < 0)
        free(late);
    return r;
}

int workerd_reply_from_thread(
    struct workerd_call *call, const char *result, size_t n, const void *blob, size_t blob_n)
{
    const struct late_reply late = {.call = call, .n = n, .blob_n = blob_n};
    return post_reply(&late, result, blob);
}

int workerd_fail_from_thread(
    struct workerd_call *call, int64_t code, const char *message, const char *data, size_t n)
{
    const struct late_reply late = {
        .call = call,
        .code = code,
        .n = n,
        .blob_n = strlen(message) + 1,
        .failed = true,
    };
    return post_reply(&late, data, message);
}
