/*
 * Reading: client_ready() → read_client() → the session takes what is complete, where it was read →
 * an incomplete rest is copied into client->pending, where the next bytes are added to it.
 *
 * Reading pauses while no request may be started (client_may_start()): too many calls are in
 * progress, or answers pile up. client_resume() then goes on with what is pending at the end of a
 * turn. A client whose session has ahead() is read on meanwhile, up to a bound, for what the
 * session answers by itself (look_ahead()).
 *
 * A transport may have bytes that it has read and not handed out, of which no event tells: they are
 * read at the end of the next turn (client_read_kept()).
 */

#include <errno.h>
#include <sys/socket.h>

#include "common/alloc.h"
#include "frontd/shard/client/client_internal.h"

void client_free_pending(struct client *client)
{
    if (client->pending == NULL)
        return;
    buf_deinit(&client->pending->bytes);
    client->pending = mem_free(client->pending);
}

void client_start_clocks(struct client *client)
{
    struct pending *pending = client->pending;
    pending->started = pending->heard = pending->window = ctx_now(client->ctx);
    pending->window_bytes = 0;
}

/* Whether what is held for it, and may be soon, leaves room for one more request. */
static bool has_room(const struct client *client)
{
    size_t limit = client->ctx->conf->limits.write_buffer;
    size_t held = client_waiting(client) + client->held_back;
    return held + client->claimed < limit ||
           (client->calls == 0 && !client->backlog && held < limit);
}

static bool has_none(struct client *carried, void *arg)
{
    (void)arg;
    return list_empty(&carried->requests);
}

/* Whether no request is in progress, also of those with which it shares its connection. */
static bool is_idle(const struct client *client)
{
    const struct client *carrier = client_carrier(client);
    carrier = carrier == NULL ? client : carrier;
    return list_empty(&client->requests) && list_empty(&carrier->requests) &&
           client_each_carried(carrier, has_none, NULL);
}

bool client_may_start(const struct client *client)
{
    const struct ctx *ctx = client->ctx;
    if (UNLIKELY(client->uploads)) /* what comes belongs to a request that has been started */
        return client->state == CLIENT_OPEN && !client->upload_waits;
    return client->state == CLIENT_OPEN && !client->last_request && !client->held &&
           client->calls < ctx->conf->limits.calls_per_connection &&
           LIKELY(!ctx->requests_paused || is_idle(client)) && has_room(client);
}

bool client_takes(struct client *client)
{
    struct ctx *ctx = client->ctx;
    if (!client_may_start(client))
        return false;
    client->yields = ctx->taken++ >= WORK_CLIENT_MESSAGES;
    return !client->yields;
}

bool client_answers_ahead(struct client *client)
{
    client->yields = client->ctx->taken++ >= WORK_CLIENT_MESSAGES;
    return !client->yields;
}

/* What follows the last request, and its body, is not looked at. */
static bool takes_no_more(const struct client *client)
{
    return client->last_request && !client->uploads;
}

/*
 * Gives bytes to the session, and what is left to the next one where the session changes. Returns
 * how many are left over, at *ret_rest.
 */
static size_t feed_session(
    struct client *client, union codec_state *codec, char *p, size_t n, char **ret_rest)
{
    const struct session_ops *session;
    client->ctx->taken = 0;
    do {
        session = client_session(client);
        n = session->take(client, codec, p, n, &p);
        if (session != client_session(client))
            memset(codec, 0, sizeof(*codec));
    } while (session != client_session(client) && n > 0 && client_may_start(client));
    *ret_rest = p;
    if (client->yields || !client_may_start(client)) {
        client->paused = true; /* client_resume() goes on when it may */
        client_touch(client);
    }
    return takes_no_more(client) ? 0 : n;
}

/* Whether something is incomplete of which no byte is left. */
static bool is_midway(const struct client *client, const union codec_state *codec)
{
    const struct session_ops *session = client_session(client);
    return session->midway != NULL && session->midway(codec, client);
}

/* Tells the session that something is in client->pending. */
static void tell_waiting(struct client *client)
{
    const struct session_ops *session = client_session(client);
    if (session->waiting != NULL)
        session->waiting(client);
}

/* Copies the incomplete rest of what was read into client->pending. */
static void keep_rest(
    struct client *client, const union codec_state *codec, const char *p, size_t n)
{
    struct pending *pending = mem_zalloc(sizeof(*pending));
    if (pending == NULL || buf_append(&pending->bytes, p, n) < 0) {
        mem_free(pending);
        client_doom(client);
        return;
    }
    pending->codec = *codec;
    client->pending = pending;
    client_start_clocks(client);
    tell_waiting(client);
}

/*
 * Gives what is pending to the session. Returns whether some of it was used: what is left then
 * belongs to another request or message.
 */
static bool take_pending(struct client *client)
{
    struct pending *pending = client->pending;
    char *rest;
    char *bytes = buf_data(&pending->bytes);
    size_t before = buf_len(&pending->bytes);
    size_t left = feed_session(client, &pending->codec, bytes, before, &rest);
    if (left == 0 && !is_midway(client, &pending->codec)) {
        client_free_pending(client);
        return true;
    }
    size_t used = (size_t)(rest - bytes);
    buf_truncate(&pending->bytes, used + left);
    buf_consume(&pending->bytes, used);
    if (client->uploads) /* all of it is one body */
        return false;
    if (used > 0)
        client_start_clocks(client);
    tell_waiting(client);
    return used > 0;
}

/* No request may be started, but behind what is pending may be something that need not wait. */
static void look_ahead(struct client *client)
{
    struct pending *pending = client->pending;
    const struct session_ops *session = client_session(client);
    if (session->ahead == NULL || pending == NULL)
        return;
    client->ctx->taken = 0;
    size_t left = session->ahead(
        client, &pending->codec, buf_data(&pending->bytes), buf_len(&pending->bytes));
    buf_truncate(&pending->bytes, left);
    if (left == 0 && !is_midway(client, &pending->codec))
        client_free_pending(client);
}

void client_resume(struct client *client)
{
    if (!client_may_start(client)) {
        look_ahead(client);
        return;
    }
    client->paused = false;
    if (client->pending != NULL)
        take_pending(client);
}

static void take_more(struct client *client, struct pending *pending, const char *p, size_t n)
{
    const struct session_ops *session = client_session(client);
    size_t before = session->gathered == NULL ? 0 : session->gathered(pending);
    pending->continue_owed = false; /* the client did not wait for it */
    if (buf_append(&pending->bytes, p, n) < 0) {
        client_doom(client);
        return;
    }
    if (take_pending(client) || client->pending != pending)
        return;
    session = client_session(client);
    if (session->gathered != NULL) {
        size_t now = session->gathered(pending);
        n = now > before ? now - before : 0;
    }
    pending->window_bytes += (uint32_t)n;
    if (n > 0)
        pending->heard = ctx_now(client->ctx);
}

/* Bytes of a body that goes part by part are handed on from where they were read. */
static void take_upload(struct client *client, struct pending *pending, char *p, size_t n)
{
    char *rest;
    pending->window_bytes += (uint32_t)n;
    pending->heard = ctx_now(client->ctx);
    size_t left = feed_session(client, &pending->codec, p, n, &rest);
    if (left == 0 && !is_midway(client, &pending->codec)) {
        client_free_pending(client);
        return;
    }
    if (buf_append(&pending->bytes, rest, left) < 0) {
        client_doom(client);
        return;
    }
    if (!client->uploads) /* what is left is of another request */
        client_start_clocks(client);
    tell_waiting(client);
}

static void take_bytes(struct client *client, char *p, size_t n)
{
    if (UNLIKELY(client->uploads) && client->pending != NULL &&
        buf_len(&client->pending->bytes) == 0) {
        take_upload(client, client->pending, p, n);
        return;
    }
    if (client->pending != NULL) {
        take_more(client, client->pending, p, n);
        return;
    }
    union codec_state codec;
    char *rest;
    memset(&codec, 0, sizeof(codec));
    size_t left = feed_session(client, &codec, p, n, &rest);
    if (left > 0 || is_midway(client, &codec))
        keep_rest(client, &codec, rest, left);
}

/*
 * Whether what has been read is to be started before the end of input is looked at. An incomplete
 * message is, too: the end may complete it.
 */
static bool has_more_to_start(const struct client *client)
{
    bool waits = client->paused || (client->pending != NULL && !client_may_start(client));
    return client->state == CLIENT_OPEN && waits && !client->last_request &&
           !client_session(client)->ends_at_once;
}

/* The end of input is looked at once more when what was sent before it has been started. */
static void put_end_off(struct client *client)
{
    client->shut = true;
    client->active_at = ctx_now(client->ctx); /* CLIENT_HALF_CLOSED_MS count from here */
    client_touch(client);
}

/*
 * The client sends no more: it may have shut its side only, or be gone. In the middle of a body or
 * an answer that goes part by part it is gone. The other cases, in this order:
 *
 * 1. What it has sent before may not be started yet: that comes first.
 * 2. It lingers, and the kernel still has much for it: it is closed when it has read that.
 * 3. Nothing is in progress: it leaves.
 * 4. The end is under way, or the session ends with the client's side: it is closed at once.
 * 5. Else it is half closed for as long as requests are in progress.
 */
static void on_end_of_input(struct client *client)
{
    if (UNLIKELY(client->uploads) && client->paused && !client->streams) {
        put_end_off(client); /* what is here may be all of the body */
        return;
    }
    if (UNLIKELY(client->streams || client->uploads)) {
        client_doom(client);
        return;
    }
    if (has_more_to_start(client)) {
        client->paused = true;
        client_touch(client);
        if (!client_may_start(client))
            put_end_off(client);
        return;
    }
    bool idle = list_empty(&client->requests) && client->pending == NULL &&
                client_waiting(client) == 0;
    if (client->state == CLIENT_LINGERING && client_unsent(client) > CLIENT_UNSENT_SMALL) {
        client->shut = true; /* client_timeout() asks client_reads_the_rest() */
        client_touch(client);
        return;
    }
    if (idle && client->state < CLIENT_ENDING && !client_session(client)->ends_at_once) {
        client_leave(client);
        return;
    }
    if (client->state >= CLIENT_ENDING || idle || !client_session(client)->input_ended(client)) {
        client_doom(client);
        return;
    }
    if (client->state == CLIENT_OPEN)
        client_set_state(
            client, list_empty(&client->requests) ? CLIENT_ENDING : CLIENT_HALF_CLOSED);
    client->active_at = ctx_now(client->ctx); /* CLIENT_HALF_CLOSED_MS count from here */
    client_free_pending(client);
    client_touch(client);
}

static ssize_t receive(struct client *client, void *room, size_t n)
{
    struct transport *transport = client->transport;
    if (LIKELY(transport == NULL))
        return recv(client->fd, room, n, 0);
    return transport->ops->read(transport, client->fd, room, n);
}

static void read_client(struct client *client)
{
    struct ctx *ctx = client->ctx;
    enum memory_level level = ctx_memory(ctx);
    if (UNLIKELY(level != MEMORY_EASY) && client->state == CLIENT_OPEN && !client->shut &&
        client_must_starve(client, level)) {
        client_touch(client); /* which stops reading */
        return;
    }
    client->fed = false;
    size_t room = CTX_READ_SIZE;
    if (client_is_duplex(client) && client->state == CLIENT_OPEN && !client_may_start(client))
        room = MIN(room, client_ahead_room(client));
    if (UNLIKELY(room == 0)) {
        client_touch(client); /* which stops reading */
        return;
    }
    if (UNLIKELY(client->session == SESSION_PROXY)) {
        client_read_header(client);
        return;
    }
    ssize_t n = receive(client, ctx->read_buf, room);
    if (n < 0) {
        if (errno == EPROTO && client->transport != NULL)
            client_break(client);
        else if (errno != EAGAIN && errno != EINTR)
            client_doom(client); /* a reset: no answer can arrive */
        return;
    }
    if (n > 0)
        share_count(client_counts(client)->received, (uint64_t)n);
    if (n == 0) {
        on_end_of_input(client);
        return;
    }
    client_set_used(client);
    if (client->state == CLIENT_LINGERING)
        return; /* the bytes are dropped; active_at stays, so that this ends */
    if (client_waiting(client) == 0)
        client->active_at = ctx_now(ctx); /* else it is active when it reads */
    take_bytes(client, ctx->read_buf, (size_t)n);
    client_arm(client);
}

/* The client has shut its side while it is not read: what it sent before may be unread. */
static void on_hang_up(struct client *client)
{
    if (takes_no_more(client) || client->streams || client_session(client)->ends_at_once) {
        on_end_of_input(client);
        return;
    }
    put_end_off(client);
}

/*
 * Both directions are closed while the client is not read. No answer can arrive: the client is
 * closed, and its calls are cancelled. Only where all that is left are notifications, these have
 * CLIENT_HALF_CLOSED_MS, since a client may close its socket right after them.
 */
static void on_closed_by_peer(struct client *client)
{
    if (client->state > CLIENT_HALF_CLOSED || client->ctx->requests_ops->awaited(client) ||
        client_session(client)->ends_at_once) {
        client_doom(client);
        return;
    }
    client->deserted = true;
    if (client->state == CLIENT_OPEN && !client->shut)
        on_hang_up(client);
    client_touch(client);
}

void client_try_transport(struct client *client)
{
    client_touch(client); /* what is wanted, or has been read already, may be something else now */
    if (client->reads && !client->yields)
        read_client(client);
    client_write(client);
}

void client_read_kept(struct client *client)
{
    if (client->reads && !client->yields && client->state < CLIENT_DOOMED &&
        client->transport->ops->has_bytes(client->transport))
        read_client(client);
}

uint64_t client_ready(void *item, uint32_t events)
{
    struct client *client = item;
    ctx_now_us(client->ctx); /* from here on the turn is busy */
    if (client_is_over(client, events))
        return 0;
    if (events & EPOLLHUP && !(client->events & (EPOLLIN | EPOLLOUT))) {
        on_closed_by_peer(client);
        return 0;
    }
    if (events == EPOLLHUP)
        events = client->events; /* reading, or else writing, shows whether it is at its end */
    if (client->yields && !(events & EPOLLRDHUP))
        return 0; /* what has been read comes first */
    if (UNLIKELY(client->transport != NULL) && events & (EPOLLIN | EPOLLOUT))
        client_try_transport(client);
    else if (events & EPOLLIN)
        read_client(client);
    else if (events & EPOLLRDHUP)
        on_hang_up(client);
    return 0;
}

bool client_too_slow(struct client *client)
{
    uint64_t now = ctx_now(client->ctx);
    uint64_t timeout = client_body_timeout(client);
    struct pending *pending = client->pending;
    if (now - pending->heard >= timeout)
        return true;
    if (now - pending->window < timeout)
        return false;
    if (pending->window_bytes < CLIENT_BODY_RATE * (now - pending->window) / 1000)
        return true;
    pending->window = now;
    pending->window_bytes = 0;
    return false;
}
