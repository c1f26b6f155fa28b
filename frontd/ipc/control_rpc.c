#include "frontd/ipc/control_rpc.h"

#include <errno.h>
#include <string.h>

#include "proto/frame.h"
#include "proto/json_read.h"
#include "proto/json_write.h"
#include "proto/jsonrpc.h"

int control_rpc_read_request(struct span body, struct control_rpc_request *ret_request)
{
    struct jsonrpc_request one;
    size_t count;
    bool batch = false;
    *ret_request = (struct control_rpc_request){.id = SPAN("null")};
    int r = jsonrpc_scan(body.p, body.n, &one, 1, &count, &batch);
    if (r == JSONRPC_E_PARSE)
        return CONTROL_RPC_PARSE;
    if (r == 0 && !batch && one.kind != JSONRPC_CALL && one.kind != JSONRPC_INVALID)
        return CONTROL_RPC_IGNORE;
    if (r != JSONRPC_E_BATCH && !batch && one.id.n > 0)
        ret_request->id = one.id;
    if (r != 0 || batch || one.kind == JSONRPC_INVALID)
        return CONTROL_RPC_INVALID;
    if (json_is_array(one.params))
        return CONTROL_RPC_PARAMS;
    ret_request->method = one.method;
    ret_request->params = one.params;
    return 0;
}

int control_rpc_read_hello(struct span body)
{
    if (body.n == 0 || jsonrpc_validate(body.p, body.n) != 0)
        return -1;
    struct span control = json_read_member(body, "control");
    uint64_t version = json_read_number(control, INT32_MAX, 0);
    return version == 0 ? -1 : (int)version;
}

int control_rpc_put_frame(
    struct buf *out, uint8_t type, uint64_t call, const struct span *parts, size_t n)
{
    size_t length = 0;
    for (size_t i = 0; i < n; i++)
        length += parts[i].n;
    if (length > CONTROL_ANSWER_MAX)
        return -E2BIG;
    char *room = buf_room(out, FRAME_HEAD_SIZE + length);
    if (room == NULL)
        return -ENOMEM;
    const struct frame_head head = {.type = type, .call = call, .length = (uint32_t)length};
    frame_head_write(&head, (uint8_t *)room);
    room += FRAME_HEAD_SIZE;
    for (size_t i = 0; i < n; i++) {
        if (parts[i].n > 0)
            memcpy(room, parts[i].p, parts[i].n);
        room += parts[i].n;
    }
    buf_added(out, FRAME_HEAD_SIZE + length);
    return 0;
}

/* Appends a frame whose body has been written, and gives that back. */
static int put_body(struct buf *out, uint8_t type, struct json_writer *body)
{
    const struct span part = {buf_data(&body->out), buf_len(&body->out)};
    int r = body->failed ? -ENOMEM : control_rpc_put_frame(out, type, 0, &part, 1);
    buf_deinit(&body->out);
    return r;
}

int control_rpc_put_hello(struct buf *out, const char *program)
{
    struct json_writer body = {0};
    json_begin(&body, NULL, '{');
    json_add_text(&body, "program", program);
    json_add_text(&body, "version", FRONTD_VERSION);
    json_add_number(&body, "control", CONTROL_PROTOCOL);
    json_end(&body, '}');
    return put_body(out, FRAME_HELLO, &body);
}

int control_rpc_put_goaway(struct buf *out, const char *code, const char *reason)
{
    struct json_writer body = {0};
    json_begin(&body, NULL, '{');
    json_add_text(&body, "reason", code);
    json_add_text(&body, "text", reason);
    json_end(&body, '}');
    return put_body(out, FRAME_GOAWAY, &body);
}
