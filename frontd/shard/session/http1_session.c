/*
 * take() feeds bytes to the codec; start() makes a request of each complete one. Answers go out in
 * the order of the requests: that of the first one straight to the client, another into its
 * http1_turn until the request is the first.
 */

#include "frontd/shard/session/http1_session.h"

#include <errno.h>

#include "frontd/shard/net/incident.h"
#include "frontd/shard/request/upload.h"

static struct http1_head head_scratch; /* of the request being looked at */

static struct span head_text(const struct http_head *http)
{
    return container_of(http, struct http1_head, http)->text;
}

/* It was complete and right before, and is not held to limits again. */
static const struct http_head *head_again(struct span text)
{
    static const struct http1_limits none = {.head_bytes = UINT32_MAX, .fields = HTTP_FIELDS_MAX};
    size_t used;
    CHECK(http1_head_parse(text.p, text.n, &none, &head_scratch, &used) == 0 && used == text.n);
    return &head_scratch.http;
}

void http1_hold(struct request *request, const struct http_head *http)
{
    struct span text = head_text(http);
    struct client *client = request->client;
    struct http1_turn *turn = http1_turn(request);
    if (buf_append(&turn->text, text.p, text.n) < 0) {
        client_doom(client);
        return;
    }
    turn->waits = true;
    client->held = true;
    client->last_request = false; /* what follows may be messages: it is looked at later */
}

static void go_on(struct client *client)
{
    struct request *first = list_first(&client->requests, struct request, node);
    struct http1_turn *turn = http1_turn(first);
    if (!turn->waits)
        return;
    struct buf text = turn->text;
    turn->text = (struct buf){0};
    turn->waits = client->held = false;
    client->last_request = !turn->keep_alive;
    const struct http_head *head = head_again((struct span){buf_data(&text), buf_len(&text)});
    if (client->pending != NULL) /* what is there may be the beginning of a message */
        memset(&client->pending->codec, 0, sizeof(client->pending->codec));
    request_start_again(first, head);
    buf_deinit(&text);
}

/* owed: that it is to be sent, which is over now. */
/* From here on the client has its time for the body: before, it could not know that it may send. */
static void send_continue(struct client *client, bool *owed)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    *owed = false;
    if (client->pending != NULL) {
        client->pending->heard = client->pending->window = ctx_now(client->ctx);
        client->pending->window_bytes = 0;
    }
    char *room = client_room(client, sizeof(text) - 1);
    if (room != NULL)
        memcpy(room, text, sizeof(text) - 1);
}

void http1_set_last(struct request *request)
{
    http1_turn(request)->keep_alive = false;
    request->client->last_request = true;
}

void http1_end_upload(struct request *request)
{
    struct client *client = request->client;
    if (LIKELY(!request->uploads))
        return;
    http1_set_last(request);
    request->uploads = client->uploads = client->upload_waits = false;
}

/* Adds a request. NULL where there is no memory: the client is doomed. head: NULL: not known. */
static struct request *add(struct client *client, const struct http1_head *head)
{
    struct request *request = request_add(client, NULL);
    if (request == NULL) {
        client_doom(client);
        return NULL;
    }
    struct http1_turn *turn = http1_turn(request);
    turn->minor = head == NULL ? 1 : head->minor;
    turn->head = head != NULL && head->http.method == HTTP_HEAD;
    turn->keep_alive = head != NULL && head->keep_alive;
    return request;
}

/*
 * Starts the request whose head is in head_scratch. A client that asks for "100 Continue" and is
 * refused whatever its body is may or may not send the body: its connection ends, wherever the
 * bytes were cut.
 */
static void start(struct client *client, struct span body)
{
    struct http1_head *head = &head_scratch;
    if (client->ctx->draining ||
        (head->http.expect_continue && request_hopeless(client, &head->http)))
        head->keep_alive = false;
    if (!head->keep_alive)
        client->last_request = true;
    struct request *request = add(client, head);
    if (request != NULL)
        request_start(request, &head->http, body);
}

/*
 * Answers what is no complete request with that status; the connection ends. is_head: the method is
 * HEAD, as far as is known. head: NULL where it is not complete.
 */
static void refuse(
    struct client *client, unsigned status, bool is_head, const struct http1_head *head)
{
    struct request *request = add(client, head);
    if (request == NULL)
        return;
    http1_turn(request)->head |= is_head;
    http1_set_last(request);
    request_refuse(request, status, head == NULL ? NULL : &head->http);
}

/*
 * Starts the request whose head is in head_scratch before its body has come, where the route takes
 * such a body in parts. Returns false where it does not.
 */
static bool start_upload(struct client *client, struct http1 *http1, bool alone)
{
    const struct http1_head *head = &head_scratch;
    uint64_t most = upload_most(client, &head->http);
    if (most == 0 || (!head->chunked && head->content_length > most))
        return false;
    http1_begin_parts(http1, head);
    client->last_request = client->ctx->draining || !head->keep_alive;
    struct request *request = add(client, head);
    if (request == NULL)
        return true;
    struct http1_turn *turn = http1_turn(request);
    turn->keep_alive = !client->last_request;
    turn->continue_owed = head->http.expect_continue && alone;
    upload_begin(request, most);
    client->uploads = true;
    if (turn->continue_owed && client->requests.next == &request->node)
        send_continue(client, &turn->continue_owed);
    request_start(request, &head->http, (struct span){0});
    return true;
}

/* Hands on a part of a body. Returns how many bytes are used; 0: there is no room for any. */
static size_t take_part(struct client *client, struct http1 *http1, const char *p, size_t n)
{
    struct request *request = container_of(client->requests.prev, struct request, node);
    size_t room = upload_room(request);
    size_t used;
    struct span part;
    bool last;
    if (room == 0) {
        client->upload_waits = true;
        return 0;
    }
    unsigned status = http1_feed_part(
        http1, p, n, room, client->ctx->conf->limits.header, &used, &part, &last);
    if (status != 0) {
        incident_show(client->ctx, INCIDENT_HTTP1, (struct span){p, n});
        upload_fail(request, status);
        incident_hide(client->ctx);
        return n;
    }
    upload_part(request, part, last);
    return used;
}

static bool midway(const union codec_state *codec, const struct client *client)
{
    return codec->http1.parts && client->uploads;
}

static void upload_room_again(struct request *request)
{
    request->client->upload_waits = false;
    client_touch(request->client);
}

static size_t take(
    struct client *client, union codec_state *codec, char *p, size_t n, char **ret_rest)
{
    const struct conf_limits *limits = &client->ctx->conf->limits;
    struct http1_config config = {
        .head = {.head_bytes = limits->header, .fields = limits->headers},
        .body = limits->body,
        .parts = client->ctx->conf->streams_bodies,
    };
    while (n > 0 && client->session == SESSION_HTTP1 && client_takes(client)) {
        if (UNLIKELY(codec->http1.parts)) {
            size_t used = take_part(client, &codec->http1, p, n);
            p += used;
            n -= used;
            if (used == 0)
                break;
            continue;
        }
        struct http1_result result = http1_feed(&codec->http1, p, n, &config, &head_scratch);
        if (result.event == HTTP1_ERROR) {
            /* The answer to HEAD has no body, also where the head goes wrong after the method. */
            bool is_head = codec->http1.phase == HTTP1_PHASE_HEAD &&
                           head_scratch.http.method == HTTP_HEAD;
            incident_show(client->ctx, INCIDENT_HTTP1, (struct span){p, n});
            refuse(client, result.status, is_head, result.head_known ? &head_scratch : NULL);
            incident_hide(client->ctx);
            n = 0;
        } else if (result.event == HTTP1_LARGE) {
            config.parts = start_upload(client, &codec->http1, n == result.used);
            p += config.parts ? result.used : 0;
            n -= config.parts ? result.used : 0;
        } else if (result.event == HTTP1_REQUEST) {
            config.parts = client->ctx->conf->streams_bodies;
            start(client, result.body);
            p += result.used;
            n -= result.used;
        } else {
            if (result.event == HTTP1_CONTINUE && request_hopeless(client, &head_scratch.http))
                start(client, (struct span){0}); /* refuses it now, before its body */
            n = result.kept;
            break;
        }
    }
    *ret_rest = p;
    return n;
}

/* The head of an incomplete request is there: the client may wait for "100 Continue". */
static void waiting(struct client *client)
{
    struct pending *pending = client->pending;
    if (!pending->codec.http1.continue_asked)
        return;
    pending->codec.http1.continue_asked = false;
    pending->continue_owed = true;
    if (list_empty(&client->requests))
        send_continue(client, &pending->continue_owed);
}

/* The head of the incomplete request, where it has come; else NULL. It was complete and right
 * before, and is not held to limits again. */
static const struct http1_head *pending_head(const struct pending *pending)
{
    static const struct http1_limits none = {.head_bytes = UINT32_MAX, .fields = HTTP_FIELDS_MAX};
    const struct http1 *http1 = &pending->codec.http1;
    size_t used;
    if (http1->phase == HTTP1_PHASE_HEAD || http1_head_parse(buf_data(&pending->bytes),
                                                http1->head_len, &none, &head_scratch, &used) != 0)
        return NULL;
    return &head_scratch;
}

static bool input_ended(struct client *client)
{
    if (client->pending != NULL && client_may_start(client)) /* RFC 9112 section 8: incomplete */
        refuse(client, 400, false, pending_head(client->pending));
    return true;
}

/* Whether the client waits for "100 Continue", which is not its turn yet. */
static bool owes_continue(const struct client *client)
{
    if (!client->uploads)
        return client->pending != NULL && client->pending->continue_owed;
    struct request *request = container_of(client->requests.prev, struct request, node);
    return http1_turn(request)->continue_owed;
}

static uint64_t due(const struct client *client)
{
    const struct conf_limits *limits = &client->ctx->conf->limits;
    const struct pending *pending = client->pending;
    if (UNLIKELY(owes_continue(client)))
        return UINT64_MAX; /* it waits for answers to requests before */
    if (UNLIKELY(client->uploads))
        return pending != NULL && client_may_start(client) ? client_pending_due(client)
                                                           : UINT64_MAX;
    if (pending != NULL && client_may_start(client)) {
        if (pending->codec.http1.phase == HTTP1_PHASE_HEAD)
            return pending->started + limits->header_timeout;
        return client_pending_due(client);
    }
    if (!list_empty(&client->requests))
        return UINT64_MAX; /* calls have their own deadlines */
    return client->active_at + limits->idle_timeout;
}

static void expire(struct client *client)
{
    struct pending *pending = client->pending;
    if (UNLIKELY(client->uploads)) {
        if (pending != NULL && client_may_start(client) && client_too_slow(client))
            upload_fail(container_of(client->requests.prev, struct request, node), 408);
        return;
    }
    if (pending == NULL) {
        client_because(client, METRIC_REASON_IDLE);
        client_leave(client);
        return;
    }
    if (pending->codec.http1.phase != HTTP1_PHASE_HEAD && !client_too_slow(client))
        return;
    incident_show(client->ctx, INCIDENT_HTTP1,
        (struct span){buf_data(&pending->bytes), buf_len(&pending->bytes)});
    refuse(client, 408, false, pending_head(pending));
    incident_hide(client->ctx);
    client_free_pending(client);
}

static void drain(struct client *client)
{
    if (!list_empty(&client->requests)) {
        /* The youngest request in progress is the last one. */
        http1_set_last(container_of(client->requests.prev, struct request, node));
        client_touch(client);
    } else if (client->pending == NULL && client_waiting(client) == 0) {
        client_leave(client);
    } else if (client->pending == NULL) {
        client->last_request = true;
        client_end(client);
    }
    /* Else a request is incomplete: start() makes it the last one. */
}

void http1_hold_back(struct request *request)
{
    struct http1_turn *turn = http1_turn(request);
    uint32_t held = turn->text.size + (uint32_t)(sizeof(*request) + sizeof(*turn));
    request->client->held_back += held - turn->held;
    turn->held = held;
}

/* What waits of an answer whose turn it is goes out. */
static void send_text(struct request *request)
{
    struct client *client = request->client;
    struct http1_turn *turn = http1_turn(request);
    size_t n = buf_len(&turn->text);
    if (n > 0) {
        char *room = client_room(client, n);
        if (room != NULL)
            memcpy(room, buf_data(&turn->text), n);
        client->held_back -= turn->held;
        turn->held = 0;
    }
    buf_deinit(&turn->text);
}

void http1_send_replies(struct client *client)
{
    while (!list_empty(&client->requests)) {
        struct request *first = list_first(&client->requests, struct request, node);
        struct http1_turn *turn = http1_turn(first);
        if (UNLIKELY(turn->continue_owed) && !turn->done)
            send_continue(client, &turn->continue_owed);
        if (!turn->done && turn->framing == HTTP1_WHOLE)
            break;
        send_text(first);
        if (!turn->done)
            break;
        bool last = !turn->keep_alive;
        request_free(first);
        if (last) {
            client_because(client, METRIC_REASON_DONE);
            client->last_request = true;
            client_end(client);
            break;
        }
    }
    if (client->pending != NULL && client->pending->continue_owed &&
        list_empty(&client->requests) && client_may_ask(client))
        send_continue(client, &client->pending->continue_owed);
    client_touch(client);
}

char *http1_room(struct request *request, size_t n, struct buf **ret_out)
{
    struct client *client = request->client;
    bool first = client->requests.next == &request->node;
    *ret_out = first ? &client->out : &http1_turn(request)->text;
    char *room = buf_room(*ret_out, n);
    if (room == NULL)
        client_doom(client);
    return room;
}

static void reply(struct request *request, const struct reply *reply)
{
    struct client *client = request->client;
    struct http1_turn *turn = http1_turn(request);
    struct buf *out;
    http1_end_upload(request);
    bool reset = reply->status == 205; /* RFC 9110 section 15.3.6: it says that nothing follows */
    bool no_body = turn->head || reply_is_bodiless(reply->status);
    bool has_length = reply->has_length && (turn->head || reply->status == 304);
    uint64_t length = has_length ? reply->length : reply->body.n;
    struct http1_reply head = {
        .status = reply->status,
        .minor = turn->minor,
        .keep_alive = turn->keep_alive,
        .no_length = reply->status == 204 || (reply->status == 304 && !has_length) ||
                     reply->no_length,
        .content_length = reset ? 0 : length,
        .content_type = reply->content_type,
        .fields = reply->fields,
        .cors = request->page == NULL ? (struct span){0} : *request->page,
        .id = mark_field(request->mark),
    };
    size_t body_len = no_body ? 0 : reply->body.n;
    size_t fields_len = head.fields.n + head.cors.n + head.id.n;
    char *room = http1_room(request, HTTP1_REPLY_HEAD_MAX + fields_len + body_len, &out);
    if (room != NULL) {
        size_t n = http1_reply_head(room, &head, ctx_date(client->ctx));
        if (body_len > 0)
            memcpy(room + n, reply->body.p, body_len);
        buf_added(out, n + body_len);
        if (out == &turn->text)
            http1_hold_back(request);
    }
    turn->done = true;
    http1_send_replies(client);
}

static size_t request_holds(struct request *request)
{
    return http1_turn(request)->text.size;
}

static void abandoned(struct request *request)
{
    struct http1_turn *turn = http1_turn(request);
    request->client->held_back -= turn->held;
    turn->held = 0;
    buf_deinit(&turn->text);
    if (turn->framing == HTTP1_UNTIL_CLOSE && request->client->state < CLIENT_DOOMED)
        client_abort(request->client); /* else the end would be that of the body */
}

static void gone(struct client *client)
{
    (void)client;
}

static void save_codec(const union codec_state *codec, struct pack *pack)
{
    http1_save(&codec->http1, pack);
}

static int restore_codec(
    struct span bytes, union codec_state *ret_codec, struct unpack *unpack, unsigned version)
{
    return version == 1 ? http1_restore(&ret_codec->http1, unpack, bytes) : -EBADMSG;
}

const struct session_ops http1_session = {
    .request_size = sizeof(struct http1_turn),
    .head_text = head_text,
    .head_again = head_again,
    .request_holds = request_holds,
    .abandoned = abandoned,
    .take = take,
    .midway = midway,
    .waiting = waiting,
    .input_ended = input_ended,
    .due = due,
    .expire = expire,
    .drain = drain,
    .reply = reply,
    .begin = http1_begin,
    .part = http1_part,
    .finish = http1_finish,
    .break_off = http1_break_off,
    .unsent = http1_unsent,
    .upload_room = upload_room_again,
    .gone = gone,
    .go_on = go_on,
    .save_codec = save_codec,
    .restore_codec = restore_codec,
};
