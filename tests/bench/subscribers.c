/*
 * The clients of `scripts/bench push`: one connection that asks for messages, and many that get
 * every one. It opens them, prints READY, and makes a run for each line on standard input:
 *
 *     SECONDS WINDOW PAUSE_MS
 *
 * At most WINDOW messages are on their way: message n is asked for when every subscriber has
 * message n - WINDOW, and PAUSE_MS later. Each subscriber must get each message once and in order;
 * the program ends with 1 as soon as one does not. A run prints RESULT and an object in one line.
 *
 *     bench_subscribers --connect HOST:PORT --path PATH --subscribers N
 */

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "common/base.h"
#include "tests/bench/push_message.h"
#include "tests/bench/ws_client.h"

enum {
    IN_SIZE = 64 * 1024,
    EVENTS = 512,
    REST_MAX = 256, /* of an incomplete frame */
    WINDOW_MAX = 1024,
    LOST_MS = 10000, /* without any message while some are on their way */
    LATENCIES = 1 << 20,
};

struct subscriber {
    int fd;
    uint32_t last; /* number of the message that came last */
    size_t have;   /* bytes in `rest` */
    uint8_t rest[REST_MAX];
};

static struct subscriber *subscribers;
static size_t nsubscribers;
static int control; /* asks for messages */
static int ep;

static uint32_t asked;             /* messages up to this number were asked for */
static uint32_t finished;          /* those up to this number have reached everybody */
static size_t reached[WINDOW_MAX]; /* subscribers that have message n, at n % WINDOW_MAX */
static uint64_t *latencies;        /* of this run, ns */
static size_t nlatencies;
static uint8_t in[IN_SIZE];

/* Message by message, so that what finishes does so in order. */
static void take(struct subscriber *s, const char *text, size_t n)
{
    uint32_t number = n == PUSH_BYTES ? push_message_number(text) : 0;

    if (number != s->last + 1 || number > asked) {
        fprintf(stderr, "message %" PRIu32 " instead of %" PRIu32 "\n", number, s->last + 1);
        exit(1);
    }
    s->last = number;
    if (++reached[number % WINDOW_MAX] < nsubscribers)
        return;
    reached[number % WINDOW_MAX] = 0;
    finished = number;
    if (nlatencies < LATENCIES)
        latencies[nlatencies++] = push_now_ns() - push_message_time(text);
}

static void receive(struct subscriber *s)
{
    size_t n = s->have, used = 0, length;
    const char *text;
    ssize_t r, got;

    memcpy(in, s->rest, n);
    got = recv(s->fd, in + n, sizeof(in) - n, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0)
        ws_die("a subscriber was closed", got < 0 ? errno : 0);
    n += (size_t)got;
    while ((r = ws_read(in + used, n - used, &text, &length)) > 0) {
        take(s, text, length);
        used += (size_t)r;
    }
    if (r < 0 || n - used > sizeof(s->rest))
        ws_die("not a message", 0);
    s->have = n - used;
    memcpy(s->rest, in + used, s->have);
}

static void ask(uint32_t upto)
{
    uint8_t out[128 + WS_HEAD_MAX];
    char text[128];
    int n = snprintf(text, sizeof(text),
        "{\"jsonrpc\":\"2.0\",\"method\":\"bench.publish\",\"params\":{\"upto\":%" PRIu32 "}}",
        upto);

    asked = upto;
    ws_send(control, out, ws_frame(out, text, (size_t)n));
}

static int compare(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void print_result(uint32_t messages, uint64_t ns)
{
    qsort(latencies, nlatencies, sizeof(latencies[0]), compare);
    printf("RESULT {\"messages\":%" PRIu32 ",\"deliveries\":%" PRIu64 ",\"duration_us\":%" PRIu64
           ",\"p50_us\":%" PRIu64 ",\"p99_us\":%" PRIu64 "}\n",
        messages, (uint64_t)messages * nsubscribers, ns / 1000, latencies[nlatencies / 2] / 1000,
        latencies[nlatencies * 99 / 100] / 1000);
    fflush(stdout);
}

/* One turn of at most `ms`; returns how many connections had something. */
static int turn(int ms)
{
    struct epoll_event events[EVENTS];
    int n = epoll_wait(ep, events, EVENTS, ms);

    if (n < 0 && errno != EINTR)
        ws_die("epoll_wait", errno);
    for (int i = 0; i < n; i++)
        receive(events[i].data.ptr);
    return n;
}

static void run(double seconds, uint32_t window, uint32_t pause_ms)
{
    uint32_t first = finished;
    uint64_t start = push_now_ns(), end = start + (uint64_t)(seconds * 1e9), now = start;
    uint64_t due = start;

    nlatencies = 0;
    do {
        uint32_t before = finished;
        bool more = now < end && asked < finished + window;

        if (more && now >= due)
            ask(finished + window);
        if (turn(asked > finished ? LOST_MS : (int)pause_ms) == 0 && asked > finished)
            ws_die("messages were lost", ETIMEDOUT);
        now = push_now_ns();
        if (finished > before)
            due = now + pause_ms * UINT64_C(1000000);
    } while (now < end || asked > finished);
    print_result(finished - first, now - start);
}

static void open_all(const char *address, const char *path)
{
    static const char call[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"bench.subscribe\"}";

    subscribers = calloc(nsubscribers, sizeof(subscribers[0]));
    latencies = malloc(LATENCIES * sizeof(latencies[0]));
    ep = epoll_create1(EPOLL_CLOEXEC);
    if (!subscribers || !latencies || ep < 0)
        ws_die("subscribers", errno);
    for (size_t i = 0; i < nsubscribers; i++) {
        struct subscriber *s = &subscribers[i];
        struct epoll_event ev = {.events = EPOLLIN, .data.ptr = s};

        s->fd = ws_open(address, path);
        ws_call(s->fd, call);
        if (epoll_ctl(ep, EPOLL_CTL_ADD, s->fd, &ev) < 0)
            ws_die("epoll_ctl", errno);
    }
    control = ws_open(address, path);
}

int main(int argc, char **argv)
{
    const char *address = NULL, *path = "/";
    char line[128];
    double seconds;
    unsigned window, pause_ms;

    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--connect") == 0)
            address = argv[i + 1];
        else if (strcmp(argv[i], "--path") == 0)
            path = argv[i + 1];
        else if (strcmp(argv[i], "--subscribers") == 0)
            nsubscribers = strtoul(argv[i + 1], NULL, 10);
    }
    if (!address || argc % 2 == 0 || nsubscribers == 0) {
        fprintf(
            stderr, "usage: bench_subscribers --connect HOST:PORT --path PATH --subscribers N\n");
        return 2;
    }
    ws_raise_descriptor_limit();
    open_all(address, path);
    printf("READY\n");
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin)) {
        if (sscanf(line, "%lf %u %u", &seconds, &window, &pause_ms) != 3 || window < 1 ||
            window >= WINDOW_MAX || pause_ms > LOST_MS)
            ws_die("a run is: SECONDS WINDOW PAUSE_MS", 0);
        run(seconds, window, pause_ms);
    }
    return 0;
}
