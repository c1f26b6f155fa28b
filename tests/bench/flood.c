/*
 * The clients of `scripts/bench fairness` that are no good neighbours, on one thread with epoll:
 *
 *     pipeline   requests over HTTP without end, and without waiting for the answers, which are
 * read websocket  the same over WebSockets once       one request on each connection subscribe
 * WebSockets that make one call each, and read what comes then
 *
 *     bench_flood --connect HOST:PORT --path PATH --mode MODE --connections N --call TEXT [--batch
 * N]
 *
 * Prints READY when all have begun, and at SIGTERM how many answers there were, how many of them
 * said that the call is refused, how often a connection was closed, and how many bytes were read:
 *
 *     RESULT {"answers":…,"refused":…,"closed":…,"bytes":…}
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/bench/flood_client.h"
#include "tests/bench/ws_client.h"

enum {
    EVENTS = 256,
    READ_SIZE = 256 * 1024,
    TEXT_LEAST = 256 * 1024, /* bytes that are written at once, if they fit */
    CARRY = 8,               /* a word may be in two reads */
};

static const char answer_word[] = "\"jsonrpc\"";
static const char refused_word[] = ":-32001,";

struct conn {
    int fd;
    size_t at; /* in the text */
    size_t ncarried;
    char carried[CARRY];
};

static const char *address;
static const char *path = "/";
static const char *call;
static enum { PIPELINE, WEBSOCKET, ONCE, SUBSCRIBE } mode;
static struct flood_text text;
static int ep;
static volatile sig_atomic_t over;
static uint64_t answers;
static uint64_t refused;
static uint64_t closed;
static uint64_t bytes; /* read */

static void on_signal(int number)
{
    (void)number;
    over = 1;
}

static void open_conn(struct conn *c)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    bool websocket = mode == WEBSOCKET || mode == SUBSCRIBE;
    c->fd = websocket ? ws_open(address, path) : flood_connect(address);
    c->at = 0;
    c->ncarried = 0;
    if (mode == SUBSCRIBE)
        ws_call(c->fd, call);
    else if (mode == ONCE)
        ws_send(c->fd, text.p, text.n);
    else
        ev.events |= EPOLLOUT;
    if (fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev) < 0)
        ws_die("connection", errno);
}

static uint64_t count(const char *in, size_t n, const char *word)
{
    uint64_t found = 0;
    size_t length = strlen(word);
    const char *end = in + n;
    for (const char *p = in; (p = memmem(p, (size_t)(end - p), word, length)) != NULL; p += length)
        found++;
    return found;
}

/* Returns whether the connection lives. One read: others want theirs. */
static bool read_some(struct conn *c)
{
    static char in[CARRY + READ_SIZE];
    memcpy(in, c->carried, c->ncarried);
    ssize_t got = recv(c->fd, in + c->ncarried, READ_SIZE, 0);
    if (got <= 0)
        return got < 0 && errno == EAGAIN;
    size_t n = c->ncarried + (size_t)got;
    bytes += (uint64_t)got;
    answers += count(in, n, answer_word);
    refused += count(in, n, refused_word);
    /* Shorter than a word, so that nothing is counted twice. */
    c->ncarried = n < sizeof(refused_word) - 2 ? n : sizeof(refused_word) - 2;
    memcpy(c->carried, in + n - c->ncarried, c->ncarried);
    return true;
}

static bool write_some(struct conn *c)
{
    ssize_t sent = send(c->fd, text.p + c->at, text.n - c->at, MSG_NOSIGNAL);
    if (sent < 0)
        return errno == EAGAIN;
    c->at = (c->at + (size_t)sent) % text.n;
    return true;
}

static void serve(struct conn *c, uint32_t events)
{
    bool lives = true;
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        lives = read_some(c);
    if (lives && events & EPOLLOUT)
        lives = write_some(c);
    if (lives || over)
        return;
    closed++;
    close(c->fd);
    open_conn(c);
}

static void make_text(size_t batch)
{
    if (mode == WEBSOCKET) {
        text.p = malloc(strlen(call) + WS_HEAD_MAX);
        if (text.p == NULL)
            ws_die("message", ENOMEM);
        text.n = ws_frame((uint8_t *)text.p, call, strlen(call));
    } else {
        flood_request(&text, path, call, batch);
    }
    if (mode != ONCE)
        flood_repeat(&text, TEXT_LEAST);
}

static bool read_mode(const char *name)
{
    static const char *const names[] = {"pipeline", "websocket", "once", "subscribe"};
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        mode = i;
        if (strcmp(names[i], name) == 0)
            return true;
    }
    return false;
}

int main(int argc, char **argv)
{
    const char *mode_name = "";
    size_t connections = 1;
    size_t batch = 1;
    struct epoll_event events[EVENTS];
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--connect") == 0)
            address = argv[i + 1];
        else if (strcmp(argv[i], "--path") == 0)
            path = argv[i + 1];
        else if (strcmp(argv[i], "--mode") == 0)
            mode_name = argv[i + 1];
        else if (strcmp(argv[i], "--connections") == 0)
            connections = strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--call") == 0)
            call = argv[i + 1];
        else if (strcmp(argv[i], "--batch") == 0)
            batch = strtoul(argv[i + 1], NULL, 10);
    }
    if (address == NULL || call == NULL || !read_mode(mode_name) || argc % 2 == 0 || batch == 0 ||
        connections == 0 || strlen(call) > WS_TEXT_MAX) {
        fprintf(stderr, "usage: bench_flood --connect HOST:PORT --path PATH --mode MODE "
                        "--connections N --call TEXT [--batch N]\n");
        return 2;
    }
    signal(SIGTERM, on_signal);
    make_text(batch);
    ws_raise_descriptor_limit();
    struct conn *conns = calloc(connections, sizeof(conns[0]));
    ep = epoll_create1(EPOLL_CLOEXEC);
    if (conns == NULL || ep < 0)
        ws_die("connections", errno);
    for (size_t i = 0; i < connections; i++)
        open_conn(&conns[i]);
    printf("READY\n");
    fflush(stdout);
    while (!over) {
        int n = epoll_wait(ep, events, EVENTS, 1000);
        for (int i = 0; i < n; i++)
            serve(events[i].data.ptr, events[i].events);
    }
    printf("RESULT {\"answers\":%" PRIu64 ",\"refused\":%" PRIu64 ",\"closed\":%" PRIu64
           ",\"bytes\":%" PRIu64 "}\n",
        answers, refused, closed, bytes);
    free(conns);
    return 0;
}
