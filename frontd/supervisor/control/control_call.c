#include "frontd/supervisor/control/control_call.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/ipc/control_rpc.h"
#include "frontd/supervisor/control/control_conn.h"
#include "proto/errors.h"
#include "proto/frame.h"

enum { MESSAGE_MAX = 4096 /* bytes of an error's text */ };

struct control_call *control_call_new(
    struct control_conn *conn, struct list *calls, uint64_t number, struct span id)
{
    struct control_call *call = mem_zalloc(sizeof(*call) + id.n);
    if (call == NULL)
        return NULL;
    call->conn = conn;
    call->number = number;
    call->id_n = id.n;
    memcpy(call->id, id.p, id.n);
    list_append(calls, &call->node);
    return call;
}

static void free_call(struct control_call *call)
{
    list_remove(&call->node);
    mem_free(call);
}

void control_call_drop(struct control_call *call)
{
    if (call->gone != NULL)
        call->gone(call);
    free_call(call);
}

void *control_call_data(const struct control_call *call)
{
    return control_conn_methods(call->conn)->data;
}

/* Sends the response with this member, and frees the call. Returns what control_conn_send() does.
 */
static int respond(struct control_call *call, struct span member, struct span value)
{
    const struct span parts[] = {
        SPAN("{\"jsonrpc\":\"2.0\",\"id\":"), {call->id, call->id_n}, member, value, SPAN("}")};
    return control_conn_send(call->conn, FRAME_RESPONSE, call->number, parts, ARRAY_LEN(parts));
}

/* The connection has its answer, and may go on. */
static void end(struct control_call *call)
{
    struct control_conn *conn = call->conn;
    free_call(call);
    control_conn_resume(conn);
}

void control_call_fail(struct control_call *call, int code, const char *format, ...)
{
    char text[MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    struct json_writer error = {0};
    json_begin(&error, NULL, '{');
    json_add_integer(&error, "code", code);
    json_add_text(&error, "message", text);
    json_end(&error, '}');
    int r = error.failed ? -ENOMEM
                         : respond(call, SPAN(",\"error\":"),
                               (struct span){buf_data(&error.out), buf_len(&error.out)});
    buf_deinit(&error.out);
    if (r < 0)
        control_conn_fail(call->conn);
    end(call);
}

void control_call_answer(struct control_call *call, struct json_writer *result)
{
    int r = result->failed ? -ENOMEM
                           : respond(call, SPAN(",\"result\":"),
                                 (struct span){buf_data(&result->out), buf_len(&result->out)});
    buf_deinit(&result->out);
    if (r == 0)
        end(call);
    else if (r == -E2BIG)
        control_call_fail(
            call, RPC_INTERNAL_ERROR, "the answer would be over %d MiB", CONTROL_ANSWER_MAX >> 20);
    else
        control_call_fail(call, RPC_INTERNAL_ERROR, "no memory");
}

bool control_call_push(struct control_call *call, const char *method, struct json_writer *params)
{
    const struct span parts[] = {
        SPAN("{\"jsonrpc\":\"2.0\",\"method\":\""),
        {method, strlen(method)},
        SPAN("\",\"params\":"),
        {buf_data(&params->out), buf_len(&params->out)},
        SPAN("}"),
    };
    bool fits = !params->failed && control_conn_takes_pushes(call->conn);
    int r = fits ? control_conn_send(call->conn, FRAME_PUSH, call->number, parts, ARRAY_LEN(parts))
                 : -ENOBUFS;
    buf_deinit(&params->out);
    return r == 0;
}
