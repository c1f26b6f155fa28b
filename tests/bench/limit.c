/*
 * The limit that the benchmarks compare with: a server that answers every request by itself, with
 * the same bytes, on one thread with level-triggered epoll. It finds the end of a request and
 * looks at nothing else, so a front that validates, routes and forwards cannot be cheaper. It is
 * the backend of the other proxies too, on a UNIX socket.
 *
 *     bench_limit --listen HOST:PORT|unix:PATH --body TEXT
 */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/base.h"

enum {
    IN_SIZE = 64 * 1024,     /* longest request; one recv fills at most this */
    OUT_SIZE = 64 * 1024,    /* answers that go out in one send */
    DESCRIPTORS = 65536,     /* of connections and all else */
    EVENTS = 512,            /* of one turn */
    BACKLOG = 4096,          /* all clients of the largest load come at once */
    SEND_TIMEOUT_MS = 10000, /* for a client that does not read */
};

/* What has come of an incomplete request; all zero in between. */
struct conn {
    size_t have; /* bytes in `rest` */
    char *rest;
};

/* As many copies of the answer as fit, so that pipelined requests take one send. */
struct answers {
    char bytes[OUT_SIZE];
    size_t one;    /* bytes of an answer */
    size_t copies; /* how many are in `bytes` */
    time_t made;   /* what its Date says */
};

static char in[IN_SIZE];
static struct answers answers;
static struct conn conns[DESCRIPTORS]; /* by descriptor */

static void die(const char *what)
{
    fprintf(stderr, "bench_limit: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* Date has a resolution of a second, so the bytes are made anew once a second. */
static void answers_refresh(struct answers *a, const char *body)
{
    time_t now = time(NULL);
    struct tm tm;
    char date[64];
    int n;

    if (now == a->made)
        return;
    a->made = now;
    gmtime_r(&now, &tm);
    strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
    n = snprintf(a->bytes, sizeof(a->bytes),
        "HTTP/1.1 200 OK\r\nServer: frontd\r\nDate: %s\r\nContent-Type: application/json\r\n"
        "Content-Length: %zu\r\n\r\n%s",
        date, strlen(body), body);
    CHECK(n > 0 && (size_t)n < sizeof(a->bytes));
    a->one = (size_t)n;
    a->copies = sizeof(a->bytes) / a->one;
    for (size_t i = 1; i < a->copies; i++)
        memcpy(a->bytes + i * a->one, a->bytes, a->one);
}

/* Bytes of the request at `p`; 0 when its end is not there yet. */
static size_t request_length(const char *p, size_t n)
{
    static const char name[] = "content-length:";
    const size_t name_len = sizeof(name) - 1;
    const char *line = p, *end = p + n, *nl;
    size_t body = 0;

    while ((nl = memchr(line, '\n', (size_t)(end - line)))) {
        size_t len = (size_t)(nl - line);

        if (len <= 1) {
            size_t head = (size_t)(nl + 1 - p);
            return body <= n - head ? head + body : 0;
        }
        if (len > name_len && strncasecmp(line, name, name_len) == 0)
            body = strtoul(line + name_len, NULL, 10);
        line = nl + 1;
    }
    return 0;
}

/* Waits for a client that does not read; only a broken load program makes that happen. */
static int send_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t sent = send(fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (sent < 0 && errno == EAGAIN) {
            struct pollfd pfd = {.fd = fd, .events = POLLOUT};
            if (poll(&pfd, 1, SEND_TIMEOUT_MS) <= 0)
                return -ETIMEDOUT;
            continue;
        }
        if (sent < 0)
            return -errno;
        p += sent;
        n -= (size_t)sent;
    }
    return 0;
}

static int answer(int fd, size_t count)
{
    while (count > 0) {
        size_t some = MIN(count, answers.copies);
        int r = send_all(fd, answers.bytes, some * answers.one);

        if (r < 0)
            return r;
        count -= some;
    }
    return 0;
}

/* Keeps the beginning of a request until the rest of it comes. */
static int keep_rest(struct conn *c, const char *p, size_t n)
{
    char *rest = NULL;

    if (n == sizeof(in))
        return -EMSGSIZE;
    if (n > 0) {
        rest = malloc(n);
        if (!rest)
            return -ENOMEM;
        memcpy(rest, p, n);
    }
    free(c->rest);
    c->rest = rest;
    c->have = n;
    return 0;
}

static int serve(int fd)
{
    struct conn *c = &conns[fd];
    size_t n = c->have, used = 0, len, count = 0;
    ssize_t got;

    if (n > 0)
        memcpy(in, c->rest, n);
    got = recv(fd, in + n, sizeof(in) - n, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN)
        return 0;
    if (got <= 0)
        return -ECONNRESET;
    n += (size_t)got;
    while (used < n && (len = request_length(in + used, n - used)) > 0) {
        used += len;
        count++;
    }
    if ((used < n || c->have > 0) && keep_rest(c, in + used, n - used) < 0)
        return -ECONNRESET;
    return answer(fd, count);
}

static void drop(int fd)
{
    free(conns[fd].rest);
    conns[fd] = (struct conn){0};
    close(fd);
}

static void accept_all(int ep, int listener)
{
    int fd, one = 1;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};

        if (fd >= DESCRIPTORS) {
            close(fd);
            continue;
        }
        /* Fails on a UNIX socket, where there is nothing to turn off. */
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) < 0)
            die("epoll_ctl");
    }
    if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
        die("accept");
}

static int bind_unix(const char *path)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (strlen(path) >= sizeof(sa.sun_path)) {
        errno = ENAMETOOLONG;
        die(path);
    }
    memcpy(sa.sun_path, path, strlen(path));
    if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
        die(path);
    return fd;
}

static int bind_tcp(const char *address)
{
    struct sockaddr_in sa = {.sin_family = AF_INET};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const char *colon = strrchr(address, ':');
    char host[64];

    errno = EINVAL;
    if (!colon || (size_t)(colon - address) >= sizeof(host))
        die(address);
    snprintf(host, sizeof(host), "%.*s", (int)(colon - address), address);
    sa.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    if (inet_pton(AF_INET, host, &sa.sin_addr) != 1)
        die(address);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
        die(address);
    return fd;
}

static int open_listener(const char *address)
{
    int fd = strncmp(address, "unix:", 5) == 0 ? bind_unix(address + 5) : bind_tcp(address);

    if (listen(fd, BACKLOG) < 0)
        die("listen");
    return fd;
}

static void raise_descriptor_limit(void)
{
    struct rlimit rl;

    if (getrlimit(RLIMIT_NOFILE, &rl) < 0)
        die("getrlimit");
    rl.rlim_cur = rl.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &rl);
}

static void run(int listener, const char *body)
{
    struct epoll_event events[EVENTS];
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = listener};
    int ep = epoll_create1(EPOLL_CLOEXEC);

    if (ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, listener, &ev) < 0)
        die("epoll");
    for (;;) {
        int n = epoll_wait(ep, events, EVENTS, -1);

        if (n < 0 && errno != EINTR)
            die("epoll_wait");
        answers_refresh(&answers, body);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;

            if (fd == listener)
                accept_all(ep, listener);
            else if (serve(fd) < 0)
                drop(fd);
        }
    }
}

int main(int argc, char **argv)
{
    const char *address = NULL, *body = "";

    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--listen") == 0)
            address = argv[i + 1];
        else if (strcmp(argv[i], "--body") == 0)
            body = argv[i + 1];
    }
    /* Half of OUT_SIZE is far more than any answer here, and leaves room for its head. */
    if (!address || argc % 2 == 0 || strlen(body) > OUT_SIZE / 2) {
        fprintf(stderr, "usage: bench_limit --listen HOST:PORT|unix:PATH --body TEXT\n");
        return 2;
    }
    raise_descriptor_limit();
    run(open_listener(address), body);
}
