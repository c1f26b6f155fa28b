/*
 * What nginx and HAProxy forward to in `scripts/bench reload`: one thread with level-triggered
 * epoll on a UNIX socket that answers calls over HTTP and WebSocket, and publishes to WebSockets by
 * itself, as frontd's worker does. It looks at no more of what comes than it must, so that it costs
 * little.
 *
 *     bench_reload_backend --listen PATH
 */

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base.h"
#include "tests/bench/reload_message.h"
#include "tests/bench/ws_client.h"

enum {
    IN_SIZE = 4096, /* clients send one call at a time, which is much smaller */
    OUT_SIZE = 512, /* of an answer */
    DESCRIPTORS = 65536,
    EVENTS = 512,
    BACKLOG = 4096,
    MASK = 4,
    TEXT_MAX = 125, /* of a WebSocket message that has its length in one byte; no call is longer */
    FRAME_HEAD = 4, /* a message of ours takes a length in 16 bits */
};

_Static_assert(RELOAD_BYTES >= 126, "a shorter one has its length in one byte");

struct conn {
    bool open;
    bool websocket;
    int32_t topic; /* -1: not subscribed */
    size_t have;   /* bytes of an incomplete request in `rest` */
    char *rest;
};

static struct conn conns[DESCRIPTORS]; /* by descriptor */
static int highest;                    /* descriptor of a connection so far */
static struct reload_publisher publisher = {.topics = 1};
static int ep;

static void drop(int fd)
{
    free(conns[fd].rest);
    conns[fd] = (struct conn){0};
    close(fd);
}

/* A client for which a few bytes do not fit into its socket does not read any more. */
static int send_whole(int fd, const void *p, size_t n)
{
    ssize_t sent = send(fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);

    return sent >= 0 && (size_t)sent == n ? 0 : -EPIPE;
}

/* The number behind a member's name; 0 where it is not there. `text` is NUL-terminated. */
static uint64_t member(const char *text, const char *name)
{
    const char *at = strstr(text, name);

    return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

/* Makes the answer to a call that has `params` as its object's last member. Returns its length. */
static size_t answer(struct conn *c, const char *text, char out[static OUT_SIZE])
{
    uint64_t id = member(text, "\"id\":");
    const char *params = strstr(text, "\"params\":");
    char result[TEXT_MAX] = "true";

    if (params)
        params += strlen("\"params\":");
    if (strstr(text, RELOAD_SUBSCRIBE)) {
        c->topic = (int32_t)member(text, "\"topic\":");
    } else if (strstr(text, RELOAD_PUBLISH)) {
        publisher.rate = member(text, "\"rate\":");
        publisher.topics = (uint32_t)MAX(member(text, "\"topics\":"), UINT64_C(1));
        publisher.since = reload_now_ns();
        publisher.due_then = publisher.published;
        snprintf(result, sizeof(result), "%" PRIu64, publisher.published);
    } else if (params) {
        snprintf(result, sizeof(result), "%.*s", (int)strlen(params) - 1, params);
    }
    return (size_t)snprintf(
        out, OUT_SIZE, "{\"jsonrpc\":\"2.0\",\"id\":%" PRIu64 ",\"result\":%s}", id, result);
}

static int serve_http(int fd, const char *head)
{
    static const char upgraded[] =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        /* To the one key that the clients send. */
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    char text[OUT_SIZE], out[2 * OUT_SIZE];
    size_t n;

    if (strncmp(head, "GET ", 4) == 0) {
        conns[fd].websocket = true;
        return send_whole(fd, upgraded, sizeof(upgraded) - 1);
    }
    n = answer(&conns[fd], head, text);
    n = (size_t)snprintf(out, sizeof(out),
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", n,
        text);
    return send_whole(fd, out, n);
}

static int serve_text(int fd, const char *text)
{
    char out[2 + OUT_SIZE];
    size_t n = answer(&conns[fd], text, out + 2);

    CHECK(n <= TEXT_MAX); /* clients send small numbers */
    out[0] = (char)0x81;
    out[1] = (char)n;
    return send_whole(fd, out, 2 + n);
}

/* Bytes of the request at `p`, NUL-terminated; 0 when its end is not there yet. */
static size_t request_length(const char *p, size_t n)
{
    const char *end = strstr(p, "\r\n\r\n"), *field;
    size_t head, body;

    if (!end)
        return 0;
    head = (size_t)(end + 4 - p);
    field = strcasestr(p, "\r\ncontent-length:");
    body = field && field < end ? strtoul(field + strlen("\r\ncontent-length:"), NULL, 10) : 0;
    return n - head >= body ? head + body : 0;
}

/* Serves what is whole at the beginning of `in`: returns its length, 0 for none, or an error. */
static ssize_t serve_one(int fd, char *in, size_t n)
{
    char text[TEXT_MAX + 1];
    size_t length;

    if (!conns[fd].websocket) {
        length = request_length(in, n);
        if (length == 0 || serve_http(fd, in) == 0)
            return (ssize_t)length;
        return -EPIPE;
    }
    if (n < 2)
        return 0;
    length = (uint8_t)in[1] & 0x7fu;
    if ((uint8_t)in[0] != 0x81 || length > TEXT_MAX)
        return -EPROTO;
    if (n < 2 + MASK + length)
        return 0;
    for (size_t i = 0; i < length; i++)
        text[i] = (char)(in[2 + MASK + i] ^ in[2 + i % MASK]);
    text[length] = '\0';
    return serve_text(fd, text) == 0 ? (ssize_t)(2 + MASK + length) : -EPIPE;
}

/* Keeps the beginning of a request until the rest of it comes. */
static void keep_rest(struct conn *c, const char *p, size_t n)
{
    char *rest = n > 0 ? malloc(n) : NULL;

    if (n > 0 && !rest)
        ws_die("malloc", ENOMEM);
    if (n > 0)
        memcpy(rest, p, n);
    free(c->rest);
    c->rest = rest;
    c->have = n;
}

static void serve(int fd)
{
    static char in[IN_SIZE + 1];
    struct conn *c = &conns[fd];
    size_t n = c->have, used = 0;
    ssize_t r = 0, got;

    if (n > 0)
        memcpy(in, c->rest, n);
    got = recv(fd, in + n, IN_SIZE - n, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        drop(fd);
        return;
    }
    n += (size_t)got;
    in[n] = '\0';
    while (used < n && (r = serve_one(fd, in + used, n - used)) > 0)
        used += (size_t)r;
    if (r < 0)
        drop(fd);
    else if (used < n || c->have > 0)
        keep_rest(c, in + used, n - used);
}

static void deliver(const uint8_t *frame, size_t n, uint32_t topic)
{
    for (int fd = 0; fd <= highest; fd++) {
        if (conns[fd].open && conns[fd].topic == (int32_t)topic && send_whole(fd, frame, n) < 0)
            drop(fd);
    }
}

static void publish(void)
{
    uint8_t frame[FRAME_HEAD + RELOAD_BYTES + 1] = {0x81, 126, 0, RELOAD_BYTES};
    uint64_t now = reload_now_ns(), due = reload_due(&publisher, now);

    while (publisher.rate > 0 && publisher.published < due) {
        uint32_t topic = reload_message_write((char *)frame + FRAME_HEAD, &publisher, now);

        publisher.published++;
        deliver(frame, FRAME_HEAD + RELOAD_BYTES, topic);
    }
}

static void accept_all(int listener)
{
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};

        CHECK(fd < DESCRIPTORS);
        conns[fd] = (struct conn){.open = true, .topic = -1};
        highest = MAX(highest, fd);
        if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) < 0)
            ws_die("epoll_ctl", errno);
    }
    if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
        ws_die("accept", errno);
}

static int open_listener(const char *path)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (strlen(path) >= sizeof(sa.sun_path))
        ws_die(path, ENAMETOOLONG);
    memcpy(sa.sun_path, path, strlen(path));
    if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, BACKLOG) < 0)
        ws_die(path, errno);
    return fd;
}

static void run(int listener)
{
    struct epoll_event events[EVENTS];
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = listener};

    ep = epoll_create1(EPOLL_CLOEXEC);
    if (ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, listener, &ev) < 0)
        ws_die("epoll", errno);
    for (;;) {
        int n = epoll_wait(ep, events, EVENTS, publisher.rate > 0 ? RELOAD_TICK_MS : -1);

        if (n < 0 && errno != EINTR)
            ws_die("epoll_wait", errno);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;

            if (fd == listener)
                accept_all(listener);
            else if (conns[fd].open)
                serve(fd);
        }
        publish();
    }
}

int main(int argc, char **argv)
{
    if (argc != 3 || strcmp(argv[1], "--listen") != 0) {
        fprintf(stderr, "usage: bench_reload_backend --listen PATH\n");
        return 2;
    }
    ws_raise_descriptor_limit();
    run(open_listener(argv[2]));
}
