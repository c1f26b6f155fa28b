#include "frontd/admin/http_server.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"
#include "frontd/system/loop.h"

enum {
    ACCEPTS = 16, /* in one turn of the loop */
    PAUSE_MS = 100,
};

static const struct http_times times = {
    .head = 10000,
    .idle = 90000, /* more than a minute, which scrapes are apart */
    .stall = 10000,
    .write = 60000,
    .linger = 1000,
};

static const char refusal[] = "HTTP/1.1 503 Service Unavailable\r\n"
                              "Content-Type: text/plain; charset=utf-8\r\n"
                              "Content-Length: 21\r\n"
                              "Retry-After: 1\r\n"
                              "Connection: close\r\n\r\n"
                              "too many connections\n";

unsigned http_server_count(const struct http_server *server)
{
    unsigned n = 0;
    for (size_t i = 0; i < HTTP_CONNS_MAX; i++)
        n += server->conns[i].state != HTTP_CONN_FREE;
    return n;
}

static struct http_conn *find_free(struct http_server *server)
{
    for (size_t i = 0; i < HTTP_CONNS_MAX; i++) {
        if (server->conns[i].state == HTTP_CONN_FREE)
            return &server->conns[i];
    }
    return NULL;
}

/* Closes the connection that has been idle longest: it is due first. */
static void make_room(struct http_server *server)
{
    struct http_conn *found = NULL;
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < HTTP_CONNS_MAX; i++) {
        struct http_conn *conn = &server->conns[i];
        if (conn->state != HTTP_CONN_READING || buf_len(&conn->in) > 0)
            continue;
        uint64_t due = uv_timer_get_due_in(&conn->deadline);
        if (due < least) {
            least = due;
            found = conn;
        }
    }
    if (found != NULL)
        http_conn_close(found); /* its place is free in the next turn */
}

/* A client that is not served learns why; whether it reads that is its business. */
static void refuse(struct http_server *server, int fd)
{
    ssize_t n = send(fd, refusal, sizeof(refusal) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)n;
    close(fd);
    make_room(server);
}

static void on_pause_over(uv_timer_t *timer);

static void watch_all(struct http_server *server, bool on);

static void on_connection(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    const struct http_listening *listening = poll->data;
    struct http_server *server = listening->server;
    for (int k = 0; k < ACCEPTS; k++) {
        int fd = accept4(listening->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                watch_all(server, false);
                CHECK(uv_timer_start(&server->pause, on_pause_over, PAUSE_MS, 0) == 0);
            }
            return;
        }
        struct http_conn *conn = find_free(server);
        if (conn == NULL)
            refuse(server, fd);
        else
            http_conn_open(conn, server, fd, listening->local);
    }
}

static void watch_all(struct http_server *server, bool on)
{
    for (uint32_t i = 0; i < server->nlistening; i++) {
        if (on)
            CHECK(uv_poll_start(&server->listening[i].poll, UV_READABLE, on_connection) == 0);
        else
            uv_poll_stop(&server->listening[i].poll);
    }
}

static void on_pause_over(uv_timer_t *timer)
{
    struct http_server *server = timer->data;
    watch_all(server, true);
}

void http_server_init(
    struct http_server *server, uv_loop_t *loop, const struct http_server_ops *ops)
{
    server->loop = loop;
    server->ops = ops;
    server->times = times;
    CHECK(uv_timer_init(loop, &server->pause) == 0);
    server->pause.data = server;
}

/* Whether it is bound to an address that only this machine has. */
static bool is_loopback(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_storage storage;
    } address = {.any.sa_family = AF_UNSPEC};
    socklen_t len = sizeof(address);
    if (getsockname(fd, &address.any, &len) < 0)
        return false;
    if (address.any.sa_family == AF_INET)
        return ntohl(address.in.sin_addr.s_addr) >> 24 == 127;
    return address.any.sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&address.in6.sin6_addr);
}

int http_server_listen(struct http_server *server, int fd)
{
    if (server->nlistening == HTTP_LISTENING_MAX)
        return -ENOSPC;
    struct http_listening *listening = &server->listening[server->nlistening];
    int r = loop_poll_init(server->loop, &listening->poll, fd);
    if (r < 0)
        return r;
    server->nlistening++;
    listening->server = server;
    listening->fd = fd;
    listening->local = is_loopback(fd);
    listening->poll.data = listening;
    return uv_poll_start(&listening->poll, UV_READABLE, on_connection);
}

void http_server_freed(struct http_server *server)
{
    if (server->finishing && http_server_count(server) == 0)
        server->ops->finished(server);
}

void http_server_finish(struct http_server *server)
{
    if (server->finishing)
        return;
    for (uint32_t i = 0; i < server->nlistening; i++) {
        uv_close((uv_handle_t *)&server->listening[i].poll, NULL);
        close(server->listening[i].fd);
    }
    server->nlistening = 0;
    uv_close((uv_handle_t *)&server->pause, NULL);
    server->finishing = true;
    for (size_t i = 0; i < HTTP_CONNS_MAX; i++) {
        if (server->conns[i].state != HTTP_CONN_FREE)
            http_conn_finish(&server->conns[i]);
    }
    http_server_freed(server); /* there may be none */
}
