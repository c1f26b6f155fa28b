/*
 * Bytes come in through on_readable(): take_bytes() feeds them to the codec where they were read,
 * request_start() gets each complete request, and an incomplete rest is copied aside into
 * `pending`. Reading pauses while too many calls are in progress or answers pile up; client_flush()
 * goes on with what is pending.
 *
 * Answers go out in the order of the requests: the first one's straight into `out`, another's into
 * request->reply until it is the first. client_flush() writes, once a turn.
 *
 * A connection ends after its last answer (CLIENT_ENDING): our side is shut, and what the client
 * still sends is dropped for a while (CLIENT_LINGERING), since closing with unread bytes would
 * reset the connection and take the answer with it. Whoever breaks off at once is CLIENT_DOOMED.
 *
 * One timer serves all timeouts: it is armed for the earliest known time and looks, when it fires,
 * whether the time has moved; so an active client does not touch the wheel.
 */

#include "frontd/shard/client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"
#include "common/mem.h"
#include "frontd/shard/request.h"

enum {
    LINGER_MS = 2000,      /* after our last byte: time for the client to read it and close */
    HALF_CLOSED_MS = 1000, /* for answers to a client that has shut its side, or is gone */
    BODY_RATE = 128,       /* bytes a second that a body must come at, over body_timeout */
};

/* Of an incomplete request: what has been read of it. */
struct pending {
    struct http1 http1;
    struct buf bytes;
    uint64_t started; /* ms: its first byte */
    uint64_t heard;   /* ms: its last byte so far */
    uint64_t window;  /* ms: since when `window_bytes` are counted */
    uint32_t window_bytes;
    bool continue_owed; /* "100 Continue" is to be sent when it is this request's turn */
};

static struct http1_head head_scratch; /* of the request being looked at */

static void on_poll(uv_poll_t *poll, int status, int events);

static void mark_dirty(struct client *client)
{
    if (list_empty(&client->dirty))
        list_append(&client->ctx->dirty_clients, &client->dirty);
}

void client_doom(struct client *client)
{
    if (client->state < CLIENT_DOOMED)
        client->state = CLIENT_DOOMED;
    mark_dirty(client);
}

static void free_pending(struct client *client)
{
    if (client->pending == NULL)
        return;
    buf_deinit(&client->pending->bytes);
    client->pending = mem_free(client->pending);
}

/* The peer as a socket address, for what counts connections by peer. */
static void peer_sockaddr(const struct client *client, struct sockaddr_storage *ret_addr)
{
    memset(ret_addr, 0, sizeof(*ret_addr));
    ret_addr->ss_family = client->peer_family;
    if (client->peer_family == AF_INET)
        memcpy(&((struct sockaddr_in *)ret_addr)->sin_addr, client->peer, 4);
    else if (client->peer_family == AF_INET6)
        memcpy(&((struct sockaddr_in6 *)ret_addr)->sin6_addr, client->peer, 16);
}

static void on_closed(uv_handle_t *handle)
{
    struct client *client = handle->data;
    slab_put(&client->ctx->clients, client);
}

static void destroy(struct client *client)
{
    struct ctx *ctx = client->ctx;
    CHECK(client->state == CLIENT_DOOMED);
    client->state = CLIENT_CLOSED;
    list_for_each_safe (node, &client->requests)
        request_abandon(container_of(node, struct request, node));
    free_pending(client);
    buf_deinit(&client->out);
    wheel_disarm(&client->timer);
    list_remove(&client->dirty);
    list_remove(&client->node);
    if (ctx->conf->limits.connections_per_peer > 0) {
        struct sockaddr_storage peer;
        peer_sockaddr(client, &peer);
        share_peer_remove(ctx->share, ctx->seat, (struct sockaddr *)&peer);
    }
    share_connection_remove(ctx->share, ctx->seat);
    ctx->count.closed++;
    uv_close((uv_handle_t *)&client->poll, on_closed);
    close(client->fd); /* libuv has taken it out of epoll already */
}

/* Whether a new request may be started. */
static bool may_start(const struct client *client)
{
    const struct conf_limits *limits = &client->ctx->conf->limits;
    return client->state == CLIENT_OPEN && !client->last_request &&
           client->calls < limits->calls_per_connection &&
           buf_len(&client->out) < limits->write_buffer;
}

static void wait_for(struct client *client, int events)
{
    if (client->events == events)
        return;
    client->events = (uint8_t)events;
    if (events == 0)
        CHECK(uv_poll_stop(&client->poll) == 0);
    else
        CHECK(uv_poll_start(&client->poll, events, on_poll) == 0);
}

static void wait_for_what_matters(struct client *client)
{
    bool read = may_start(client) || client->state == CLIENT_LINGERING;
    bool write = buf_len(&client->out) > 0;
    wait_for(client, (read ? UV_READABLE : 0) | (write ? UV_WRITABLE : 0));
}

/* When the client's time is up, in ms, as things stand. */
static uint64_t due(const struct client *client)
{
    const struct conf_limits *limits = &client->ctx->conf->limits;
    const struct pending *pending = client->pending;
    switch (client->state) {
    case CLIENT_HALF_CLOSED: return client->active_at + HALF_CLOSED_MS;
    case CLIENT_LINGERING: return client->active_at + LINGER_MS;
    default: break;
    }
    if (buf_len(&client->out) > 0)
        return client->active_at + limits->body_timeout;
    if (pending != NULL && may_start(client)) {
        if (pending->http1.phase == HTTP1_PHASE_HEAD)
            return pending->started + limits->header_timeout;
        return MIN(pending->heard, pending->window) + limits->body_timeout;
    }
    if (!list_empty(&client->requests))
        return ctx_now(client->ctx) + limits->idle_timeout; /* calls have their own deadlines */
    return client->active_at + limits->idle_timeout;
}

/* Sees to it that the timer fires in time; that it may fire too early costs one look. */
static void arm(struct client *client)
{
    uint64_t at = due(client);
    if (!wheel_armed(&client->timer) || at < client->timer.at)
        wheel_arm(&client->ctx->wheel, &client->timer, at);
}

/* Ends the connection once `out` is written. */
static void end_after_flush(struct client *client)
{
    client->state = CLIENT_ENDING;
    mark_dirty(client);
}

static void send_continue(struct client *client)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    client->pending->continue_owed = false;
    if (buf_append(&client->out, text, sizeof(text) - 1) < 0)
        client_doom(client);
    mark_dirty(client);
}

static void refuse(struct client *client, unsigned status, const struct http1_head *head)
{
    request_refuse(client, status, head);
    client->last_request = true;
}

/* A client that waits for "100 Continue" gets it when it is its turn, or the error at once. */
static void expect(struct client *client, const struct http1_head *head)
{
    if (request_hopeless(client, head)) {
        struct http1_head copy = *head;
        copy.keep_alive = false; /* its body may or may not come: nothing can be read after this */
        client->last_request = true;
        if (!request_start(client, &copy, (struct span){0}))
            client_doom(client);
        return;
    }
    client->pending->continue_owed = true;
    if (list_empty(&client->requests))
        send_continue(client);
}

/*
 * Starts the requests in the `n` bytes at `p` for as long as it may. Returns how many bytes at
 * *ret_rest are left over; they are within the given ones.
 */
static size_t start_requests(struct client *client, struct http1 *http1, char *p, size_t n,
    char **ret_rest, bool *ret_expect)
{
    const struct conf_limits *limits = &client->ctx->conf->limits;
    const struct http1_config config = {
        .head = {.head_bytes = limits->header, .fields = limits->headers},
        .body = limits->body,
    };
    *ret_expect = false;
    while (n > 0 && may_start(client)) {
        struct http1_result result = http1_feed(http1, p, n, &config, &head_scratch);
        if (result.event == HTTP1_ERROR) {
            refuse(client, result.status, result.head_known ? &head_scratch : NULL);
            n = 0;
        } else if (result.event == HTTP1_REQUEST) {
            if (!head_scratch.keep_alive)
                client->last_request = true;
            if (!request_start(client, &head_scratch, result.body))
                client_doom(client);
            p += result.used;
            n -= result.used;
        } else {
            n = result.kept;
            *ret_expect = result.event == HTTP1_CONTINUE;
            break;
        }
    }
    if (client->last_request)
        n = 0; /* what follows the last request is not looked at */
    *ret_rest = p;
    return n;
}

/* Puts the rest of what was read aside. */
static void set_aside(struct client *client, const struct http1 *http1, const char *p, size_t n)
{
    uint64_t now = ctx_now(client->ctx);
    struct pending *pending = mem_zalloc(sizeof(*pending));
    if (pending == NULL || buf_append(&pending->bytes, p, n) < 0) {
        mem_free(pending);
        client_doom(client);
        return;
    }
    pending->http1 = *http1;
    pending->started = pending->heard = pending->window = now;
    client->pending = pending;
}

/* Goes on with what was put aside. */
static void go_on(struct client *client)
{
    struct pending *pending = client->pending;
    bool waits;
    char *rest;
    size_t before = buf_len(&pending->bytes);
    size_t left = start_requests(
        client, &pending->http1, buf_data(&pending->bytes), before, &rest, &waits);
    size_t used = left == 0 ? before : (size_t)(rest - buf_data(&pending->bytes));
    if (left == 0) {
        free_pending(client);
        return;
    }
    buf_consume(&pending->bytes, used);
    buf_truncate(&pending->bytes, left);
    if (used > 0) {
        /* Another request's rest. */
        uint64_t now = ctx_now(client->ctx);
        pending->started = pending->heard = pending->window = now;
        pending->window_bytes = 0;
    }
    if (waits)
        expect(client, &head_scratch);
}

static void take_bytes(struct client *client, char *p, size_t n)
{
    struct pending *pending = client->pending;
    if (pending != NULL) {
        pending->heard = client->active_at;
        pending->window_bytes += (uint32_t)n;
        if (buf_append(&pending->bytes, p, n) < 0)
            client_doom(client);
        else
            go_on(client);
        return;
    }
    struct http1 http1 = {0};
    bool waits;
    char *rest;
    size_t left = start_requests(client, &http1, p, n, &rest, &waits);
    if (left == 0)
        return;
    set_aside(client, &http1, rest, left);
    if (waits && client->pending != NULL)
        expect(client, &head_scratch);
}

/* The client sends no more: it may have shut its side only, or be gone. */
static void on_end_of_input(struct client *client)
{
    if (client->state == CLIENT_LINGERING || client->state == CLIENT_ENDING ||
        (list_empty(&client->requests) && client->pending == NULL && buf_len(&client->out) == 0)) {
        client_doom(client);
        return;
    }
    if (client->pending != NULL && may_start(client))
        refuse(client, 400, NULL); /* RFC 9112 section 8: incomplete */
    if (client->state == CLIENT_OPEN)
        client->state = list_empty(&client->requests) ? CLIENT_ENDING : CLIENT_HALF_CLOSED;
    free_pending(client);
    mark_dirty(client);
}

static void on_readable(struct client *client)
{
    struct ctx *ctx = client->ctx;
    ssize_t n = recv(client->fd, ctx->read_buf, CTX_READ_SIZE, 0);
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR)
            client_doom(client); /* reset: nobody is there to be answered */
        return;
    }
    if (n == 0) {
        on_end_of_input(client);
        return;
    }
    if (client->state == CLIENT_LINGERING)
        return; /* dropped; active_at stays, so that this ends */
    client->active_at = ctx_now(ctx);
    take_bytes(client, ctx->read_buf, (size_t)n);
    if (!may_start(client))
        mark_dirty(client); /* reading pauses when the turn ends */
    arm(client);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct client *client = poll->data;
    if (status < 0) {
        client_doom(client);
        return;
    }
    if (events & UV_WRITABLE)
        mark_dirty(client);
    if (events & UV_READABLE)
        on_readable(client);
}

/* Returns false when the connection is broken. */
static bool write_out(struct client *client)
{
    ssize_t n = send(client->fd, buf_data(&client->out), buf_len(&client->out), MSG_NOSIGNAL);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    client->active_at = ctx_now(client->ctx);
    buf_consume(&client->out, (size_t)n);
    return true;
}

/* The last answer is out. */
static void linger(struct client *client)
{
    if (shutdown(client->fd, SHUT_WR) < 0) {
        client_doom(client);
        return;
    }
    client->state = CLIENT_LINGERING;
    client->active_at = ctx_now(client->ctx);
    free_pending(client);
}

void client_flush(struct client *client)
{
    list_remove(&client->dirty);
    if (client->state < CLIENT_DOOMED && buf_len(&client->out) > 0 && !write_out(client))
        client_doom(client);
    if (client->state == CLIENT_ENDING && buf_len(&client->out) == 0 &&
        list_empty(&client->requests))
        linger(client);
    if (client->pending != NULL && may_start(client) &&
        client->pending->http1.phase == HTTP1_PHASE_HEAD)
        go_on(client);
    if (client->state == CLIENT_HALF_CLOSED && list_empty(&client->requests))
        end_after_flush(client);
    if (client->state == CLIENT_DOOMED) {
        destroy(client);
        return;
    }
    wait_for_what_matters(client);
    arm(client);
}

/* Whether a body comes too slowly: nothing at all for body_timeout, or under the least rate. */
static bool body_too_slow(struct client *client, uint64_t now)
{
    uint64_t timeout = client->ctx->conf->limits.body_timeout;
    struct pending *pending = client->pending;
    if (now - pending->heard >= timeout)
        return true;
    if (now - pending->window < timeout)
        return false;
    if (pending->window_bytes < BODY_RATE * (now - pending->window) / 1000)
        return true;
    pending->window = now;
    pending->window_bytes = 0;
    return false;
}

static void expire(struct client *client)
{
    uint64_t now = ctx_now(client->ctx);
    struct pending *pending = client->pending;
    bool reading = pending != NULL && may_start(client) && buf_len(&client->out) == 0;
    if (client->state == CLIENT_OPEN && reading) {
        if (pending->http1.phase != HTTP1_PHASE_HEAD && !body_too_slow(client, now)) {
            arm(client);
            return;
        }
        refuse(client, 408, NULL);
        free_pending(client);
        mark_dirty(client);
        return;
    }
    client_doom(client);
}

void client_timeout(struct wheel_timer *timer)
{
    struct client *client = container_of(timer, struct client, timer);
    if (due(client) > ctx_now(client->ctx))
        arm(client);
    else
        expire(client);
}

int client_open(struct ctx *ctx, const struct conf_listener *listener, int fd,
    const struct sockaddr *peer, struct list *all)
{
    struct client *client = slab_get(&ctx->clients);
    if (client == NULL) {
        close(fd);
        return -ENOMEM;
    }
    client->ctx = ctx;
    client->listener = listener;
    client->fd = fd;
    client->id = ctx->identity.incarnation << 40 | ++ctx->last_conn;
    client->active_at = ctx_now(ctx);
    client->peer_family = (uint8_t)peer->sa_family;
    if (peer->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)peer;
        memcpy(client->peer, &in->sin_addr, 4);
        client->peer_port = ntohs(in->sin_port);
    } else if (peer->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)peer;
        memcpy(client->peer, &in6->sin6_addr, 16);
        client->peer_port = ntohs(in6->sin6_port);
    }
    list_init(&client->dirty);
    list_init(&client->requests);
    list_init(&client->node);
    wheel_timer_init(&client->timer, TIMER_CLIENT);
    if (uv_poll_init(&ctx->loop, &client->poll, fd) < 0) {
        slab_put(&ctx->clients, client);
        close(fd);
        return -ENOMEM;
    }
    client->poll.data = client;
    list_append(all, &client->node);
    ctx->count.accepted++;
    wait_for(client, UV_READABLE);
    arm(client);
    return 0;
}

void client_drain(struct client *client)
{
    if (client->state != CLIENT_OPEN || client->last_request)
        return;
    if (!list_empty(&client->requests)) {
        /* The last of those in progress is the last of all. */
        container_of(client->requests.prev, struct request, node)->keep_alive = false;
        client->last_request = true;
        mark_dirty(client);
    } else if (client->pending == NULL && buf_len(&client->out) == 0) {
        client_doom(client);
    } else if (client->pending == NULL) {
        client->last_request = true;
        end_after_flush(client);
    }
}

struct buf *client_reply_buffer(struct client *client, struct request *request)
{
    bool first = client->requests.next == &request->node;
    return first ? &client->out : &request->reply;
}

void client_reply_done(struct client *client, struct request *request)
{
    const size_t limit = client->ctx->conf->limits.write_buffer;
    request->done = true;
    while (!list_empty(&client->requests)) {
        struct request *first = list_first(&client->requests, struct request, node);
        if (!first->done)
            break;
        size_t n = buf_len(&first->reply);
        if (n > 0 && (buf_len(&client->out) > limit ||
                         buf_append(&client->out, buf_data(&first->reply), n) < 0))
            client_doom(client);
        bool last = !first->keep_alive;
        request_free(first);
        if (last) {
            client->last_request = true;
            if (client->state == CLIENT_OPEN || client->state == CLIENT_HALF_CLOSED)
                end_after_flush(client);
            break;
        }
    }
    if (client->pending != NULL && client->pending->continue_owed && list_empty(&client->requests))
        send_continue(client);
    mark_dirty(client);
}

void client_peer_text(const struct client *client, char *out, size_t size)
{
    char address[INET6_ADDRSTRLEN];
    if (client->peer_family == AF_UNIX) {
        snprintf(out, size, "unix:");
        return;
    }
    inet_ntop(client->peer_family, client->peer, address, sizeof(address));
    snprintf(out, size, client->peer_family == AF_INET6 ? "[%s]:%u" : "%s:%u", address,
        client->peer_port);
}
