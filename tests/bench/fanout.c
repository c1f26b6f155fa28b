/*
 * The limit of `scripts/bench push`: one thread with level-triggered epoll that writes each message
 * to every subscriber's socket itself. It upgrades every client, looks for a method's name in what
 * clients send, and at nothing else. Messages that were asked for together go out in one send.
 *
 *     bench_fanout --port PORT
 */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base.h"
#include "tests/bench/push_message.h"
#include "tests/bench/ws_client.h"

enum {
    IN_SIZE = 4096,
    DESCRIPTORS = 65536,
    EVENTS = 512,
    BACKLOG = 4096,
    HEAD = 4, /* of a message's frame: 200 bytes take a length in 16 bits */
    FRAME = HEAD + PUSH_BYTES,
    BATCH = 64, /* messages in one send */
    MASK = 4,
};

static int ep;
static bool upgraded[DESCRIPTORS]; /* by descriptor */
static int subscribers[DESCRIPTORS];
static size_t nsubscribers;
static uint32_t published; /* number of the last message */
static uint32_t asked;     /* the one that is to be the last */

/* What goes out here always fits into the socket's buffer, as at most a window is on its way. */
static void send_whole(int fd, const void *p, size_t n)
{
    ssize_t sent = send(fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);

    if (sent < 0 || (size_t)sent != n)
        ws_die("send", sent < 0 ? errno : EAGAIN);
}

static void publish(void)
{
    static uint8_t out[BATCH * FRAME + 1];
    uint32_t count = MIN(asked - published, (uint32_t)BATCH);

    for (uint32_t i = 0; i < count; i++) {
        uint8_t *frame = out + (size_t)i * FRAME;
        const uint8_t head[HEAD] = {0x81, 126, PUSH_BYTES >> 8, PUSH_BYTES & 0xff};

        memcpy(frame, head, sizeof(head));
        push_message_write((char *)frame + HEAD, ++published, push_now_ns());
    }
    for (size_t i = 0; i < nsubscribers; i++)
        send_whole(subscribers[i], out, (size_t)count * FRAME);
}

/* One message of a client: it subscribes, or asks for messages. */
static void handle(int fd, const char *text)
{
    static const char answer[] = "\x81\x26{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":true}";
    const char *upto = strstr(text, "\"upto\":");

    if (upto) {
        asked = (uint32_t)strtoul(upto + 7, NULL, 10);
    } else if (strstr(text, "\"bench.subscribe\"")) {
        subscribers[nsubscribers++] = fd;
        send_whole(fd, answer, sizeof(answer) - 1);
    }
}

/* Clients send little, and in one send, so that what came is whole. */
static void read_messages(int fd, const uint8_t *p, size_t n)
{
    char text[128];

    while (n > 0) {
        size_t length = n > 2 + MASK ? p[1] & 0x7fu : sizeof(text);
        const uint8_t *payload = p + 2 + MASK;

        if (length >= sizeof(text) - 2 || n < 2 + MASK + length)
            ws_die("not a message", 0);
        for (size_t i = 0; i < length; i++)
            text[i] = (char)(payload[i] ^ p[2 + i % MASK]);
        text[length] = '\0';
        handle(fd, text);
        p = payload + length;
        n -= 2 + MASK + length;
    }
}

static void drop(int fd)
{
    upgraded[fd] = false;
    for (size_t i = 0; i < nsubscribers; i++) {
        if (subscribers[i] == fd)
            subscribers[i--] = subscribers[--nsubscribers];
    }
    close(fd);
}

static void serve(int fd)
{
    static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                                 "Connection: Upgrade\r\n\r\n";
    uint8_t in[IN_SIZE];
    ssize_t got = recv(fd, in, sizeof(in), MSG_DONTWAIT);

    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        drop(fd);
    } else if (upgraded[fd]) {
        read_messages(fd, in, (size_t)got);
    } else {
        upgraded[fd] = true;
        send_whole(fd, answer, sizeof(answer) - 1);
    }
}

static void accept_all(int listener)
{
    int fd, one = 1;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};

        CHECK(fd < DESCRIPTORS);
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) < 0)
            ws_die("epoll_ctl", errno);
    }
    if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
        ws_die("accept", errno);
}

static int open_listener(uint16_t port)
{
    struct sockaddr_in sa = {
        .sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, BACKLOG) < 0)
        ws_die("listen", errno);
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
        int n = epoll_wait(ep, events, EVENTS, -1);

        if (n < 0 && errno != EINTR)
            ws_die("epoll_wait", errno);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == listener)
                accept_all(listener);
            else
                serve(events[i].data.fd);
        }
        while (published < asked)
            publish();
    }
}

int main(int argc, char **argv)
{
    if (argc != 3 || strcmp(argv[1], "--port") != 0) {
        fprintf(stderr, "usage: bench_fanout --port PORT\n");
        return 2;
    }
    ws_raise_descriptor_limit();
    run(open_listener((uint16_t)strtoul(argv[2], NULL, 10)));
}
