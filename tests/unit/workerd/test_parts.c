#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/alloc.h"
#include "workerd/call.h"
#include "workerd/worker.h"

enum { MAX_FRAME = 400000 };

/* A worker with one channel, of which the test is the front. What happens is told as text. */
static struct {
    struct workerd *worker;
    struct channel *channel;
    int front;
    struct buf in; /* what the worker has sent */
    struct buf told;
    struct workerd_call *call; /* the last one that has not ended */
    size_t takes;              /* bytes of each part */
    size_t ends_at;            /* the call ends where so much has come; 0: it does not */
    size_t came;
    bool quiet; /* nothing is told: it would take memory */
} bench;

#define tell(...) cr_assert(bench.quiet || buf_printf(&bench.told, __VA_ARGS__) == 0)

static char zeros[4 * MAX_FRAME];

/* Asserts what was told since the last time. */
static void told(const char *what)
{
    cr_assert_eq(buf_append(&bench.told, "", 1), 0);
    cr_assert_str_eq(buf_data(&bench.told), what);
    buf_deinit(&bench.told);
}

static void on_cancel(void *data)
{
    tell("cancel ");
    bench.call = NULL;
    workerd_fail(data, 1, "gone", NULL, 0);
}

static void on_head(struct workerd_call *call, void *data)
{
    (void)data;
    tell("head%zu ", workerd_call_blob(call).n);
    bench.call = call;
    workerd_on_cancel(call, on_cancel, call);
}

static void on_part(struct workerd_call *call, struct workerd_text part, bool last, void *data)
{
    (void)data;
    bench.came += part.n;
    tell("part%zu%s ", part.n, last ? "." : "");
    workerd_took(call, MIN(part.n, bench.takes));
    if (bench.ends_at > 0 && bench.came >= bench.ends_at) {
        bench.call = NULL;
        workerd_reply(call, "true", 4);
    }
}

static void on_room(void *data)
{
    (void)data;
    tell("room%zu ", workerd_http_room(bench.call));
}

/* For bodies that are gathered. */
static void on_whole(struct workerd_call *call, void *data)
{
    (void)data;
    struct workerd_text blob = workerd_call_blob(call);
    bench.came += blob.n;
    tell("whole%zu %.*s ", blob.n, (int)MIN(blob.n, (size_t)10), blob.p);
    workerd_reply(call, "true", 4);
}

/* An answer in parts that is whatever there is memory for. */
static void on_answer(struct workerd_call *call, void *data)
{
    (void)data;
    workerd_on_cancel(call, on_cancel, call);
    int r = workerd_http_begin(call, 200, NULL, 0, NULL, NULL);
    for (int i = 0; i < 3 && r == 0; i++)
        r = workerd_http_send(call, zeros, 10000);
    if (r == 0)
        workerd_http_end(call);
    else
        workerd_fail(call, WORKERD_INTERNAL_ERROR, "as much as there was", NULL, 0);
}

static void turn(void)
{
    for (int i = 0; i < 5; i++)
        uv_run(&bench.worker->loop, UV_RUN_NOWAIT);
}

/* Sends a frame, as far as the worker still reads. */
static void put(const struct frame_head *head, const char *payload)
{
    uint8_t bytes[FRAME_HEAD_SIZE];
    frame_head_write(head, bytes);
    ssize_t n = send(bench.front, bytes, sizeof(bytes), MSG_NOSIGNAL);
    for (size_t at = 0; n >= 0 && at < head->length; at += (size_t)n) {
        n = send(bench.front, payload + at, head->length - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            n = 0;
        turn();
    }
    cr_assert(n >= 0 || bench.quiet);
    turn();
}

static void put_body(uint8_t type, uint64_t call, const char *body)
{
    put(&(struct frame_head){.type = type, .call = call, .length = (uint32_t)strlen(body)}, body);
}

static void data(uint64_t call, size_t n, bool last)
{
    put(&(struct frame_head){.type = FRAME_DATA,
            .flags = last ? 0 : FRAME_F_MORE,
            .call = call,
            .length = (uint32_t)n,
            .blob_len = (uint32_t)n},
        zeros);
}

static void request(uint64_t call, uint8_t flags, const char *method, size_t blob)
{
    char payload[200 + 1000] = {0};
    int n = snprintf(
        payload, 200, "{\"jsonrpc\":\"2.0\",\"id\":%u,\"method\":\"%s\"}", (unsigned)call, method);
    cr_assert_leq(blob, 1000);
    memset(payload + n, 'b', blob);
    put(&(struct frame_head){.type = FRAME_REQUEST,
            .flags = flags,
            .call = call,
            .length = (uint32_t)((size_t)n + blob),
            .blob_len = (uint32_t)blob},
        payload);
}

/* Tells what the worker has sent: DATA that follow each other as one. */
static void read_frames(void)
{
    char bytes[65536];
    size_t together = 0;
    for (ssize_t n; (n = recv(bench.front, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0; turn())
        cr_assert_eq(buf_append(&bench.in, bytes, (size_t)n), 0);
    struct frame frame;
    size_t used;
    while (frame_read(buf_data(&bench.in), buf_len(&bench.in), MAX_FRAME, &frame, &used) == 0) {
        bool more = frame.head.flags & FRAME_F_MORE;
        if (together > 0 && frame.head.type != FRAME_DATA) {
            tell("DATA%zu ", together);
            together = 0;
        }
        together += frame.head.type == FRAME_DATA ? frame.blob.n : 0;
        if (frame.head.type == FRAME_DATA && !more) {
            tell("DATA%zu. ", together);
            together = 0;
        } else if (frame.head.type != FRAME_DATA) {
            tell("%s%s %.*s ", frame_type_text(frame.head.type), more ? "+" : "", (int)frame.body.n,
                frame.body.p);
        }
        buf_consume(&bench.in, used);
    }
    if (together > 0)
        tell("DATA%zu ", together);
}

/* Another front; returns false where there is no memory for it. */
static bool dial(void)
{
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    bench.front = pair[0];
    if (channel_open(bench.worker, pair[1]) < 0)
        return false;
    bench.channel = list_first(&bench.worker->channels, struct channel, node);
    put_body(FRAME_HELLO, 0,
        "{\"protocol\":[1],\"instance\":\"i\",\"max_frame\":400000,\"features\":[\"stream\"]}");
    return true;
}

static void set_up(void)
{
    cr_assert_eq(workerd_new(&bench.worker), 0);
    cr_assert_eq(workerd_set_max_frame(bench.worker, MAX_FRAME), 0);
    cr_assert_eq(workerd_method_parts(bench.worker, "parts", on_head, on_part, NULL), 0);
    cr_assert_eq(workerd_method(bench.worker, "whole", on_whole, NULL), 0);
    cr_assert_eq(workerd_method_parts(bench.worker, "none", on_head, NULL, NULL), -EINVAL);
    cr_assert_eq(workerd_method(bench.worker, "answer", on_answer, NULL), 0);
    cr_assert(dial());
    read_frames();
    cr_assert_not_null(strstr(buf_data(&bench.told), "\"features\":[\"push\",\"stream\"]"));
    buf_deinit(&bench.told);
    bench.takes = SIZE_MAX;
}

static void tear_down(void)
{
    if (bench.front >= 0)
        close(bench.front);
    turn();
    cr_assert_eq(bench.worker->ncalls, 0);
    cr_assert_eq(bench.worker->nchannels, 0);
    workerd_free(bench.worker);
    buf_deinit(&bench.in);
    buf_deinit(&bench.told);
}

TestSuite(parts, .init = set_up, .fini = tear_down);

#define TRUE(id) "RESPONSE {\"jsonrpc\":\"2.0\",\"id\":" id ",\"result\":true} "
#define ERROR(id, code, text)                                                                      \
    "RESPONSE {\"jsonrpc\":\"2.0\",\"id\":" id ",\"error\":{\"code\":" code ",\"message\":\"" text \
    "\"}} "

Test(parts, a_body_as_it_comes)
{
    request(1, FRAME_F_MORE, "parts", 3);
    data(1, 100, false);
    data(1, 0, false);
    bench.ends_at = 1;
    data(1, 50, true);
    read_frames();
    told("head3 part3 part100 part0 part50. " TRUE("1"));
}

Test(parts, a_whole_body_is_one_part)
{
    bench.ends_at = 3;
    request(1, 0, "parts", 3);
    read_frames();
    told("head3 part3. " TRUE("1"));
}

/* The window is full, and open again when enough was taken; more is not asked for before. */
Test(parts, windows_are_given_back)
{
    bench.takes = 0;
    request(1, FRAME_F_MORE, "parts", 0);
    data(1, STREAM_WINDOW, false);
    read_frames();
    told("head0 part262144 ");
    workerd_took(bench.call, STREAM_WINDOW_STEP - 1);
    turn();
    read_frames();
    told("");
    workerd_took(bench.call, 1);
    turn();
    read_frames();
    told("WINDOW {\"bytes\":65536} ");
    bench.takes = bench.ends_at = SIZE_MAX;
    data(1, STREAM_WINDOW_STEP, false);
    told("part65536 ");
    put_body(FRAME_CANCEL, 1, "");
    read_frames();
    told("cancel WINDOW {\"bytes\":65536} " ERROR("1", "-32800", "cancelled"));
}

/* Data beyond the window, or that is no blob, cancel their call, and no other. */
Test(parts, a_front_that_sends_too_much)
{
    bench.takes = 0;
    request(1, FRAME_F_MORE, "parts", 0);
    data(1, STREAM_WINDOW, false);
    data(1, 1, false);
    data(1, 1, true);
    request(2, FRAME_F_MORE, "parts", 0);
    put(&(struct frame_head){.type = FRAME_DATA, .call = 2, .length = 1}, "x");
    request(3, 0, "whole", 1);
    read_frames();
    told("head0 part262144 cancel head0 cancel whole1 b " ERROR("1", "-32800", "cancelled")
            ERROR("2", "-32800", "cancelled") TRUE("3"));
}

/* For no call, one that is over, behind the end of a body, of a notification. */
Test(parts, data_that_means_nothing)
{
    bench.ends_at = 10;
    data(9, 5, false);
    data(0, 5, false);
    request(1, FRAME_F_MORE, "parts", 0);
    data(1, 10, false);
    data(1, 10, true);
    bench.ends_at = 0;
    request(2, FRAME_F_MORE, "parts", 0);
    data(2, 10, true);
    data(2, 10, true);
    request(3, FRAME_F_MORE | FRAME_F_NOTIFY, "parts", 0);
    data(3, 10, true);
    workerd_reply(bench.call, "true", 4);
    turn();
    read_frames();
    told("head0 part10 head0 part10. " TRUE("1") TRUE("2"));
}

Test(parts, a_body_is_gathered)
{
    request(1, FRAME_F_MORE, "who\\u006ce", 10);
    for (int i = 0; i < 3; i++)
        data(1, 70000, false);
    data(1, 0, true);
    request(2, FRAME_F_MORE, "whole", 0);
    data(2, 5, false);
    put_body(FRAME_CANCEL, 2, "");
    data(2, 5, true);
    request(3, FRAME_F_MORE, "none", 0);
    data(3, 5, true);
    read_frames();
    told("whole210010 bbbbbbbbbb WINDOW {\"bytes\":70000} WINDOW {\"bytes\":70000} WINDOW "
         "{\"bytes\":70000} " TRUE("1") ERROR("2", "-32800", "cancelled")
             ERROR("3", "-32601", "method not found"));
}

/* At max_frame, payload and all, and one past it. */
Test(parts, what_is_gathered_has_a_limit)
{
    size_t head = strlen("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"whole\"}");
    for (uint64_t call = 1; call <= 2; call++) {
        request(call, FRAME_F_MORE, "whole", 0);
        data(call, 200000, false);
        data(call, MAX_FRAME - 200000 - head + (call - 1), true);
    }
    read_frames();
    char expected[500];
    snprintf(expected, sizeof(expected), "whole%zu %.10s %s", MAX_FRAME - head, zeros,
        "WINDOW {\"bytes\":200000} " TRUE("1") "WINDOW {\"bytes\":200000} " ERROR(
            "2", "-32603", "the request is too large"));
    told(expected);
}

static void begin(uint64_t call)
{
    const struct workerd_header header = {"x-a", "b"};
    request(call, 0, "parts", 0);
    cr_assert_eq(workerd_http_send(bench.call, "x", 1), -EINVAL);
    cr_assert_eq(workerd_http_room(bench.call), 0);
    cr_assert_eq(workerd_http_begin(bench.call, 200, &header, 1, on_room, NULL), 0);
    cr_assert_eq(workerd_http_begin(bench.call, 200, &header, 1, NULL, NULL), -EALREADY);
    turn();
    read_frames();
    char expected[200];
    snprintf(expected, sizeof(expected),
        "head0 part0. RESPONSE+ {\"jsonrpc\":\"2.0\",\"id\":%u,\"result\":"
        "{\"status\":200,\"headers\":[[\"x-a\",\"b\"]]}} ",
        (unsigned)call);
    told(expected);
}

static void end(void)
{
    struct workerd_call *call = bench.call;
    bench.call = NULL;
    workerd_http_end(call);
    turn();
    read_frames();
}

Test(parts, an_answer)
{
    begin(1);
    cr_assert_eq(workerd_http_send(bench.call, NULL, 0), 0);
    cr_assert_eq(workerd_http_send(bench.call, "abc", 3), 0);
    end();
    told("DATA3. ");
}

/* The largest part, one past it; all of the window, one past it; and what a WINDOW gives. */
Test(parts, an_answer_keeps_to_its_window)
{
    begin(1);
    cr_assert_eq(workerd_http_room(bench.call), WORKERD_PART_MAX);
    cr_assert_eq(workerd_http_send(bench.call, zeros, WORKERD_PART_MAX + 1), -EMSGSIZE);
    cr_assert_eq(workerd_http_send(bench.call, zeros, WORKERD_PART_MAX), 0);
    size_t rest = STREAM_WINDOW - WORKERD_PART_MAX;
    cr_assert_eq(workerd_http_room(bench.call), rest);
    cr_assert_eq(workerd_http_send(bench.call, zeros, rest + 1), -ENOBUFS);
    cr_assert_eq(workerd_http_send(bench.call, zeros, rest), 0);
    cr_assert_eq(workerd_http_send(bench.call, zeros, 1), -ENOBUFS);
    turn();
    read_frames();
    told("DATA262144 ");
    static const char *const nothing[] = {
        "", "[]", "{\"bytes\":-1}", "{\"bytes\":0}", "{\"bytes\":1.5}", "{\"bytes\":", "{}"};
    for (size_t i = 0; i < ARRAY_LEN(nothing); i++)
        put_body(FRAME_WINDOW, 1, nothing[i]);
    put_body(FRAME_WINDOW, 2, "{\"bytes\":5}");
    put_body(FRAME_WINDOW, 1, "{\"bytes\":5}");
    told("room5 ");
    cr_assert_eq(workerd_http_send(bench.call, zeros, 6), -ENOBUFS);
    cr_assert_eq(workerd_http_send(bench.call, zeros, 5), 0);
    end();
    told("DATA5. ");
}

Test(parts, broken_off)
{
    begin(1);
    cr_assert_eq(workerd_http_send(bench.call, "abc", 3), 0);
    workerd_fail(bench.call, 5, "as asked", NULL, 0);
    turn();
    read_frames();
    told("DATA3 " ERROR("1", "5", "as asked"));
    request(2, 0, "parts", 0);
    end();
    told("head0 part0. " ERROR("2", "-32603", "the answer was not begun"));
}

Test(parts, a_cancelled_answer)
{
    begin(1);
    struct workerd_call *call = bench.call;
    workerd_on_cancel(call, NULL, NULL);
    put_body(FRAME_CANCEL, 1, "");
    put_body(FRAME_WINDOW, 1, "{\"bytes\":5}");
    cr_assert_eq(workerd_http_room(call), 0);
    cr_assert_eq(workerd_http_send(call, "abc", 3), -ECANCELED);
    cr_assert_eq(workerd_http_begin(call, 200, NULL, 0, NULL, NULL), -ECANCELED);
    end();
    told(ERROR("1", "-32800", "cancelled"));
    begin(2);
    put_body(FRAME_CANCEL, 2, "");
    read_frames();
    told("cancel " ERROR("2", "-32800", "cancelled"));
}

/* The front is gone: in the middle of bodies, of those that are gathered, and of answers. */
Test(parts, the_channel_closes)
{
    request(1, FRAME_F_MORE, "whole", 5);
    request(2, FRAME_F_MORE, "parts", 5);
    told("head5 part5 ");
    begin(3);
    data(1, 5, false);
    close(bench.front);
    bench.front = -1;
    turn();
    told("cancel cancel ");
}

/*
 * A front with windows that does not read: what waits has its limit, and when it reads, those that
 * want to send are told.
 */
Test(parts, a_front_that_does_not_read)
{
    begin(1);
    put_body(FRAME_WINDOW, 1, "{\"bytes\":2000000000}");
    told("room196608 ");
    size_t sent = 0;
    for (; workerd_http_room(bench.call) > 0 && sent < 100 << 20; turn(), sent += 100000)
        cr_assert_eq(workerd_http_send(bench.call, zeros, 100000), 0);
    cr_assert_lt(sent, (size_t)(8 << 20));
    cr_assert_leq(buf_len(&bench.channel->framed.out), (size_t)FRAMED_OUT_MAX + 100000 + 100);
    cr_assert_eq(workerd_http_send(bench.call, zeros, 1), -ENOBUFS);
    put_body(FRAME_WINDOW, 1, "{\"bytes\":1}"); /* is not read yet: there is no room to answer */
    told("");
    read_frames();
    char expected[100];
    snprintf(expected, sizeof(expected), "room196608 room196608 DATA%zu ", sent);
    told(expected);
    end();
    told("DATA0. ");
}

Test(parts, an_answer_over_max_frame)
{
    static char value[MAX_FRAME + 1];
    memset(value, 'v', MAX_FRAME);
    const struct workerd_header header = {"x-a", value};
    request(1, 0, "parts", 0);
    cr_assert_eq(workerd_http_begin(bench.call, 200, &header, 1, NULL, NULL), -EMSGSIZE);
    cr_assert_eq(workerd_http_begin(bench.call, 204, NULL, 0, NULL, NULL), 0);
    end();
    told("head0 part0. RESPONSE+ "
         "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"status\":204,\"headers\":[]}} DATA0. ");
}

/* One after the other: calls end all the same, or with their channel, each once. */
Test(parts, allocations_that_fail)
{
    bench.quiet = true;
    for (int n = 0; n < 100; n++) {
        close(bench.front);
        turn();
        cr_assert_eq(bench.worker->ncalls + bench.worker->nchannels, 0);
        mem_trim();
        mem_fail_after(n);
        bench.call = NULL;
        bench.came = 0;
        if (dial()) {
            request(1, FRAME_F_MORE, "who\\u006ce", 1000);
            request(2, FRAME_F_MORE, "parts", 1000);
            request(3, 0, "answer", 0);
            data(1, 100000, false);
            data(2, 100000, false);
            data(1, 100, true);
            if (bench.call != NULL)
                workerd_reply(bench.call, "true", 4);
        }
        mem_fail_after(-1);
    }
    cr_assert_eq(bench.came, 101100 + 101000); /* the last of them were enough */
}
