#include <criterion/criterion.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/admin/asker.h"
#include "frontd/ipc/control_rpc.h"
#include "frontd/system/loop.h"
#include "proto/frame.h"
#include "tests/unit/support/descriptors.h"

enum { ROUNDS = 20000 };

static uv_loop_t loop;
static struct asker asker;
static int peer; /* the supervisor's end */
static struct buf heard;
static unsigned lost;
static size_t open_before;
static size_t in_use_before;

/* What has become of one question. */
struct answer {
    unsigned times;
    char result[64];
    char why[64];
};

static void on_done(void *data, struct span result, const char *why)
{
    struct answer *answer = data;
    answer->times++;
    snprintf(answer->result, sizeof(answer->result), "%.*s", (int)result.n,
        result.n == 0 ? "" : result.p);
    snprintf(answer->why, sizeof(answer->why), "%s", why == NULL ? "" : why);
}

static void on_lost(void *data)
{
    (void)data;
    lost++;
}

static void set_up(void)
{
    int pair[2];
    loop_prepare();
    cr_assert_eq(loop_init(&loop), 0); /* the first opens what stays for good */
    cr_assert_eq(uv_loop_close(&loop), 0);
    open_before = open_count();
    in_use_before = mem_in_use();
    cr_assert_eq(loop_init(&loop), 0);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    peer = pair[1];
    cr_assert_eq(asker_open(&asker, &loop, pair[0], on_lost, NULL), 0);
}

static void tear_down(void)
{
    asker_close(&asker);
    uv_run(&loop, UV_RUN_DEFAULT);
    cr_assert_eq(uv_loop_close(&loop), 0);
    close(peer);
    buf_deinit(&heard);
    cr_assert_eq(mem_in_use(), in_use_before);
    cr_assert_eq(open_count(), open_before, "no descriptor is lost");
}

TestSuite(asker, .init = set_up, .fini = tear_down, .timeout = 60);

static void turn(void)
{
    uv_run(&loop, UV_RUN_NOWAIT);
    usleep(200);
}

/* The next frame that the supervisor gets; its type, and its call's number in *ret_call. */
static unsigned hear(uint64_t *ret_call, char *ret_body, size_t size)
{
    struct frame frame;
    size_t used = 0;
    for (int i = 0; i < ROUNDS; i++) {
        if (buf_len(&heard) > 0 &&
            frame_read(buf_data(&heard), buf_len(&heard), 1 << 20, &frame, &used) == 0)
            break;
        char *room = buf_room(&heard, 4096);
        ssize_t n = recv(peer, room, 4096, MSG_DONTWAIT);
        if (n > 0)
            buf_added(&heard, (size_t)n);
        turn();
    }
    cr_assert_gt(used, 0);
    *ret_call = frame.head.call;
    snprintf(ret_body, size, "%.*s", (int)frame.body.n, frame.body.p);
    unsigned type = frame.head.type;
    buf_consume(&heard, used);
    return type;
}

static void say(uint64_t call, const char *body, size_t step)
{
    struct buf out = {0};
    const struct span part = {body, strlen(body)};
    cr_assert_eq(control_rpc_put_frame(&out, FRAME_RESPONSE, call, &part, 1), 0);
    while (buf_len(&out) > 0) {
        size_t n = MIN(step, buf_len(&out));
        cr_assert_eq(send(peer, buf_data(&out), n, 0), (ssize_t)n);
        buf_consume(&out, n);
        turn();
    }
    buf_deinit(&out);
}

static void until(const unsigned *count, unsigned wanted)
{
    for (int i = 0; i < ROUNDS && *count != wanted; i++)
        turn();
    cr_assert_eq(*count, wanted);
}

Test(asker, answers_come_in_any_order_and_in_parts)
{
    struct answer first = {0};
    struct answer second = {0};
    uint64_t calls[2];
    char body[256];
    cr_assert_not_null(asker_ask(&asker, "status", on_done, &first));
    cr_assert_not_null(asker_ask(&asker, "pools", on_done, &second));
    cr_expect_eq(hear(&calls[0], body, sizeof(body)), FRAME_HELLO);
    cr_expect_gt(control_rpc_read_hello((struct span){body, strlen(body)}), 0);
    cr_expect_eq(hear(&calls[0], body, sizeof(body)), FRAME_REQUEST);
    cr_expect_not_null(strstr(body, "\"method\":\"status\""));
    cr_expect_eq(hear(&calls[1], body, sizeof(body)), FRAME_REQUEST);
    cr_expect_not_null(strstr(body, "\"method\":\"pools\""));
    say(calls[1], "{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{\"b\":2}}", 1);
    until(&second.times, 1);
    cr_expect_str_eq(second.result, "{\"b\":2}");
    say(calls[0], "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32601,\"message\":\"no\"}}",
        1000);
    until(&first.times, 1);
    cr_expect_str_eq(first.result, "");
    cr_expect_str_eq(first.why, "the supervisor does not know that");
    say(calls[0], "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1}", 1000); /* once more: nobody asks */
    turn();
    cr_expect_eq(first.times, 1);
    cr_expect_eq(lost, 0);
}

Test(asker, a_supervisor_that_does_not_answer)
{
    struct answer answer = {0};
    struct answer cancelled = {0};
    asker.wait = 30;
    cr_assert_not_null(asker_ask(&asker, "status", on_done, &answer));
    asker_cancel(&asker, asker_ask(&asker, "pools", on_done, &cancelled));
    until(&answer.times, 1);
    cr_expect_str_eq(answer.why, "the supervisor does not answer");
    cr_expect_eq(cancelled.times, 0);
    cr_expect_eq(lost, 0);
}

Test(asker, a_supervisor_that_is_gone)
{
    struct answer answers[2] = {0};
    cr_assert_not_null(asker_ask(&asker, "status", on_done, &answers[0]));
    cr_assert_not_null(asker_ask(&asker, "status", on_done, &answers[1]));
    shutdown(peer, SHUT_RDWR);
    until(&lost, 1);
    cr_expect_eq(answers[0].times, 1);
    cr_expect_str_eq(answers[1].why, "the supervisor is gone");
    cr_expect_null(asker_ask(&asker, "status", on_done, &answers[0]));
}

Test(asker, what_is_no_frame)
{
    cr_assert_eq(send(peer, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 38, 0), 38);
    until(&lost, 1);
}

Test(asker, questions_at_the_limit)
{
    struct answer answers[ASKER_QUESTIONS_MAX] = {0};
    for (size_t i = 0; i < ASKER_QUESTIONS_MAX; i++)
        cr_assert_not_null(asker_ask(&asker, "status", on_done, &answers[i]));
    cr_expect_null(asker_ask(&asker, "status", on_done, &answers[0]));
    uint64_t call;
    char body[256];
    hear(&call, body, sizeof(body)); /* HELLO */
    hear(&call, body, sizeof(body));
    say(call, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":true}", 1000);
    until(&answers[0].times, 1);
    cr_expect_not_null(asker_ask(&asker, "status", on_done, &answers[0]));
}

/* A supervisor that is stopped reads nothing: what is given up must not gather for it. */
Test(asker, one_that_does_not_read)
{
    struct answer answer = {0};
    char trash[4096];
    unsigned n = 0;
    for (struct ask *ask; n < ASKER_OUT_MAX; n++) {
        ask = asker_ask(&asker, "status", on_done, &answer);
        if (ask == NULL)
            break;
        asker_cancel(&asker, ask);
    }
    cr_expect_geq(buf_len(&asker.out), (size_t)ASKER_OUT_MAX, "%u questions", n);
    cr_expect_lt(buf_len(&asker.out), (size_t)ASKER_OUT_MAX + 256);
    for (int i = 0; i < ROUNDS && buf_len(&asker.out) > 0; i++) {
        turn();
        while (recv(peer, trash, sizeof(trash), MSG_DONTWAIT) > 0)
            ;
    }
    cr_expect_not_null(asker_ask(&asker, "status", on_done, &answer));
}
