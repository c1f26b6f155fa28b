/*
 * What a front sends about bodies in parts, and what handlers do meanwhile, three bytes a step: no
 * window is overdrawn, and every call has one end.
 */

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/log.h"
#include "proto/json_read.h"
#include "workerd/call.h"
#include "workerd/dispatch.h"
#include "workerd/worker.h"

enum { CALLS = 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A call as its front sees it, and as its handler does. */
static struct {
    bool open;     /* its answer has not ended */
    bool begun;    /* its answer goes in parts */
    bool gathered; /* its handler wants the body whole */
    uint64_t credit;
    uint64_t sent; /* by the worker: DATA */
    uint64_t came; /* to the worker: DATA */
    uint64_t told; /* by WINDOW */
    struct workerd_call *held;
} calls[CALLS + 2];

static uint64_t last;
static bool keeps; /* handlers of calls that are cancelled end them later */
static struct workerd *worker;
static struct channel *channel;
static char bytes[1 << 19];

static void on_cancel(void *call)
{
    if (keeps)
        return;
    calls[workerd_call_number(call)].held = NULL;
    workerd_fail(call, WORKERD_CANCELLED, "cancelled", NULL, 0);
}

static void on_head(struct workerd_call *call, void *data)
{
    (void)data;
    CHECK(calls[workerd_call_number(call)].held == NULL);
    calls[workerd_call_number(call)].held = call;
    workerd_on_cancel(call, on_cancel, call);
}

static void on_part(struct workerd_call *call, struct workerd_text part, bool is_last, void *data)
{
    (void)data;
    CHECK(calls[workerd_call_number(call)].held == call && (part.n > 0 || is_last));
    if (part.n % 2 == 1)
        workerd_took(call, part.n);
}

static void open_worker(void)
{
    static const char hello[] = "{\"protocol\":[1],\"instance\":\"i\",\"max_frame\":70000}";
    const struct frame frame = {{.type = FRAME_HELLO}, .body = {hello, sizeof(hello) - 1}};
    int pair[2];
    if (worker == NULL) {
        log_init(LOG_ERROR, LOG_TEXT, "fuzz");
        CHECK(workerd_new(&worker) == 0);
        CHECK(workerd_method_parts(worker, "parts", on_head, on_part, NULL) == 0);
        CHECK(workerd_method(worker, "whole", on_head, NULL) == 0);
        CHECK(workerd_set_max_frame(worker, 400000) == 0);
    }
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
    close(pair[0]);
    CHECK(channel_open(worker, pair[1]) == 0);
    channel = list_first(&worker->channels, struct channel, node);
    dispatch_frame(channel, &frame);
    buf_deinit(&channel->framed.out);
    memset(calls, 0, sizeof(calls));
    last = 0;
    keeps = false;
}

static void request(bool gathered, bool more, size_t n)
{
    static const char method[2][48] = {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"parts\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"whole\"}"};
    if (last == CALLS)
        return;
    size_t body = strlen(method[gathered]);
    memcpy(bytes, method[gathered], body);
    calls[++last].open = true;
    calls[last].gathered = gathered && more;
    const struct frame frame = {{.call = last,
                                    .type = FRAME_REQUEST,
                                    .flags = more ? FRAME_F_MORE : 0,
                                    .length = (uint32_t)(body + n),
                                    .blob_len = (uint32_t)n},
        .meta = {bytes, 0}, .body = {bytes, body}, .blob = {bytes + body, n}};
    dispatch_frame(channel, &frame);
}

static void from_front(uint8_t type, uint8_t flags, uint64_t call, struct span body, size_t blob)
{
    const struct frame frame = {
        {.call = call, .type = type, .flags = flags}, .body = body, .blob = {bytes, blob}};
    if (type == FRAME_DATA)
        calls[call].came += blob;
    dispatch_frame(channel, &frame);
}

static void window(uint64_t call, size_t n)
{
    char text[32];
    int length = snprintf(text, sizeof(text), "{\"bytes\":%zu}", n);
    if (calls[call].begun && calls[call].open)
        calls[call].credit += n;
    from_front(FRAME_WINDOW, 0, call, (struct span){text, (size_t)length}, 0);
}

/* Ends a call that a handler holds. */
static void end(uint64_t call, bool complete)
{
    struct workerd_call *held = calls[call].held;
    calls[call].held = NULL;
    if (complete)
        workerd_http_end(held);
    else
        workerd_reply(held, "1", 1);
}

static void step(const uint8_t *what)
{
    uint64_t call = what[1] % (last + 2);
    size_t n = (size_t)what[2] * 1100 + what[1];
    struct workerd_call *held = calls[call].held;
    switch (what[0] % 13) {
    case 0: request(false, true, n); break;
    case 1: request(true, true, n); break;
    case 2: request(what[1] % 2, false, n); break;
    case 3: from_front(FRAME_DATA, FRAME_F_MORE, call, (struct span){NULL, 0}, n); break;
    case 4: from_front(FRAME_DATA, 0, call, (struct span){NULL, 0}, n); break;
    case 5: window(call, n); break;
    case 6: from_front(FRAME_CANCEL, 0, call, (struct span){NULL, 0}, 0); break;
    case 7: keeps = !keeps; break;
    case 8:
        if (held != NULL)
            workerd_http_begin(held, 200, NULL, 0, NULL, NULL);
        break;
    case 9:
        if (held != NULL && workerd_http_room(held) >= n && n <= WORKERD_PART_MAX)
            CHECK(workerd_http_send(held, bytes, n) == 0 || !calls[call].begun || n == 0 ||
                  workerd_call_cancelled(held));
        else if (held != NULL)
            CHECK(workerd_http_send(held, bytes, n) < 0);
        break;
    case 10:
        if (held != NULL)
            workerd_took(held, n);
        break;
    default:
        if (held != NULL)
            end(call, what[0] % 13 == 11);
    }
}

/* What the worker has sent, frame by frame. */
static void check_out(void)
{
    struct buf *out = &channel->framed.out;
    struct frame frame;
    size_t used;
    while (frame_read(buf_data(out), buf_len(out), 400000, &frame, &used) == 0) {
        uint64_t call = frame.head.call;
        CHECK(call >= 1 && call <= last && calls[call].open && frame.head.length <= 70000);
        bool more = frame.head.flags & FRAME_F_MORE;
        if (frame.head.type == FRAME_WINDOW) {
            struct span n = json_read_member(frame.body, "bytes");
            calls[call].told += json_read_number(n, UINT32_MAX, 0);
            CHECK(calls[call].told <= calls[call].came);
        } else if (frame.head.type == FRAME_DATA) {
            CHECK(calls[call].begun && frame.body.n == 0);
            calls[call].sent += frame.blob.n;
            CHECK(calls[call].sent <= calls[call].credit);
            calls[call].open = more;
        } else {
            CHECK(frame.head.type == FRAME_RESPONSE && !(more && calls[call].begun));
            calls[call].begun = true;
            calls[call].credit = STREAM_WINDOW;
            calls[call].open = more;
        }
        buf_consume(out, used);
    }
    CHECK(buf_len(out) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    open_worker();
    for (; size >= 3; data += 3, size -= 3) {
        step(data);
        check_out();
    }
    for (uint64_t call = 1; call <= last && size > 0; call++) {
        if (calls[call].held != NULL)
            end(call, true);
        check_out();
        CHECK(!calls[call].open || calls[call].gathered);
    }
    channel_close(channel);
    for (uint64_t call = 1; call <= last; call++) {
        if (calls[call].held != NULL)
            end(call, false);
    }
    CHECK(worker->ncalls == 0);
    uv_run(&worker->loop, UV_RUN_NOWAIT);
    CHECK(worker->nchannels == 0);
    return 0;
}
