/*
 * A connection of the admin address: READING until a request is complete, WAITING where its answer
 * is not known at once, WRITING, then READING again; or LINGERING after the last answer, so that it
 * is not lost to a reset for bytes that nobody reads, and CLOSING. move_on() goes as far as it can.
 *
 * A client that is too slow ends with its timer: at the head of a request (408), idle, or not
 * reading an answer. What is no request is answered with the codec's status, and is the last.
 */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "frontd/admin/http_server.h"
#include "frontd/system/loop.h"

enum {
    READ_SIZE = 4096,
    STEPS = 32,              /* of one connection in one turn of the loop */
    LINGER_MAX = 256 * 1024, /* bytes that are thrown away at the end */
    FRESH_MS = 1000,         /* for the request of one that has come just before the end */
};

static void move_on(struct http_conn *conn);
static void on_io(uv_poll_t *poll, int status, int events);
static void on_deadline(uv_timer_t *timer);

static void watch(struct http_conn *conn, int events)
{
    if (events == 0)
        uv_poll_stop(&conn->poll);
    else if (uv_poll_start(&conn->poll, events, on_io) < 0)
        http_conn_close(conn);
}

static void due_in(struct http_conn *conn, uint64_t ms)
{
    CHECK(uv_timer_start(&conn->deadline, on_deadline, ms, 0) == 0);
}

static void drop_answer(struct http_conn *conn)
{
    buf_deinit(&conn->out);
    buf_deinit(&conn->owned);
    conn->body = (struct span){0};
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct http_conn *conn = handle->data;
    if (--conn->handles > 0)
        return;
    struct http_server *server = conn->server;
    *conn = (struct http_conn){0};
    http_server_freed(server);
}

void http_conn_close(struct http_conn *conn)
{
    if (conn->state == HTTP_CONN_CLOSING)
        return;
    if (conn->state == HTTP_CONN_WAITING)
        conn->server->ops->cancel(conn);
    conn->state = HTTP_CONN_CLOSING;
    uv_close((uv_handle_t *)&conn->deadline, on_handle_closed);
    uv_close((uv_handle_t *)&conn->poll, on_handle_closed);
    close(conn->fd);
    buf_deinit(&conn->in);
    drop_answer(conn);
}

void http_conn_open(struct http_conn *conn, struct http_server *server, int fd, bool local)
{
    *conn = (struct http_conn){
        .server = server, .fd = fd, .local = local, .fresh = true, .keep_alive = true};
    if (loop_poll_init(server->loop, &conn->poll, fd) < 0) {
        close(fd);
        return;
    }
    CHECK(uv_timer_init(server->loop, &conn->deadline) == 0);
    conn->poll.data = conn->deadline.data = conn;
    conn->handles = 2;
    conn->state = HTTP_CONN_READING;
    due_in(conn, conn->server->times.head);
    move_on(conn);
}

/* Answering */

void http_conn_answer(struct http_conn *conn, struct http_answer *answer)
{
    char date[HTTP1_DATE_SIZE];
    CHECK(conn->state == HTTP_CONN_READING || conn->state == HTTP_CONN_WAITING);
    conn->waits = NULL;
    conn->owned = answer->owned;
    answer->owned = (struct buf){0};
    conn->body = buf_len(&conn->owned) > 0
                     ? (struct span){buf_data(&conn->owned), buf_len(&conn->owned)}
                     : answer->body;
    conn->keep_alive = conn->keep_alive && !conn->server->finishing;
    const struct http1_reply reply = {
        .status = answer->status,
        .minor = conn->minor,
        .keep_alive = conn->keep_alive,
        .content_length = conn->body.n,
        .content_type = answer->content_type,
        .fields = answer->fields,
    };
    char *room = buf_room(&conn->out, HTTP1_REPLY_HEAD_MAX + answer->fields.n);
    if (room == NULL) {
        http_conn_close(conn);
        return;
    }
    http1_date((int64_t)time(NULL), date);
    buf_added(&conn->out, http1_reply_head(room, &reply, date));
    if (conn->head_only)
        conn->body.n = 0;
    conn->state = HTTP_CONN_WRITING;
    conn->since = uv_now(conn->server->loop);
    due_in(conn, conn->server->times.stall);
    if (!conn->busy)
        move_on(conn);
}

static void refuse(struct http_conn *conn, unsigned status)
{
    static const char closing[] = "the request is not one that is understood\n";
    struct http_answer answer = {
        .status = status, .content_type = "text/plain; charset=utf-8", .body = SPAN(closing)};
    conn->keep_alive = false;
    conn->head_only = false;
    http_conn_answer(conn, &answer);
}

/* Sends what there is. Returns 0 when all is sent, or -errno. */
static int write_some(struct http_conn *conn)
{
    const struct http_times *times = &conn->server->times;
    while (buf_len(&conn->out) > 0 || conn->body.n > 0) {
        bool head = buf_len(&conn->out) > 0;
        const char *p = head ? buf_data(&conn->out) : conn->body.p;
        size_t size = head ? buf_len(&conn->out) : conn->body.n;
        int more = head && conn->body.n > 0 ? MSG_MORE : 0;
        ssize_t n = send(conn->fd, p, size, MSG_DONTWAIT | MSG_NOSIGNAL | more);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (head) {
            buf_consume(&conn->out, (size_t)n);
        } else {
            conn->body.p += n;
            conn->body.n -= (size_t)n;
        }
        uint64_t spent = uv_now(conn->server->loop) - conn->since;
        uint64_t left = times->write - MIN(spent, times->write);
        due_in(conn, MIN(left, times->stall));
    }
    return 0;
}

static void after_answer(struct http_conn *conn)
{
    drop_answer(conn);
    conn->since = 0;
    if (conn->keep_alive && !conn->server->finishing) {
        conn->state = HTTP_CONN_READING;
        due_in(conn, conn->server->times.idle);
        return;
    }
    shutdown(conn->fd, SHUT_WR);
    buf_deinit(&conn->in);
    conn->state = HTTP_CONN_LINGERING;
    due_in(conn, conn->server->times.linger);
}

/* Reading */

/* Takes the request at the front of what has been read. Returns false where it is not complete. */
static bool take_request(struct http_conn *conn)
{
    static const struct http1_config config = {
        .head = {.head_bytes = HTTP_REQUEST_HEAD_MAX, .fields = HTTP_REQUEST_FIELDS_MAX},
        .body = 0,
    };
    struct http1_head *head = &conn->server->head;
    size_t n = buf_len(&conn->in);
    if (n == 0)
        return false;
    struct http1_result result = http1_feed(&conn->parser, buf_data(&conn->in), n, &config, head);
    if (result.event == HTTP1_ERROR) {
        refuse(conn, result.status);
        return true;
    }
    if (result.event != HTTP1_REQUEST) {
        buf_truncate(&conn->in, result.kept);
        return false;
    }
    conn->fresh = false;
    conn->minor = head->minor;
    conn->keep_alive = head->keep_alive;
    conn->head_only = head->http.method == HTTP_HEAD;
    conn->server->ops->request(conn, head);
    if (conn->state == HTTP_CONN_READING) { /* else it is answered, or gone */
        CHECK(conn->waits != NULL);
        conn->state = HTTP_CONN_WAITING;
        uv_timer_stop(&conn->deadline);
    }
    if (conn->state != HTTP_CONN_CLOSING)
        buf_consume(&conn->in, result.used);
    return true;
}

/* Reads once. Returns bytes, 0 at the end, or -errno. */
static ssize_t read_some(struct http_conn *conn)
{
    char *room = buf_room(&conn->in, READ_SIZE);
    if (room == NULL)
        return -ENOMEM;
    ssize_t n = recv(conn->fd, room, READ_SIZE, MSG_DONTWAIT);
    if (n < 0)
        return -errno;
    buf_added(&conn->in, (size_t)n);
    if (n > 0 && conn->since == 0) {
        conn->since = uv_now(conn->server->loop);
        due_in(conn, conn->server->times.head);
    }
    return n;
}

/* Each does what it can; returns whether the state has changed. */

static bool go_reading(struct http_conn *conn)
{
    if (take_request(conn))
        return true;
    ssize_t n = read_some(conn);
    if (n > 0)
        return true;
    if (n == -EAGAIN || n == -EINTR) {
        if (buf_len(&conn->in) == 0)
            buf_deinit(&conn->in); /* an idle connection has no buffer */
        if (conn->server->finishing && buf_len(&conn->in) == 0 && !conn->fresh)
            http_conn_close(conn);
        else
            watch(conn, UV_READABLE);
        return false;
    }
    http_conn_close(conn);
    return false;
}

static bool go_writing(struct http_conn *conn)
{
    int r = write_some(conn);
    if (r == 0) {
        after_answer(conn);
        return true;
    }
    if (r == -EAGAIN)
        watch(conn, UV_WRITABLE);
    else
        http_conn_close(conn);
    return false;
}

static bool go_lingering(struct http_conn *conn)
{
    char trash[READ_SIZE];
    ssize_t n = recv(conn->fd, trash, sizeof(trash), MSG_DONTWAIT);
    if (n > 0 && (conn->lingered += (size_t)n) < LINGER_MAX)
        return true;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        watch(conn, UV_READABLE);
    else
        http_conn_close(conn);
    return false;
}

static void move_on(struct http_conn *conn)
{
    bool again = true;
    conn->busy = true;
    for (int i = 0; again && i < STEPS; i++) {
        switch (conn->state) {
        case HTTP_CONN_READING: again = go_reading(conn); break;
        case HTTP_CONN_WRITING: again = go_writing(conn); break;
        case HTTP_CONN_LINGERING: again = go_lingering(conn); break;
        case HTTP_CONN_WAITING:
            watch(conn, 0);
            again = false;
            break;
        default: again = false; break;
        }
    }
    conn->busy = false;
    if (again)
        watch(conn, UV_WRITABLE); /* it goes on in the next turn, after the others */
}

static void on_io(uv_poll_t *poll, int status, int events)
{
    (void)status; /* recv() and send() say what is wrong */
    (void)events;
    move_on(poll->data);
}

static void on_deadline(uv_timer_t *timer)
{
    struct http_conn *conn = timer->data;
    if (conn->state == HTTP_CONN_READING && buf_len(&conn->in) > 0) {
        refuse(conn, 408);
        return;
    }
    http_conn_close(conn);
}

void http_conn_finish(struct http_conn *conn)
{
    conn->keep_alive = false;
    if (conn->state != HTTP_CONN_READING)
        return;
    if (conn->fresh && buf_len(&conn->in) == 0)
        due_in(conn, FRESH_MS); /* it has just been accepted: its request is on the way */
    move_on(conn);              /* what has come by now is answered */
}
