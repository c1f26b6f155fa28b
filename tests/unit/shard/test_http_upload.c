#include <criterion/criterion.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/support/http_worker.h"

/* Bodies in parts, from the client's bytes to the worker's frames. */

#define GET  "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
#define POST "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"

enum { BODY_TIMEOUT_MS = 10000 };

static struct shardlet shard;
static struct fake_worker worker;
static struct talk talk;

static void set_up(void)
{
    char conf[1024];
    fake_worker_listen(&worker);
    snprintf(conf, sizeof(conf),
        "limits: {body_timeout: %dms, body: 1KiB}\n"
        "listeners:\n"
        "  - name: web\n"
        "    address: 127.0.0.1:8080\n"
        "    routes:\n"
        "      - {path: /, kind: http, pool: app, stream_body: 2KiB, stream_timeout: 1h,\n"
        "         timeout: 1h}\n"
        "pools:\n"
        "  - {name: app, workers: [\"unix:%s\"], worker_timeout: 1h}\n",
        BODY_TIMEOUT_MS, worker.path);
    http_worker_begin(&shard, &worker, &talk, conf,
        "{\"protocol\":1,\"concurrency\":8,\"features\":[\"stream\"]}");
}

static void tear_down(void)
{
    http_worker_end(&shard, &worker, &talk);
}

TestSuite(http_upload, .init = set_up, .fini = tear_down);

static uint64_t take_request(void)
{
    struct frame frame;
    cr_assert_eq(http_worker_next(&shard, &worker, &frame), FRAME_REQUEST);
    return frame.head.call;
}

static void respond(uint64_t call, unsigned flags, const char *headers)
{
    http_worker_respond(&worker, &talk, call, flags, headers);
}

/* How often the text has been answered. */
static int count(const char *text)
{
    int n = 0;
    const char *p = talk.out, *end = talk.out + talk.n;
    while ((p = memmem(p, (size_t)(end - p), text, strlen(text))) != NULL) {
        n++;
        p += strlen(text);
    }
    return n;
}

/* One that is answered before its body has ended, and before its turn, has one answer. */
static void expect_one_answer(uint64_t first)
{
    fake_clock_advance(BODY_TIMEOUT_MS + 100);
    say(&talk, SPAN(""));
    cr_expect_eq(talk.n, 0u);
    respond(first, 0, "");
    cr_expect_eq(count("HTTP/1.1 "), 2, "%.*s", (int)talk.n, talk.out);
    cr_expect_eq(count("Connection: close"), 1);
}

static uint64_t two_at_once(void)
{
    uint64_t first;
    say(&talk, SPAN(GET)); /* answers are known to be small from now on */
    first = take_request();
    respond(first, 0, "");
    talk.n = 0;
    say(&talk, SPAN(GET POST "3\r\nabc\r\n"));
    return take_request();
}

Test(http_upload, early_answer_behind_another)
{
    uint64_t first = two_at_once();
    respond(take_request(), 0, "");
    expect_one_answer(first);
}

Test(http_upload, malformed_behind_another)
{
    uint64_t first = two_at_once();
    (void)take_request();
    say(&talk, SPAN("wrong"));
    expect_one_answer(first);
    cr_expect_eq(count("HTTP/1.1 400 "), 1);
}

Test(http_upload, too_long_behind_another)
{
    static char chunk[4096] = "c00\r\n";
    uint64_t first = two_at_once();
    (void)take_request();
    say(&talk, (struct span){chunk, sizeof(chunk)});
    expect_one_answer(first);
    cr_expect_eq(count("HTTP/1.1 413 "), 1);
}

Test(http_upload, early_parts_behind_another)
{
    uint64_t first = two_at_once();
    uint64_t second = take_request();
    respond(second, FRAME_F_MORE, "");
    fake_worker_send_blob(&worker, FRAME_DATA, 0, second, 3);
    say(&talk, SPAN(""));
    expect_one_answer(first);
    cr_expect_eq(count("3\r\nxxx\r\n0\r\n\r\n"), 1);
}

Test(http_upload, broken_off_behind_another)
{
    uint64_t first = two_at_once();
    uint64_t second = take_request();
    respond(second, FRAME_F_MORE, "");
    fake_worker_send_blob(&worker, FRAME_DATA, FRAME_F_MORE, second, 3);
    fake_worker_send(&worker, FRAME_RESPONSE, 0, second, "{}");
    say(&talk, SPAN(""));
    expect_one_answer(first);
    cr_expect_eq(count("\r\n0\r\n\r\n"), 0);
}

/* ---- Memory --------------------------------------------------------------------------------- */

static bool has_channel(void)
{
    struct pollfd fd = {.fd = worker.fd};
    return poll(&fd, 1, 0) >= 0 && !(fd.revents & (POLLHUP | POLLERR));
}

/* A body in parts that is answered in parts, behind another request. What fails is not seen. */
static void exchange(void)
{
    static char chunk[1024 + 7];
    struct frame frame;
    int n = snprintf(chunk, sizeof(chunk), "400\r\n");
    memset(chunk + n, 'y', 1024);
    memcpy(chunk + n + 1024, "\r\n", 2);
    say(&talk, SPAN(GET POST "3\r\nabc\r\n"));
    (void)send(talk.peer, chunk, sizeof(chunk), MSG_NOSIGNAL);
    say(&talk, SPAN(""));
    uint64_t calls[2] = {0};
    unsigned type;
    for (int i = 0; (type = http_worker_next(&shard, &worker, &frame)) != 0;) {
        if (type == FRAME_REQUEST && i < 2)
            calls[i++] = frame.head.call;
    }
    for (int i = 1; i >= 0; i--) {
        if (calls[i] == 0 || !has_channel())
            continue;
        fake_worker_send(&worker, FRAME_RESPONSE, FRAME_F_MORE, calls[i],
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"status\":200}}");
        fake_worker_send_blob(&worker, FRAME_DATA, FRAME_F_MORE, calls[i], 90000);
        say(&talk, SPAN(""));
    }
    for (int i = 0; i < 2; i++) {
        if (calls[i] != 0 && has_channel())
            fake_worker_send_blob(&worker, FRAME_DATA, 0, calls[i], 10);
        shardlet_turn(&shard);
    }
    (void)send(talk.peer, "0\r\n\r\n", 5, MSG_NOSIGNAL);
    say(&talk, SPAN(""));
}

Test(http_upload_memory, any_allocation_fails)
{
    for (long n = 0; n < 150; n++) {
        set_up();
        mem_fail_after(n);
        exchange();
        mem_fail_after(-1);
        tear_down();
        talk = (struct talk){0};
        worker = (struct fake_worker){0};
    }
}
