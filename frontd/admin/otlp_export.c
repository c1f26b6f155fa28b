/*
 * Messages of shards (on_spans()) become JSON that waits. A batch is due OTLP_BATCH_MS after the
 * first of its spans, or when it is full: begin() makes a request of it, connects where there is no
 * connection, and write_request() writes it; read_answer() reads the answer, and settle() decides
 * by its status:
 *
 * - 2xx: the spans are exported, but for those that partialSuccess says are not
 * - 429, 502, 503, 504: the batch is sent again, after Retry-After, or after a time that doubles
 * - any other: the batch is dropped, since it would be refused again
 *
 * Where the connection fails, or no answer comes in time, the batch waits and is sent again; then
 * new spans are dropped once OTLP_WAITING_MAX of them wait. A connection that the collector has
 * closed since the last answer is made anew at once.
 */

#include "frontd/admin/otlp_export.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/admin/http_answer.h"
#include "frontd/system/loop.h"

enum { MESSAGES_A_TURN = 16, HEAD_ROOM = 512 };

/* A connection to the collector; freed when libuv is done with it. */
struct otlp_link {
    uv_poll_t poll;
    struct otlp_export *of;
    int fd;
    bool connected;
    bool used; /* it has had an answer */
};

static void begin(struct otlp_export *of);
static void on_due(uv_timer_t *timer);

static void on_closed(uv_handle_t *handle)
{
    mem_free(handle->data);
}

static void close_link(struct otlp_export *of)
{
    struct otlp_link *link = of->link;
    if (link == NULL)
        return;
    of->link = NULL;
    link->poll.data = link;
    uv_poll_stop(&link->poll);
    close(link->fd);
    uv_close((uv_handle_t *)&link->poll, on_closed);
}

/* Waits for more spans, or for the time to try again. */
static void wait_on(struct otlp_export *of)
{
    uint64_t ms = of->retry_ms > 0 ? of->retry_ms : OTLP_BATCH_MS;
    if (of->count == 0 || of->sent > 0)
        return;
    if (of->retry_ms == 0 && of->count >= OTLP_BATCH_MAX)
        begin(of);
    else if (!uv_is_active((uv_handle_t *)of->timer))
        uv_timer_start(of->timer, on_due, ms, 0);
}

/* No request is on its way any more. The spans of it go, or wait to be sent again. */
static void end(struct otlp_export *of, bool forget)
{
    uv_timer_stop(of->timer);
    buf_deinit(&of->request);
    buf_deinit(&of->answer);
    if (forget) {
        buf_consume(&of->waiting, MIN(of->sent_bytes + 1, buf_len(&of->waiting)));
        of->first = (of->first + of->sent) % OTLP_WAITING_MAX;
        of->count -= of->sent;
        of->refused = 0;
        of->retry_ms = 0;
    } else {
        of->retry_ms = MIN(
            MAX(of->retry_ms * 2, (uint64_t)OTLP_RETRY_FIRST_MS), (uint64_t)OTLP_RETRY_MAX_MS);
    }
    of->sent = 0;
    if (of->finished == NULL)
        wait_on(of);
    else if (forget && of->count > 0)
        begin(of);
    else
        of->finished(of);
}

/* The connection is of no use. why: for the log. */
static void fail(struct otlp_export *of, const char *why)
{
    bool stale = of->link != NULL && of->link->used && buf_len(&of->answer) == 0;
    close_link(of);
    if (of->sent == 0)
        return;
    if (stale && of->finished == NULL) { /* it may have been closed before this request */
        of->sent = 0;
        buf_deinit(&of->request);
        begin(of);
        return;
    }
    log_limited(&of->failed, uv_now(of->loop), LOG_WARNING,
        "tracing: spans cannot be sent to %s: %s; they wait, %u so far", of->conf->endpoint, why,
        of->count);
    end(of, false);
}

static void drop_batch(struct otlp_export *of, unsigned status)
{
    log_limited(&of->failed, uv_now(of->loop), LOG_WARNING,
        "tracing: %s refuses spans with status %u: %u are dropped", of->conf->endpoint, status,
        of->sent);
    of->dropped += of->sent;
    end(of, true);
}

static void settle(struct otlp_export *of, const struct http_answer *answer)
{
    bool busy = answer->status == 429 || (answer->status >= 502 && answer->status <= 504);
    if (answer->status / 100 == 2) {
        uint64_t rejected = MIN(otlp_rejected(answer->body), (uint64_t)of->sent);
        of->exported += of->sent - rejected;
        of->dropped += rejected;
        end(of, true);
    } else if (busy && ++of->refused < OTLP_REFUSED_MAX) {
        uint64_t asked = MIN(answer->retry_after * 1000ULL, (uint64_t)OTLP_RETRY_MAX_MS);
        uv_timer_stop(of->timer);
        if (asked > 0) /* end() doubles it */
            of->retry_ms = (asked + 1) / 2;
        end(of, false);
    } else {
        drop_batch(of, answer->status);
    }
}

/* Returns whether the connection is there still. */
static bool read_answer(struct otlp_export *of)
{
    struct http_answer answer;
    char *room = buf_room(&of->answer, 4096);
    ssize_t n = room == NULL ? -1 : recv(of->link->fd, room, 4096, MSG_DONTWAIT);
    if (n < 0 && room != NULL && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n <= 0) {
        fail(of, room == NULL ? "no memory"
                 : n == 0     ? "it closes the connection"
                              : log_error_text(-errno));
        return false;
    }
    buf_added(&of->answer, (size_t)n);
    struct span bytes = {buf_data(&of->answer), buf_len(&of->answer)};
    int r = of->sent == 0 ? -EBADMSG : http_answer_read(bytes, &answer);
    if (r == 0 && bytes.n < OTLP_ANSWER_MAX)
        return true;
    if (r <= 0) {
        of->link->used = false;
        fail(of, "its answer is no HTTP");
        return false;
    }
    of->link->used = true;
    if (!answer.keep_alive || buf_len(&of->request) > 0)
        close_link(of);
    settle(of, &answer);
    return false;
}

static void on_link(uv_poll_t *poll, int status, int events);

static void write_request(struct otlp_export *of)
{
    struct otlp_link *link = of->link;
    while (buf_len(&of->request) > 0) {
        ssize_t n = send(
            link->fd, buf_data(&of->request), buf_len(&of->request), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0) {
            fail(of, log_error_text(-errno));
            return;
        }
        buf_consume(&of->request, (size_t)n);
    }
    int events = UV_READABLE | (buf_len(&of->request) > 0 ? UV_WRITABLE : 0);
    uv_poll_start(&link->poll, events, on_link);
}

static void on_link(uv_poll_t *poll, int status, int events)
{
    struct otlp_link *link = poll->data;
    struct otlp_export *of = link->of;
    int error = 0;
    socklen_t size = sizeof(error);
    if (!link->connected &&
        (getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 || error != 0)) {
        fail(of, log_error_text(-error));
        return;
    }
    link->connected = true;
    if ((status < 0 || events & UV_READABLE) && !read_answer(of))
        return;
    if (events & UV_WRITABLE)
        write_request(of);
}

/* Returns 0 or -errno. */
static int open_link(struct otlp_export *of)
{
    const struct conf_address *address = &of->conf->address;
    struct otlp_link *link = mem_zalloc(sizeof(*link));
    if (link == NULL)
        return -ENOMEM;
    link->of = of;
    link->fd = socket(address->sock.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int r = link->fd < 0 ? -errno : 0;
    if (r == 0 && connect(link->fd, &address->sock.any, address->len) < 0 && errno != EINPROGRESS)
        r = -errno;
    if (r == 0)
        r = loop_poll_init(of->loop, &link->poll, link->fd);
    if (r < 0) {
        if (link->fd >= 0)
            close(link->fd);
        mem_free(link);
        return r;
    }
    link->poll.data = link;
    of->link = link;
    return 0;
}

/* Makes the request of the first spans that wait. Returns 0 or -ENOMEM. */
static int make_request(struct otlp_export *of)
{
    struct buf body = {0};
    size_t bytes = 0;
    uint32_t n = MIN(of->count, (uint32_t)OTLP_BATCH_MAX);
    for (uint32_t i = 0; i < n; i++)
        bytes += of->lengths[(of->first + i) % OTLP_WAITING_MAX];
    bytes -= 1; /* without the comma before the next */
    int r = otlp_put_request(&body, of->resource, (struct span){buf_data(&of->waiting), bytes});
    if (r == 0)
        r = buf_printf(&of->request,
            "POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: frontd/%s\r\n"
            "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
            of->conf->path, of->conf->authority, of->resource->version, buf_len(&body));
    if (r == 0)
        r = buf_append(&of->request, buf_data(&body), buf_len(&body));
    buf_deinit(&body);
    of->sent = n;
    of->sent_bytes = bytes;
    return r;
}

static void begin(struct otlp_export *of)
{
    int r = make_request(of);
    uv_timer_start(of->timer, on_due, OTLP_ANSWER_MS, 0);
    if (r == 0 && of->link == NULL)
        r = open_link(of);
    if (r == 0)
        r = uv_poll_start(&of->link->poll, UV_READABLE | UV_WRITABLE, on_link);
    if (r < 0)
        fail(of, log_error_text(r));
}

static void on_due(uv_timer_t *timer)
{
    struct otlp_export *of = timer->data;
    if (of->sent == 0) {
        begin(of);
        return;
    }
    if (of->link != NULL)
        of->link->used = false;
    fail(of, "no answer in time");
}

/* Keeps a span until its batch is sent. */
static void keep(struct otlp_export *of, const struct trace_record *record)
{
    size_t before = buf_len(&of->waiting);
    bool room = of->count < OTLP_WAITING_MAX && before < OTLP_WAITING_BYTES;
    if (!room || otlp_put_span(&of->waiting, record) < 0 || buf_append(&of->waiting, ",", 1) < 0) {
        buf_truncate(&of->waiting, before);
        of->dropped++;
        log_limited(&of->full, uv_now(of->loop), LOG_WARNING,
            "tracing: %u spans wait for %s: further ones are dropped", of->count,
            of->conf->endpoint);
        return;
    }
    of->lengths[(of->first + of->count++) % OTLP_WAITING_MAX] = (uint32_t)(buf_len(&of->waiting) -
                                                                           before);
}

/* The end is told by poll() alone: a message without a byte, of a shard that is not ours any more,
 * looks like it to recv(). */
static void on_spans(uv_poll_t *poll, int status, int events)
{
    static char message[TRACE_MESSAGE_MAX];
    static struct log_limit bad_limit;
    struct otlp_export *of = poll->data;
    for (int i = 0; status == 0 && i < MESSAGES_A_TURN; i++) {
        struct trace_record record;
        bool bad = false;
        ssize_t n = recv(of->fd, message, sizeof(message), MSG_DONTWAIT);
        if (n == 0 && events & UV_DISCONNECT)
            uv_poll_stop(of->poll); /* no shard is there, and the supervisor is gone */
        if (n < 0 || (n == 0 && events & UV_DISCONNECT))
            break;
        bad = n == 0;
        struct span left = {message, (size_t)n};
        while (n > 0 && trace_record_next(&left, &record, &bad))
            keep(of, &record);
        if (bad)
            log_limited(&bad_limit, uv_now(of->loop), LOG_ERROR,
                "tracing: what a shard has sent is no span: it is dropped");
    }
    wait_on(of);
}

void otlp_export_finish(struct otlp_export *of, void (*finished)(struct otlp_export *of))
{
    of->finished = finished;
    uv_poll_stop(of->poll);
    if (of->sent > 0)
        return; /* end() goes on */
    if (of->count > 0)
        begin(of);
    else
        finished(of);
}

int otlp_export_open(struct otlp_export *of, uv_loop_t *loop, const struct conf_tracing *conf,
    const struct otlp_resource *resource, int fd)
{
    *of = (struct otlp_export){.loop = loop, .conf = conf, .resource = resource, .fd = fd};
    of->poll = mem_zalloc(sizeof(*of->poll));
    of->timer = mem_zalloc(sizeof(*of->timer));
    of->lengths = mem_zalloc(OTLP_WAITING_MAX * sizeof(*of->lengths));
    int r = of->poll == NULL || of->timer == NULL || of->lengths == NULL
                ? -ENOMEM
                : loop_poll_init(loop, of->poll, fd);
    if (r < 0) {
        close(fd);
        mem_free(of->poll);
        mem_free(of->timer);
        mem_free(of->lengths);
        *of = (struct otlp_export){.loop = NULL};
        return r;
    }
    CHECK(uv_timer_init(loop, of->timer) == 0);
    of->poll->data = of->timer->data = of;
    r = uv_poll_start(of->poll, UV_READABLE | UV_DISCONNECT, on_spans);
    if (r < 0)
        otlp_export_close(of);
    return r;
}

void otlp_export_close(struct otlp_export *of)
{
    if (of->loop == NULL)
        return;
    close_link(of);
    uv_poll_stop(of->poll);
    uv_timer_stop(of->timer);
    of->poll->data = of->poll;
    of->timer->data = of->timer;
    close(of->fd);
    uv_close((uv_handle_t *)of->poll, on_closed);
    uv_close((uv_handle_t *)of->timer, on_closed);
    buf_deinit(&of->waiting);
    buf_deinit(&of->request);
    buf_deinit(&of->answer);
    mem_free(of->lengths);
    *of = (struct otlp_export){.loop = NULL};
}
