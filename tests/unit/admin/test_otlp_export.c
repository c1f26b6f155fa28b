#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/admin/otlp_export.h"
#include "tests/unit/support/descriptors.h"
#include "tests/unit/support/fake_clock.h"

enum { TURNS_MAX = 5000 /* of about a millisecond */ };

#define OK   "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
#define BUSY "HTTP/1.1 503 Busy\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n"

static uv_loop_t loop;
static struct otlp_export export;
static struct conf_tracing conf = {
    .endpoint = (char[]){"http://127.0.0.1"},
    .authority = (char[]){"127.0.0.1:4318"},
    .path = (char[]){"/v1/traces"},
};
static const struct otlp_resource resource = {.instance = "f", .version = "1"};
static int shard;     /* the end that a shard has */
static int listening; /* the collector's */
static int conn = -1;
static char got[1 << 20]; /* what the collector has been sent and not answered */
static size_t ngot;

static void listen_again(void)
{
    socklen_t n = sizeof(conf.address.sock.in);
    listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int one = 1;
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    cr_assert_eq(bind(listening, &conf.address.sock.any, n), 0, "%s", strerror(errno));
    cr_assert_eq(listen(listening, 8), 0);
    cr_assert_eq(getsockname(listening, &conf.address.sock.any, &n), 0);
    conf.address.len = n;
}

static void setup(void)
{
    int pair[2];
    fake_clock_stop();
    conf.address.sock.in = (struct sockaddr_in){
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    listen_again();
    cr_assert_eq(uv_loop_init(&loop), 0);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
    shard = pair[0];
    cr_assert_eq(otlp_export_open(&export, &loop, &conf, &resource, pair[1]), 0);
}

static void teardown(void)
{
    otlp_export_close(&export);
    otlp_export_close(&export);
    cr_assert_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
    cr_assert_eq(uv_loop_close(&loop), 0);
    cr_expect_eq(mem_in_use(), 0);
    close(shard);
    close(listening);
    if (conn >= 0)
        close(conn);
}

TestSuite(otlp_export, .init = setup, .fini = teardown);

static void turn(void)
{
    static const struct timespec pause = {.tv_nsec = 1000000};
    uv_run(&loop, UV_RUN_NOWAIT);
    if (conn < 0)
        conn = accept4(listening, NULL, NULL, SOCK_NONBLOCK);
    ssize_t n = conn < 0 ? -1 : recv(conn, got + ngot, sizeof(got) - 1 - ngot, 0);
    ngot += n > 0 ? (size_t)n : 0;
    got[ngot] = '\0';
    nanosleep(&pause, NULL);
}

/* A request that is complete, whose spans are counted; -1: none is. */
static int spans_of_request(void)
{
    const char *end = strstr(got, "\r\n\r\n");
    const char *length = strstr(got, "Content-Length: ");
    if (end == NULL)
        return -1;
    cr_assert(length != NULL && length < end);
    cr_assert_eq(strncmp(got, "POST /v1/traces HTTP/1.1\r\nHost: 127.0.0.1:4318\r\n", 48), 0);
    if (strlen(end + 4) < strtoul(length + 16, NULL, 10))
        return -1;
    int n = 0;
    for (const char *p = end; (p = strstr(p, "\"spanId\"")) != NULL; p++)
        n++;
    return n;
}

/* Waits for a request; returns how many spans it has. */
static int receive(void)
{
    int n;
    for (int i = 0; (n = spans_of_request()) < 0; i++) {
        cr_assert_lt(i, TURNS_MAX);
        turn();
    }
    return n;
}

static void answer(const char *text)
{
    ngot = 0;
    got[0] = '\0';
    cr_assert_eq(send(conn, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static void hang_up(void)
{
    close(conn);
    conn = -1;
    ngot = 0;
    got[0] = '\0';
}

static void run_until(const uint64_t *counter, uint64_t value)
{
    for (int i = 0; *counter < value; i++) {
        cr_assert_lt(i, TURNS_MAX, "%llu", (unsigned long long)*counter);
        turn();
    }
    cr_expect_eq(*counter, value);
}

/* Nothing is sent in some turns. */
static void expect_quiet(void)
{
    for (int i = 0; i < 20; i++)
        turn();
    cr_expect_eq(ngot, 0, "%s", got);
}

static void record(unsigned n)
{
    struct trace_record record = {.start = 1, .span = {1}, .texts = {[0] = SPAN("m")}};
    for (unsigned i = 0; i < n; i++) {
        struct buf buf = {0};
        cr_assert_eq(trace_record_pack(&buf, &record), 0);
        while (send(shard, buf_data(&buf), buf_len(&buf), MSG_DONTWAIT) < 0) {
            cr_assert_eq(errno, EAGAIN);
            turn();
        }
        buf_deinit(&buf);
    }
    uint32_t most = MIN(export.count + n, (uint32_t)OTLP_WAITING_MAX);
    uint64_t taken = export.exported + export.dropped;
    for (int i = 0; export.count < most && export.exported + export.dropped == taken; i++) {
        if (i > 100)
            break; /* those of a full batch may be on their way */
        turn();
    }
}

Test(otlp_export, spans_gather_for_a_second)
{
    record(3);
    expect_quiet();
    fake_clock_advance(OTLP_BATCH_MS);
    cr_expect_eq(receive(), 3);
    answer(OK);
    run_until(&export.exported, 3);
    cr_expect_eq(export.count, 0);
    record(1);
    fake_clock_advance(OTLP_BATCH_MS);
    cr_expect_eq(receive(), 1, "on the same connection");
    answer("HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n"
           "{\"partialSuccess\":{\"rejectedSpans\":\"1\"}}");
    run_until(&export.dropped, 1);
    cr_expect_eq(export.exported, 3);
}

Test(otlp_export, a_full_batch_goes_at_once)
{
    record(OTLP_BATCH_MAX + 1);
    cr_expect_eq(receive(), OTLP_BATCH_MAX);
    answer(OK);
    run_until(&export.exported, OTLP_BATCH_MAX);
    cr_expect_eq(export.count, 1);
    fake_clock_advance(OTLP_BATCH_MS);
    cr_expect_eq(receive(), 1);
    answer(OK);
    run_until(&export.exported, OTLP_BATCH_MAX + 1);
}

Test(otlp_export, a_busy_collector_is_asked_again_when_it_says)
{
    record(2);
    fake_clock_advance(OTLP_BATCH_MS);
    cr_expect_eq(receive(), 2);
    answer(BUSY);
    expect_quiet();
    fake_clock_advance(4900);
    expect_quiet();
    fake_clock_advance(200);
    cr_expect_eq(receive(), 2);
    answer(OK);
    run_until(&export.exported, 2);
    cr_expect_eq(export.dropped, 0);
}

Test(otlp_export, one_that_stays_busy_is_given_up)
{
    record(1);
    fake_clock_advance(OTLP_BATCH_MS);
    for (int i = 0; i < OTLP_REFUSED_MAX; i++) {
        cr_expect_eq(receive(), 1);
        answer("HTTP/1.1 429 Too Many\r\nContent-Length: 0\r\n\r\n");
        for (int k = 0; k<TURNS_MAX &&export.sent> 0; k++)
            turn();
        fake_clock_advance(OTLP_RETRY_MAX_MS);
    }
    run_until(&export.dropped, 1);
    expect_quiet();
}

Test(otlp_export, what_is_refused_is_dropped)
{
    record(2);
    fake_clock_advance(OTLP_BATCH_MS);
    receive();
    answer("HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n");
    run_until(&export.dropped, 2);
    cr_expect_eq(export.count, 0);
}

Test(otlp_export, a_collector_that_is_not_there)
{
    close(listening);
    record(2);
    fake_clock_advance(OTLP_BATCH_MS);
    expect_quiet();
    cr_expect_eq(export.count, 2);
    cr_expect_eq(export.sent, 0);
    listen_again();
    fake_clock_advance(OTLP_RETRY_FIRST_MS);
    cr_expect_eq(receive(), 2);
    answer(OK);
    run_until(&export.exported, 2);
}

Test(otlp_export, one_that_closed_meanwhile_is_dialled_at_once)
{
    for (int i = 0; i < 2; i++) {
        record(1);
        fake_clock_advance(OTLP_BATCH_MS);
        cr_expect_eq(receive(), 1);
        answer(OK);
        run_until(&export.exported, (uint64_t)i + 1);
        hang_up();
    }
}

Test(otlp_export, one_that_closes_in_the_middle_of_a_request)
{
    record(1);
    fake_clock_advance(OTLP_BATCH_MS);
    receive();
    hang_up();
    expect_quiet();
    fake_clock_advance(OTLP_RETRY_FIRST_MS);
    cr_expect_eq(receive(), 1);
    answer("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    run_until(&export.exported, 1);
}

Test(otlp_export, one_that_never_answers_costs_what_is_bounded)
{
    record(OTLP_WAITING_MAX);
    receive();
    cr_expect_eq(export.count, OTLP_WAITING_MAX);
    record(1);
    run_until(&export.dropped, 1);
    record(7);
    run_until(&export.dropped, 8);
    fake_clock_advance(OTLP_ANSWER_MS);
    for (int i = 0; i<TURNS_MAX &&export.sent> 0; i++)
        turn();
    cr_expect_eq(export.count, OTLP_WAITING_MAX, "they wait");
    hang_up();
    fake_clock_advance(OTLP_RETRY_FIRST_MS);
    for (int i = 0; i < OTLP_WAITING_MAX / OTLP_BATCH_MAX; i++) {
        cr_expect_eq(receive(), OTLP_BATCH_MAX);
        answer(OK);
        run_until(&export.exported, (uint64_t)(i + 1) * OTLP_BATCH_MAX);
    }
    cr_expect_eq(export.count, 0);
}

Test(otlp_export, what_is_no_span)
{
    static const char wrong[] = "\x01\x01\x01";
    cr_assert_eq(send(shard, wrong, 0, 0), 0, "which is not the end");
    cr_assert_eq(send(shard, wrong, sizeof(wrong), 0), (ssize_t)sizeof(wrong));
    record(1);
    fake_clock_advance(OTLP_BATCH_MS);
    cr_expect_eq(receive(), 1);
    answer("SSH-2.0\r\n");
    expect_quiet();
    hang_up();
    fake_clock_advance(OTLP_RETRY_FIRST_MS);
    cr_expect_eq(receive(), 1);
    answer(OK);
    run_until(&export.exported, 1);
}
