/*
 * The load of `scripts/bench queue` and `overload`: first so many calls one after the other
 * (ALONE), whose time beyond what the worker says is that of the way there and back; then calls
 * that come at random (Poisson), whatever became of those before, each on a connection that has
 * none in progress. A call's wait is what it took beyond the worker's time and the way. With 0
 * CALLS_A_SECOND each connection makes a call as soon as the one before has ended.
 *
 *     bench_queue_load PORT PATH CONNECTIONS CALLS_A_SECOND SECONDS SEED ALONE
 */

#include <arpa/inet.h>
#include <inttypes.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>

enum {
    EVENTS = 64,
    ANSWER_MAX = 2048,
    LAST_NS = 2000000000, /* for the calls that are under way at the end */
};

struct conn {
    int fd;
    uint64_t sent_at; /* ns; 0: it has no call */
    char answer[ANSWER_MAX];
    size_t n;
};

/* Times of calls, us. */
struct times {
    double *us;
    size_t n, room;
};

static struct conn *conns;
static size_t nconns, busy;
static int epoll;
static struct times waits, takes, refusals; /* takes: of the same calls as waits, all together */
static char request[512];
static size_t request_n;
static double way_us, served_us;
static uint64_t late, wrong, missed; /* late: the deadline has passed */
static bool again;                   /* a connection makes its next call as soon as it can */

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void add(struct times *times, double us)
{
    if (times->n == times->room) {
        times->room = times->room == 0 ? 1024 : 2 * times->room;
        times->us = realloc(times->us, times->room * sizeof(*times->us));
        if (times->us == NULL)
            die("realloc");
    }
    times->us[times->n++] = us;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts them; 0 where there are none. */
static double quantile(struct times *times, double part)
{
    if (times->n == 0)
        return 0;
    qsort(times->us, times->n, sizeof(*times->us), by_size);
    return times->us[(size_t)(part * (double)(times->n - 1))];
}

static double mean(const struct times *times)
{
    double sum = 0;
    for (size_t i = 0; i < times->n; i++)
        sum += times->us[i];
    return times->n == 0 ? 0 : sum / (double)times->n;
}

static void open_one(struct conn *conn, uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = conn};
    int one = 1;
    conn->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (conn->fd < 0 || connect(conn->fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0 ||
        epoll_ctl(epoll, EPOLL_CTL_ADD, conn->fd, &wanted) < 0)
        die("connect");
}

static void make_request(const char *path)
{
    static const char body[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"work\"}";
    int n = snprintf(request, sizeof(request),
        "POST %s HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
        "Content-Length: %zu\r\n\r\n%s",
        path, sizeof(body) - 1, body);
    if (n < 0 || (size_t)n >= sizeof(request)) {
        fprintf(stderr, "the path is too long\n");
        exit(2);
    }
    request_n = (size_t)n;
}

static void ask(struct conn *conn)
{
    conn->n = 0;
    conn->sent_at = now_ns();
    busy++;
    if (send(conn->fd, request, request_n, MSG_NOSIGNAL) != (ssize_t)request_n)
        die("send");
}

static void read_answer(struct conn *conn)
{
    ssize_t got = recv(conn->fd, conn->answer + conn->n, sizeof(conn->answer) - 1 - conn->n, 0);
    if (got <= 0) {
        fprintf(stderr, "the connection was closed\n");
        exit(1);
    }
    conn->n += (size_t)got;
    conn->answer[conn->n] = '\0';
    const char *body = strstr(conn->answer, "\r\n\r\n");
    if (body == NULL || conn->answer[conn->n - 1] != '}')
        return;
    double took = (double)(now_ns() - conn->sent_at) / 1000;
    const char *result = strstr(body, "\"result\":");
    conn->sent_at = 0;
    busy--;
    if (result != NULL) {
        double served = atof(result + strlen("\"result\":"));
        served_us += served;
        add(&takes, took);
        add(&waits, took - served - way_us);
    } else if (strncmp(conn->answer, "HTTP/1.1 503 ", 13) == 0) {
        add(&refusals, took);
    } else if (strncmp(conn->answer, "HTTP/1.1 504 ", 13) == 0) {
        late++;
    } else {
        wrong++;
    }
    if (again)
        ask(conn);
}

/* Reads answers until then. */
static void listen_until(uint64_t until)
{
    struct epoll_event ready[EVENTS];
    uint64_t now = now_ns();
    uint64_t left = until > now ? until - now : 0;
    struct timespec t = {(time_t)(left / 1000000000), (long)(left % 1000000000)};
    int n = epoll_pwait2(epoll, ready, EVENTS, &t, NULL);
    for (int i = 0; i < n; i++)
        read_answer(ready[i].data.ptr);
}

static void alone(size_t calls)
{
    for (size_t i = 0; i < calls; i++) {
        ask(&conns[i % nconns]);
        while (busy > 0)
            listen_until(now_ns() + LAST_NS);
    }
    double way = quantile(&waits, 0.5);
    waits.n = takes.n = 0;
    served_us = 0;
    way_us = way;
}

static void ask_some(void)
{
    size_t first = (size_t)lrand48() % nconns;
    for (size_t i = 0; i < nconns; i++) {
        struct conn *conn = &conns[(first + i) % nconns];
        if (conn->sent_at == 0) {
            ask(conn);
            return;
        }
    }
    missed++; /* it would not be a call that comes by itself */
}

/* Calls that come at random. */
static void come(double rate, uint64_t until)
{
    for (uint64_t next = now_ns(); next < until;) {
        next += (uint64_t)(-log(1 - drand48()) / rate * 1e9);
        do
            listen_until(next);
        while (now_ns() < next);
        ask_some();
    }
}

static void go_round(uint64_t until)
{
    again = true;
    for (size_t i = 0; i < nconns; i++)
        ask(&conns[i]);
    while (now_ns() < until)
        listen_until(until);
    again = false;
}

int main(int argc, char **argv)
{
    if (argc != 8)
        return 2;
    make_request(argv[2]);
    nconns = strtoul(argv[3], NULL, 10);
    double rate = atof(argv[4]), seconds = atof(argv[5]);
    srand48(atol(argv[6]));
    prctl(PR_SET_TIMERSLACK, 1);
    conns = calloc(nconns, sizeof(*conns));
    epoll = epoll_create1(0);
    if (conns == NULL || epoll < 0)
        die("start");
    for (size_t i = 0; i < nconns; i++)
        open_one(&conns[i], (uint16_t)atoi(argv[1]));
    alone(strtoul(argv[7], NULL, 10));
    uint64_t from = now_ns(), until = from + (uint64_t)(seconds * 1e9);
    if (rate > 0)
        come(rate, until);
    else
        go_round(until);
    double took = (double)(now_ns() - from) / 1e9;
    size_t in_time = waits.n; /* what is answered after the load has no place in calls/s */
    for (uint64_t end = now_ns() + LAST_NS; busy > 0 && now_ns() < end;)
        listen_until(end);
    double n = (double)waits.n;
    printf("RESULT {\"calls\":%zu,\"in_time\":%zu,\"refused\":%zu,\"late\":%" PRIu64
           ",\"wrong\":%" PRIu64 ",\"unanswered\":%zu,\"missed\":%" PRIu64 ",\"seconds\":%f,"
           "\"way_us\":%f,\"service_us\":%f,\"wait_us\":%f,",
        waits.n, in_time, refusals.n, late, wrong, busy, missed, took, way_us,
        n > 0 ? served_us / n : 0, mean(&waits));
    printf("\"wait_p99_us\":%f,\"took_p99_us\":%f,\"refused_p99_us\":%f}\n", quantile(&waits, 0.99),
        quantile(&takes, 0.99), quantile(&refusals, 0.99));
    return 0;
}
