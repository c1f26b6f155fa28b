/*
 * Makes TLS handshakes for `scripts/bench handshakes`, so many at a time, and ends each connection
 * in the way of TLS at once. Prints
 *
 *     RESULT {"handshakes":N,"resumed":N,"failed":N,"duration_us":N}
 *
 *     bench_handshakes --connect HOST:PORT --ca FILE --concurrency N --seconds N [--resume yes]
 *
 * With --resume all but the first go on with the session of the first.
 */

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base.h"
#include "tests/bench/reload_message.h"
#include "tests/bench/tls_client.h"
#include "tests/bench/ws_client.h"

enum { CONCURRENCY_MAX = 1024, EVENTS = 256, WAIT_MS = 100 };

#define SECOND UINT64_C(1000000000)

struct client {
    int fd;
    SSL *ssl; /* NULL: it is being connected */
};

static struct sockaddr_in server;
static SSL_CTX *context;
static bool resume;
static SSL_SESSION *session; /* of the first connection */
static struct client clients[CONCURRENCY_MAX];
static int ep;
static uint64_t handshakes, resumed, failed;

static int on_session(SSL *ssl, SSL_SESSION *given)
{
    (void)ssl;
    if (session != NULL || !resume)
        return 0;
    session = given;
    return 1;
}

static void open_client(struct client *c)
{
    /* Thousands of connections in TIME_WAIT would weigh on what is measured. */
    const struct linger reset = {.l_onoff = 1};
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = c};
    int one = 1;

    *c = (struct client){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (c->fd < 0)
        ws_die("socket", errno);
    (void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    (void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if ((connect(c->fd, (struct sockaddr *)&server, sizeof(server)) < 0 && errno != EINPROGRESS) ||
        epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &event) < 0)
        ws_die("connect", errno);
}

static void close_client(struct client *c)
{
    SSL_free(c->ssl);
    close(c->fd);
}

static void begin(struct client *c)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};

    c->ssl = tls_client_new(context, c->fd);
    if (session != NULL) {
        /* A copy: a connection that ends by a reset makes its session one that is not resumed. */
        SSL_SESSION *copy = SSL_SESSION_dup(session);
        if (copy == NULL || SSL_set_session(c->ssl, copy) != 1)
            ws_die("SSL_set_session", EINVAL);
        SSL_SESSION_free(copy);
    }
    if (epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &event) < 0)
        ws_die("epoll_ctl", errno);
}

/* The server has ended the connection: in the way of TLS, or by closing its socket. */
static bool is_end(ssize_t n)
{
    return n == 0 || (n < 0 && errno == EPIPE);
}

/*
 * Goes on: the handshake, then close_notify, then the server's end, by which it has read all of
 * that. (Not before the session has come that is to be resumed: after close_notify OpenSSL reads no
 * tickets.) Returns 1 at that end, 0 where more has to come, else -1.
 */
static int go_on(struct client *c)
{
    char byte;

    if (c->ssl == NULL)
        begin(c);
    if (!SSL_is_init_finished(c->ssl)) {
        int r = tls_client_shake_hands(c->ssl);
        if (r <= 0)
            return r;
    }
    ssize_t n;
    do {
        if (!resume || session != NULL)
            (void)SSL_shutdown(c->ssl);
        n = tls_client_recv(c->ssl, &byte, 1);
    } while (n < 0 && errno == EAGAIN && session != NULL &&
             !(SSL_get_shutdown(c->ssl) & SSL_SENT_SHUTDOWN)); /* it has come with that */
    if (n < 0 && errno == EAGAIN)
        return 0;
    return is_end(n) ? 1 : -1;
}

static void on_event(struct client *c)
{
    int r = go_on(c);

    if (r == 0)
        return;
    if (r < 0)
        failed++;
    else if (SSL_session_reused(c->ssl))
        resumed++;
    handshakes += r > 0;
    close_client(c);
    open_client(c);
}

/* Until that time, or, where it is 0, until one handshake is done. */
static void run(size_t concurrency, uint64_t until)
{
    struct epoll_event events[EVENTS];

    for (size_t i = 0; i < concurrency; i++)
        open_client(&clients[i]);
    while (until == 0 ? handshakes + failed == 0 : reload_now_ns() < until) {
        int n = epoll_wait(ep, events, EVENTS, WAIT_MS);

        if (n < 0 && errno != EINTR)
            ws_die("epoll_wait", errno);
        for (int i = 0; i < n; i++)
            on_event(events[i].data.ptr);
    }
    for (size_t i = 0; i < concurrency; i++)
        close_client(&clients[i]);
}

int main(int argc, char **argv)
{
    const char *address = NULL, *ca = NULL;
    size_t concurrency = 0;
    uint64_t seconds = 0;

    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--connect") == 0)
            address = argv[i + 1];
        else if (strcmp(argv[i], "--ca") == 0)
            ca = argv[i + 1];
        else if (strcmp(argv[i], "--concurrency") == 0)
            concurrency = strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--seconds") == 0)
            seconds = strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--resume") == 0)
            resume = true;
    }
    if (address == NULL || ca == NULL || concurrency == 0 || concurrency > CONCURRENCY_MAX ||
        seconds == 0) {
        fprintf(stderr, "usage: bench_handshakes --connect HOST:PORT --ca FILE --concurrency N "
                        "--seconds N [--resume yes]\n");
        return 2;
    }
    server = ws_address(address);
    context = tls_client_context(ca, false);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, on_session);
    ep = epoll_create1(EPOLL_CLOEXEC);
    if (ep < 0)
        ws_die("epoll_create1", errno);
    run(1, 0); /* what only the first one costs; and the session of the others */
    handshakes = resumed = failed = 0;

    uint64_t begun = reload_now_ns();
    run(concurrency, begun + seconds * SECOND);
    printf("RESULT {\"handshakes\":%" PRIu64 ",\"resumed\":%" PRIu64 ",\"failed\":%" PRIu64
           ",\"duration_us\":%" PRIu64 "}\n",
        handshakes, resumed, failed, (reload_now_ns() - begun) / 1000);
    return 0;
}
