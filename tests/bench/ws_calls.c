/*
 * The load of WebSocket calls for `scripts/bench throughput`: connections that each make one call
 * after the other, on one thread with epoll. Prints the line that rpc.lua has wrk print.
 *
 *     bench_ws_calls --connect HOST:PORT --path PATH --connections N --seconds S --call TEXT
 *                    --answer TEXT
 */

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include "common/base.h"
#include "tests/bench/ws_client.h"

enum {
    IN_SIZE = 64 * 1024,
    EVENTS = 512,
    REST_MAX = 4096,       /* of an incomplete answer; a longer answer is no echo */
    LATENCY_MAX = 1 << 20, /* µs; what is later counts as this */
    LATE_MS = 10000,       /* without any answer */
};

struct conn {
    int fd;
    uint64_t sent_at; /* ns */
    size_t have;      /* bytes in `rest` */
    uint8_t rest[REST_MAX];
};

/* What rpc.lua reports of wrk. */
struct result {
    uint64_t requests;
    uint64_t read;    /* connections closed */
    uint64_t timeout; /* calls that were not answered in the end */
    uint64_t status;  /* answers that were wrong */
};

static uint8_t call[WS_TEXT_MAX + WS_HEAD_MAX];
static size_t call_n;
static const char *answer;
static size_t answer_n;
static uint8_t in[IN_SIZE];
static uint64_t latencies[LATENCY_MAX + 1]; /* how many calls took that many µs */
static struct result result;

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void send_call(struct conn *c)
{
    c->sent_at = now_ns();
    ws_send(c->fd, call, call_n);
}

/* Returns 1 when the answer was there, 0 when it is not, -1 when there will be none. */
static int receive(struct conn *c)
{
    const char *text;
    size_t n = c->have, length;
    ssize_t r, got;

    memcpy(in, c->rest, n);
    got = recv(c->fd, in + n, sizeof(in) - n, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN)
        return 0;
    if (got <= 0) {
        result.read++;
        return -1;
    }
    n += (size_t)got;
    r = ws_read(in, n, &text, &length);
    if (r == 0 && n <= sizeof(c->rest)) {
        memcpy(c->rest, in, n);
        c->have = n;
        return 0;
    }
    c->have = 0;
    if (r == (ssize_t)n && length == answer_n && memcmp(text, answer, answer_n) == 0) {
        latencies[MIN((now_ns() - c->sent_at) / 1000, (uint64_t)LATENCY_MAX)]++;
        result.requests++;
        return 1;
    }
    result.status++;
    return -1;
}

static uint64_t percentile(unsigned percent)
{
    uint64_t below = 0, us = 0;

    while (us < LATENCY_MAX && (below += latencies[us]) * 100 <= result.requests * percent)
        us++;
    return us;
}

/* All connections ask at once; each asks again when it is answered, until the time is up. */
static uint64_t run(int ep, struct conn *conns, size_t count, unsigned seconds)
{
    struct epoll_event events[EVENTS];
    uint64_t start = now_ns(), end = start + seconds * UINT64_C(1000000000);
    size_t asked = count;

    for (size_t i = 0; i < count; i++)
        send_call(&conns[i]);
    while (asked > 0) {
        int n = epoll_wait(ep, events, EVENTS, LATE_MS);

        if (n < 0 && errno != EINTR)
            ws_die("epoll_wait", errno);
        if (n == 0)
            break;
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            int r = receive(c);

            if (r > 0 && c->sent_at < end && now_ns() < end) {
                send_call(c);
            } else if (r != 0) {
                (void)epoll_ctl(ep, EPOLL_CTL_DEL, c->fd, NULL);
                asked--;
            }
        }
    }
    result.timeout = asked;
    return now_ns() - start;
}

static struct conn *open_all(int ep, const char *address, const char *path, size_t count)
{
    struct conn *conns = calloc(count, sizeof(conns[0]));

    if (!conns)
        ws_die("connections", ENOMEM);
    for (size_t i = 0; i < count; i++) {
        struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &conns[i]};

        conns[i].fd = ws_open(address, path);
        if (epoll_ctl(ep, EPOLL_CTL_ADD, conns[i].fd, &ev) < 0)
            ws_die("epoll_ctl", errno);
    }
    return conns;
}

int main(int argc, char **argv)
{
    const char *address = NULL, *path = "/", *text = NULL;
    unsigned long connections = 0, seconds = 0;
    uint64_t ns;
    int ep;

    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--connect") == 0)
            address = argv[i + 1];
        else if (strcmp(argv[i], "--path") == 0)
            path = argv[i + 1];
        else if (strcmp(argv[i], "--connections") == 0)
            connections = strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--seconds") == 0)
            seconds = strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--call") == 0)
            text = argv[i + 1];
        else if (strcmp(argv[i], "--answer") == 0)
            answer = argv[i + 1];
    }
    if (!address || !text || !answer || argc % 2 == 0 || connections == 0 || seconds == 0 ||
        strlen(text) > WS_TEXT_MAX) {
        fprintf(stderr, "usage: bench_ws_calls --connect HOST:PORT --path PATH --connections N "
                        "--seconds S --call TEXT --answer TEXT\n");
        return 2;
    }
    call_n = ws_frame(call, text, strlen(text));
    answer_n = strlen(answer);
    ws_raise_descriptor_limit();
    ep = epoll_create1(EPOLL_CLOEXEC);
    if (ep < 0)
        ws_die("epoll", errno);
    ns = run(ep, open_all(ep, address, path, connections), connections, (unsigned)seconds);
    printf("RESULT {\"requests\":%" PRIu64 ",\"duration_us\":%" PRIu64 ",\"p50_us\":%" PRIu64
           ",\"p99_us\":%" PRIu64 ",\"connect\":0,\"read\":%" PRIu64
           ",\"write\":0,\"timeout\":%" PRIu64 ",\"status\":%" PRIu64 "}\n",
        result.requests, ns / 1000, percentile(50), percentile(99), result.read, result.timeout,
        result.status);
    return 0;
}
