/*
 * The socket is read up to the end of one frame in a turn, so that no client, the admin process
 * among them, keeps the supervisor from its shards. on_control() reads, carries out what is
 * complete, and writes what waits. The timer runs while the client owes something: its HELLO, the
 * rest of a frame, or to take what waits for it; each byte of that sets it anew.
 *
 * A connection is closed in on_control() or on_stall() alone, or by its server: a call that is
 * answered while other things are done only marks it (`ending`, with nothing to be written).
 */

#include "frontd/supervisor/control/control_conn.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/fdpass.h"
#include "common/log.h"
#include "frontd/system/discard.h"
#include "frontd/system/loop.h"
#include "proto/errors.h"
#include "proto/frame.h"
#include "proto/json_scan.h"

static void on_control(uv_poll_t *poll, int status, int events);

static void on_closed(uv_handle_t *handle)
{
    struct control_conn *conn = handle->data;
    if (--conn->handles > 0)
        return;
    discard(&conn->fd, 1, 0); /* with what has come and was not looked at */
    buf_deinit(&conn->in);
    buf_deinit(&conn->out);
    mem_free(conn);
}

void control_conn_close(struct control_conn *conn)
{
    if (conn->closing)
        return;
    conn->closing = true;
    list_remove(&conn->node);
    while (!list_empty(&conn->calls))
        control_call_drop(list_first(&conn->calls, struct control_call, node));
    shutdown(conn->fd, SHUT_RDWR);
    uv_close((uv_handle_t *)&conn->poll, on_closed);
    uv_close((uv_handle_t *)&conn->timer, on_closed);
}

static void on_stall(uv_timer_t *timer)
{
    struct control_conn *conn = timer->data;
    log_debug("a control connection is closed: its client neither reads nor writes what is due");
    control_conn_close(conn);
}

/* Watches for what is possible now, and for the client to do its part. */
static void watch(struct control_conn *conn)
{
    size_t waits = buf_len(&conn->out);
    int events = UV_DISCONNECT;
    if (waits > 0 || conn->ending)
        events |= UV_WRITABLE;
    else if (conn->ncalls < CONTROL_CALLS_MAX)
        events |= UV_READABLE;
    CHECK(uv_poll_start(&conn->poll, events, on_control) == 0);
    bool owes = !conn->greeted || waits > 0 || buf_len(&conn->in) > 0;
    if (!owes)
        uv_timer_stop(&conn->timer);
    else if (!uv_is_active((uv_handle_t *)&conn->timer))
        CHECK(uv_timer_start(&conn->timer, on_stall, CONTROL_STALL_MS, 0) == 0);
}

/* Writes what can be written now. Returns 0 or -errno. */
static int flush(struct control_conn *conn)
{
    while (buf_len(&conn->out) > 0) {
        ssize_t n = send(
            conn->fd, buf_data(&conn->out), buf_len(&conn->out), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0)
            return errno == EAGAIN ? 0 : -errno;
        buf_consume(&conn->out, (size_t)n);
        uv_timer_stop(&conn->timer); /* watch() starts it anew */
    }
    return 0;
}

int control_conn_send(
    struct control_conn *conn, uint8_t type, uint64_t call, const struct span *parts, size_t n)
{
    if (conn->closing || conn->ending)
        return 0;
    size_t before = buf_len(&conn->out);
    int r = control_rpc_put_frame(&conn->out, type, call, parts, n);
    if (r == 0 && buf_len(&conn->out) > CONTROL_OUT_MAX) {
        buf_truncate(&conn->out, before);
        r = -ENOBUFS;
    }
    if (r == 0 && before == 0 && flush(conn) < 0)
        control_conn_fail(conn);
    else if (r == 0)
        watch(conn);
    return r;
}

bool control_conn_takes_pushes(const struct control_conn *conn)
{
    return buf_len(&conn->out) <= CONTROL_PUSHES_MAX;
}

void control_conn_fail(struct control_conn *conn)
{
    buf_deinit(&conn->out);
    conn->ending = true;
    if (!conn->closing)
        watch(conn);
}

void control_conn_resume(struct control_conn *conn)
{
    conn->ncalls--;
    if (!conn->closing)
        watch(conn);
}

const struct control_methods *control_conn_methods(const struct control_conn *conn)
{
    return conn->methods;
}

void control_conn_refuse(struct control_conn *conn, const char *code, const char *reason)
{
    if (conn->ending)
        return;
    if (!conn->greeted) /* a HELLO that is not out yet would be taken for consent */
        buf_deinit(&conn->out);
    if (control_rpc_put_goaway(&conn->out, code, reason) < 0)
        buf_deinit(&conn->out);
    conn->ending = true;
    watch(conn);
}

static const struct control_method *find_method(
    const struct control_methods *methods, struct span name)
{
    for (size_t i = 0; i < methods->n; i++) {
        const char *known = methods->all[i].name;
        if (json_scan_equals(name, (struct span){known, strlen(known)}))
            return &methods->all[i];
    }
    return NULL;
}

/* Answers what is no request that can be carried out. */
static void refuse_request(struct control_call *call, int r)
{
    switch (r) {
    case CONTROL_RPC_PARSE:
        control_call_fail(call, RPC_PARSE_ERROR, "the body of a request is no JSON");
        break;
    case CONTROL_RPC_PARAMS:
        control_call_fail(call, RPC_INVALID_PARAMS, "params: an object");
        break;
    default:
        control_call_fail(call, RPC_INVALID_REQUEST, "no JSON-RPC 2.0 request; batches are none");
        break;
    }
}

static void take_request(struct control_conn *conn, const struct frame *frame)
{
    struct control_rpc_request request;
    int r = control_rpc_read_request(frame->body, &request);
    if (r == CONTROL_RPC_IGNORE)
        return;
    struct control_call *call = control_call_new(conn, &conn->calls, frame->head.call, request.id);
    if (call == NULL) {
        control_conn_fail(conn);
        return;
    }
    conn->ncalls++;
    if (r != 0) {
        refuse_request(call, r);
        return;
    }
    const struct control_method *method = find_method(conn->methods, request.method);
    if (method == NULL)
        control_call_fail(call, RPC_METHOD_NOT_FOUND, "there is no method \"%.*s\" in frontd %s",
            (int)MIN(request.method.n, (size_t)64), request.method.p, FRONTD_VERSION);
    else if (conn->readonly && !method->readonly)
        control_call_fail(
            call, CONTROL_E_REFUSED, "this connection may not ask for %s", method->name);
    else
        method->run(call, request.params);
}

/* The client wants no answer any more: there is none, and it is not told that there is none. */
static void cancel(struct control_conn *conn, uint64_t number)
{
    list_for_each_safe (node, &conn->calls) {
        struct control_call *call = container_of(node, struct control_call, node);
        if (call->number == number) {
            control_call_drop(call);
            conn->ncalls--;
            return;
        }
    }
}

static void take_hello(struct control_conn *conn, struct span body)
{
    if (control_rpc_read_hello(body) < 0)
        control_conn_refuse(conn, "protocol", "a HELLO of the control protocol was expected");
    else
        conn->greeted = true;
}

static void take_frame(struct control_conn *conn, const struct frame *frame)
{
    if (!conn->greeted && frame->head.type != FRAME_HELLO) {
        control_conn_refuse(conn, "protocol", "HELLO comes first");
        return;
    }
    switch (frame->head.type) {
    case FRAME_HELLO: take_hello(conn, frame->body); break;
    case FRAME_REQUEST: take_request(conn, frame); break;
    case FRAME_CANCEL: cancel(conn, frame->head.call); break;
    case FRAME_PING: control_conn_send(conn, FRAME_PONG, 0, &frame->body, 1); break;
    case FRAME_PONG: break;
    default:
        if (frame->head.type < FRAME_EXTENSION)
            control_conn_refuse(conn, "protocol", "a client does not send such frames");
        break;
    }
}

/* Carries out the frame that has come, if it is complete. */
static void take_input(struct control_conn *conn)
{
    struct frame frame;
    size_t used = 0;
    int r = frame_read(buf_data(&conn->in), buf_len(&conn->in), CONTROL_REQUEST_MAX, &frame, &used);
    if (r == FRAME_E_MORE)
        return;
    uv_timer_stop(&conn->timer);
    if (r == 0)
        take_frame(conn, &frame);
    else
        control_conn_refuse(conn, "protocol",
            r == FRAME_E_LIMIT ? "a request is over 64 KiB" : frame_error_text(r));
    buf_deinit(&conn->in);
}

/* How many bytes are missing of the frame that is being read. */
static size_t missing(const struct control_conn *conn)
{
    size_t size = FRAME_HEAD_SIZE;
    size_t has = buf_len(&conn->in);
    if (has >= FRAME_HEAD_SIZE)
        frame_size(buf_data(&conn->in), has, CONTROL_REQUEST_MAX, &size);
    return size - has;
}

/* As recv(). Descriptors that come along are a client's mischief: whatever they are, they go. */
static ssize_t take_bytes(struct control_conn *conn, char *room, size_t want)
{
    int fds[FDPASS_FDS_MAX];
    size_t nfds = 0;
    int flags;
    ssize_t n = fdpass_receive_all(conn->fd, room, want, fds, &nfds, &flags);
    discard(fds, nfds, 0);
    return nfds > 0 ? -EPROTO : n;
}

/* Reads up to the end of a frame. Returns 0, or -errno: -EPIPE at the end. */
static int receive(struct control_conn *conn)
{
    for (size_t want; (want = missing(conn)) > 0;) {
        char *room = buf_room(&conn->in, want);
        if (room == NULL)
            return -ENOMEM;
        ssize_t n = take_bytes(conn, room, want);
        if (n <= 0)
            return n == 0 ? -EPIPE : n == -EAGAIN ? 0 : (int)n;
        buf_added(&conn->in, (size_t)n);
        if (buf_len(&conn->in) == FRAME_HEAD_SIZE)
            take_input(conn); /* a header that breaks a rule, and a frame without a payload */
        if (buf_len(&conn->in) == 0)
            return 0;
    }
    take_input(conn);
    return 0;
}

static void on_control(uv_poll_t *poll, int status, int events)
{
    struct control_conn *conn = poll->data;
    int r = status < 0 ? status : 0;
    if (r == 0 && (events & UV_WRITABLE) != 0)
        r = flush(conn);
    bool over = conn->ending && buf_len(&conn->out) == 0;
    if (r == 0 && !over && (events & UV_READABLE) != 0)
        r = receive(conn);
    else if (r == 0 && (events & UV_DISCONNECT) != 0)
        r = -EPIPE;
    if (r < 0 || over)
        control_conn_close(conn);
    else
        watch(conn);
}

int control_conn_new(uv_loop_t *loop, struct list *conns, const struct control_methods *methods,
    int fd, bool readonly)
{
    struct control_conn *conn = mem_zalloc(sizeof(*conn));
    int r = conn == NULL ? -ENOMEM : 0;
    if (r == 0)
        r = control_rpc_put_hello(&conn->out, "frontd");
    if (r == 0)
        r = loop_poll_init(loop, &conn->poll, fd);
    if (r < 0) {
        if (conn != NULL)
            buf_deinit(&conn->out);
        mem_free(conn);
        close(fd);
        return r;
    }
    CHECK(uv_timer_init(loop, &conn->timer) == 0);
    conn->poll.data = conn->timer.data = conn;
    conn->methods = methods;
    conn->fd = fd;
    conn->readonly = readonly;
    conn->handles = 2;
    list_init(&conn->calls);
    list_append(conns, &conn->node);
    watch(conn);
    return 0;
}
