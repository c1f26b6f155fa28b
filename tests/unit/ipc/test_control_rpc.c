#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "frontd/ipc/control_rpc.h"
#include "proto/frame.h"

static struct control_rpc_request request;

static int read_text(const char *text)
{
    return control_rpc_read_request((struct span){text, strlen(text)}, &request);
}

static void expect(struct span span, const char *text)
{
    cr_assert(span.n == strlen(text) && memcmp(span.p, text, span.n) == 0, "%.*s, not %s",
        (int)span.n, span.p, text);
}

Test(control_rpc, a_request)
{
    cr_assert(read_text("{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"status\"}") == 0);
    expect(request.id, "7");
    expect(request.method, "status");
    cr_assert(request.params.n == 0);
    cr_assert(
        read_text("{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"log\",\"params\":{\"x\":1}, "
                  "\"more\":[]}") == 0);
    expect(request.id, "\"a\"");
    expect(request.params, "{\"x\":1}");
}

Test(control_rpc, what_is_no_request)
{
    static const struct {
        const char *text;
        int result;
        const char *id;
    } cases[] = {
        {"", CONTROL_RPC_PARSE, "null"},
        {"{", CONTROL_RPC_PARSE, "null"},
        {"7", CONTROL_RPC_INVALID, "null"},
        {"[]", CONTROL_RPC_INVALID, "null"},
        {"{\"id\":7}", CONTROL_RPC_INVALID, "7"},
        {"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":1}", CONTROL_RPC_INVALID, "7"},
        {"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"a\",\"params\":[1]}", CONTROL_RPC_PARAMS, "7"},
        {"[{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"a\"}]", CONTROL_RPC_INVALID, "null"},
        {"[{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"a\"},{\"jsonrpc\":\"2.0\",\"id\":8,"
         "\"method\":"
         "\"a\"}]",
            CONTROL_RPC_INVALID, "null"},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"a\"}", CONTROL_RPC_IGNORE, "null"},
        {"{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":1}", CONTROL_RPC_IGNORE, "null"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int r = read_text(cases[i].text);
        cr_expect(r == cases[i].result, "%s: %d", cases[i].text, r);
        if (r != CONTROL_RPC_IGNORE)
            expect(request.id, cases[i].id);
    }
}

Test(control_rpc, a_hello)
{
    cr_assert(control_rpc_read_hello(SPAN("{\"control\":1,\"program\":\"x\"}")) == 1);
    cr_assert(control_rpc_read_hello(SPAN("{\"control\":2}")) == 2);
    cr_assert(control_rpc_read_hello(SPAN("{\"control\":0}")) == -1);
    cr_assert(control_rpc_read_hello(SPAN("{\"control\":\"1\"}")) == -1);
    cr_assert(control_rpc_read_hello(SPAN("{}")) == -1);
    cr_assert(control_rpc_read_hello(SPAN("[1]")) == -1);
    cr_assert(control_rpc_read_hello(SPAN("{")) == -1);
    cr_assert(control_rpc_read_hello((struct span){NULL, 0}) == -1);
}

Test(control_rpc, what_is_written_can_be_read)
{
    struct buf out = {0};
    struct frame frame;
    size_t used;
    cr_assert(control_rpc_put_hello(&out, "frontd") == 0);
    cr_assert(frame_read(buf_data(&out), buf_len(&out), CONTROL_REQUEST_MAX, &frame, &used) == 0);
    cr_assert(frame.head.type == FRAME_HELLO && used == buf_len(&out));
    cr_assert(control_rpc_read_hello(frame.body) == CONTROL_PROTOCOL);
    buf_deinit(&out);
    cr_assert(control_rpc_put_goaway(&out, "full", "too many") == 0);
    cr_assert(frame_read(buf_data(&out), buf_len(&out), CONTROL_REQUEST_MAX, &frame, &used) == 0);
    cr_assert(frame.head.type == FRAME_GOAWAY);
    expect(frame.body, "{\"reason\":\"full\",\"text\":\"too many\"}");
    buf_deinit(&out);
}

Test(control_rpc, an_answer_at_its_limit)
{
    struct buf out = {0};
    char *text = calloc(1, CONTROL_ANSWER_MAX);
    const struct span parts[] = {{text, CONTROL_ANSWER_MAX - 1}, SPAN("x"), SPAN("y")};
    cr_assert(control_rpc_put_frame(&out, FRAME_RESPONSE, 1, parts, 3) == -E2BIG);
    cr_assert(buf_len(&out) == 0);
    cr_assert(control_rpc_put_frame(&out, FRAME_RESPONSE, 1, parts, 2) == 0);
    cr_assert(buf_len(&out) == FRAME_HEAD_SIZE + CONTROL_ANSWER_MAX);
    buf_deinit(&out);
    free(text);
}
