/*
 * The normal clients of `scripts/bench fairness`: connections that make one call after the other,
 * with a pause in between, on one thread with epoll. For each line on its standard input, which is
 * a time in ms, it makes calls for so long and prints a line:
 *
 *     RESULT {"calls":…,"refused":…,"failed":…,"p50_us":…,"p99_us":…,"longest_us":…}
 *
 * A call counts from when it was due: when this program is late, it is longer for that. A refused
 * one was answered with 503 or an error -32001; one that failed in any other way, and one that was
 * not answered in the end, failed.
 *
 *     bench_fair_calls --connect HOST:PORT --path PATH --ws-path PATH --http N --websockets N
 *                      --pause-us N --call TEXT
 */

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/base.h"
#include "tests/bench/flood_client.h"
#include "tests/bench/ws_client.h"

enum {
    EVENTS = 256,
    IN_SIZE = 16 * 1024,   /* an answer is far shorter */
    LATENCY_MAX = 1 << 22, /* µs; what is later counts as this */
};

static const int64_t late_ns = 10000000000; /* for answers that are still to come at the end */

struct conn {
    int fd;
    bool websocket;
    bool waiting; /* for an answer */
    uint64_t due; /* ns, of the call that is on its way, or else of the next */
    size_t have;
    char in[IN_SIZE];
};

struct result {
    uint64_t calls;
    uint64_t refused;
    uint64_t failed;
};

static const char *address;
static const char *path = "/";
static const char *ws_path = "/";
static struct flood_text http_call;
static uint8_t ws_call_bytes[WS_TEXT_MAX + WS_HEAD_MAX];
static size_t ws_call_n;
static uint64_t pause_ns;
static int ep;
static uint32_t latencies[LATENCY_MAX + 1];
static struct result result;

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Between half the pause and one and a half: in step they would be a burst. */
static uint64_t some_pause(void)
{
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return pause_ns / 2 + state % (pause_ns + 1);
}

static void open_conn(struct conn *c)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    c->fd = c->websocket ? ws_open(address, ws_path) : flood_connect(address);
    c->waiting = false;
    c->have = 0;
    if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev) < 0)
        ws_die("epoll_ctl", errno);
}

static void send_call(struct conn *c)
{
    c->waiting = true;
    if (c->websocket)
        ws_send(c->fd, ws_call_bytes, ws_call_n);
    else
        ws_send(c->fd, http_call.p, http_call.n);
}

/* Bytes of the answer at the beginning of what came, 0 where it is incomplete, or -1. */
static ssize_t answer_length(const struct conn *c)
{
    const char *text;
    size_t n;
    if (c->websocket)
        return ws_read((const uint8_t *)c->in, c->have, &text, &n);
    const char *end = memmem(c->in, c->have, "\r\n\r\n", 4);
    if (end == NULL)
        return 0;
    const char *field = memmem(c->in, (size_t)(end - c->in), "\r\nContent-Length: ", 18);
    if (field == NULL)
        return -1;
    n = (size_t)(end - c->in) + 4 + strtoul(field + 18, NULL, 10);
    return n <= c->have ? (ssize_t)n : 0;
}

static void take_answer(struct conn *c, size_t n)
{
    uint64_t took = (now_ns() - c->due) / 1000;
    result.calls++;
    if (memmem(c->in, n, "\"result\"", 8) != NULL)
        latencies[MIN(took, (uint64_t)LATENCY_MAX)]++;
    else if (memmem(c->in, n, "-32001", 6) != NULL)
        result.refused++;
    else
        result.failed++;
    memmove(c->in, c->in + n, c->have - n);
    c->have -= n;
    c->waiting = false;
    c->due = now_ns() + some_pause();
}

static void receive(struct conn *c)
{
    ssize_t got = recv(c->fd, c->in + c->have, sizeof(c->in) - c->have, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN)
        return;
    c->have += got > 0 ? (size_t)got : 0;
    ssize_t n = answer_length(c);
    if (got > 0 && n == 0 && c->have < sizeof(c->in))
        return;
    if (got > 0 && n > 0 && c->waiting) {
        take_answer(c, (size_t)n);
        return;
    }
    result.calls += c->waiting;
    result.failed += c->waiting;
    close(c->fd);
    open_conn(c);
    c->due = now_ns() + some_pause();
}

/* Sends what is due before `end`. Returns the ns until the next is; -1: no call is on its way. */
static int64_t send_due(struct conn *conns, size_t count, uint64_t end)
{
    uint64_t now = now_ns();
    uint64_t next = UINT64_MAX;
    bool waiting = false;
    for (size_t i = 0; i < count; i++) {
        if (!conns[i].waiting && conns[i].due <= now && now < end)
            send_call(&conns[i]);
        if (!conns[i].waiting && now < end && conns[i].due < end)
            next = MIN(next, conns[i].due);
        waiting = waiting || conns[i].waiting;
    }
    if (next != UINT64_MAX)
        return next <= now ? 0 : (int64_t)(next - now);
    return waiting ? late_ns : -1;
}

static uint64_t percentile(uint64_t answered, unsigned percent)
{
    uint64_t below = 0;
    uint64_t us = 0;
    while (us < LATENCY_MAX && (below += latencies[us]) * 100 < answered * percent)
        us++;
    return us;
}

static void run(struct conn *conns, size_t count, uint64_t ms)
{
    struct epoll_event events[EVENTS];
    uint64_t start = now_ns();
    uint64_t end = start + ms * 1000000;
    int64_t wait;
    memset(latencies, 0, sizeof(latencies));
    result = (struct result){0};
    for (size_t i = 0; i < count; i++)
        conns[i].due = start + some_pause();
    while ((wait = send_due(conns, count, end)) >= 0) {
        struct timespec timeout = {wait / 1000000000, wait % 1000000000};
        int n = epoll_pwait2(ep, events, EVENTS, &timeout, NULL); /* ms would be too coarse */
        if (n < 0 && errno != EINTR)
            ws_die("epoll_pwait2", errno);
        if (n == 0 && wait == late_ns)
            break;
        for (int i = 0; i < n; i++)
            receive(events[i].data.ptr);
    }
    for (size_t i = 0; i < count; i++) {
        if (!conns[i].waiting)
            continue;
        result.calls++;
        result.failed++;
        close(conns[i].fd);
        open_conn(&conns[i]);
    }
    uint64_t answered = result.calls - result.refused - result.failed;
    printf("RESULT {\"calls\":%" PRIu64 ",\"refused\":%" PRIu64 ",\"failed\":%" PRIu64
           ",\"p50_us\":%" PRIu64 ",\"p99_us\":%" PRIu64 ",\"longest_us\":%" PRIu64 "}\n",
        result.calls, result.refused, result.failed, percentile(answered, 50),
        percentile(answered, 99), percentile(answered, 100));
    fflush(stdout);
}

int main(int argc, char **argv)
{
    const char *call = NULL;
    size_t http = 0;
    size_t websockets = 0;
    char line[64];
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--connect") == 0)
            address = argv[i + 1];
        else if (strcmp(argv[i], "--path") == 0)
            path = argv[i + 1];
        else if (strcmp(argv[i], "--ws-path") == 0)
            ws_path = argv[i + 1];
        else if (strcmp(argv[i], "--http") == 0)
            http = strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--websockets") == 0)
            websockets = strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--pause-us") == 0)
            pause_ns = strtoull(argv[i + 1], NULL, 10) * 1000;
        else if (strcmp(argv[i], "--call") == 0)
            call = argv[i + 1];
    }
    size_t count = http + websockets;
    if (address == NULL || call == NULL || argc % 2 == 0 || count == 0 || pause_ns == 0 ||
        strlen(call) > WS_TEXT_MAX) {
        fprintf(stderr, "usage: bench_fair_calls --connect HOST:PORT --path PATH --ws-path PATH "
                        "--http N --websockets N --pause-us N --call TEXT\n");
        return 2;
    }
    flood_request(&http_call, path, call, 1);
    ws_call_n = ws_frame(ws_call_bytes, call, strlen(call));
    ws_raise_descriptor_limit();
    struct conn *conns = calloc(count, sizeof(conns[0]));
    ep = epoll_create1(EPOLL_CLOEXEC);
    if (conns == NULL || ep < 0)
        ws_die("connections", errno);
    for (size_t i = 0; i < count; i++) {
        conns[i].websocket = i >= http;
        open_conn(&conns[i]);
    }
    printf("READY\n");
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin) != NULL)
        run(conns, count, strtoull(line, NULL, 10));
    return 0;
}
