/*
 * Answers that go out part by part: http1_begin() writes the head, http1_part() each part, in the
 * framing that the client knows the end by (RFC 9112 section 6.3), and http1_finish() the end.
 * http1_break_off() ends the connection without one. An answer whose turn it is not waits in its
 * http1_turn, as a whole one does; its worker is held up by the window meanwhile.
 */

#include "frontd/shard/session/http1_session.h"

enum { CHUNK_HEAD_MAX = 18, CHUNK_END = 2 /* bytes around a chunk's data */ };

/* What `out` has got counts, where it waits for its turn. */
static void added(struct request *request, struct buf *out, size_t n)
{
    buf_added(out, n);
    if (out == &http1_turn(request)->text)
        http1_hold_back(request);
    client_touch(request->client);
}

enum session_parts http1_begin(struct request *request, const struct reply *reply)
{
    struct client *client = request->client;
    struct http1_turn *turn = http1_turn(request);
    bool only = client->requests.next == &request->node && client->requests.prev == &request->node;
    struct buf *out;
    if (turn->head || reply_is_bodiless(reply->status))
        return SESSION_NO_BODY;
    if (client->state >= CLIENT_ENDING || (reply->has_length && reply->body.n > reply->length) ||
        (!reply->has_length && turn->minor == 0 && !only))
        return SESSION_WHOLE;
    if (request->uploads) /* its body may not have ended when the answer does */
        http1_set_last(request);
    turn->framing = reply->has_length  ? HTTP1_LENGTH
                    : turn->minor == 0 ? HTTP1_UNTIL_CLOSE
                                       : HTTP1_CHUNKED;
    turn->left = reply->length;
    if (turn->framing == HTTP1_UNTIL_CLOSE) {
        http1_set_last(request);
        client->aborts = true; /* whatever ends the connection before the body has ended */
    }
    const struct http1_reply head = {
        .status = reply->status,
        .minor = turn->minor,
        .keep_alive = turn->keep_alive,
        .no_length = turn->framing != HTTP1_LENGTH,
        .chunked = turn->framing == HTTP1_CHUNKED,
        .content_length = reply->length,
        .fields = reply->fields,
        .cors = request->page == NULL ? (struct span){0} : *request->page,
        .id = mark_field(request->mark),
    };
    size_t fields = head.fields.n + head.cors.n + head.id.n;
    char *room = http1_room(request, HTTP1_REPLY_HEAD_MAX + fields, &out);
    if (room != NULL)
        added(request, out, http1_reply_head(room, &head, ctx_date(client->ctx)));
    return SESSION_PARTS;
}

bool http1_part(struct request *request, struct span bytes)
{
    struct http1_turn *turn = http1_turn(request);
    struct buf *out;
    if (bytes.n == 0) /* a chunk without data would be the end */
        return true;
    if (turn->framing == HTTP1_LENGTH && bytes.n > turn->left)
        return false;
    char *room = http1_room(request, CHUNK_HEAD_MAX + bytes.n + CHUNK_END, &out);
    if (room == NULL)
        return true; /* the client is doomed */
    char *p = room;
    if (turn->framing == HTTP1_CHUNKED)
        p += snprintf(p, CHUNK_HEAD_MAX, "%zx\r\n", bytes.n);
    memcpy(p, bytes.p, bytes.n);
    p += bytes.n;
    if (turn->framing == HTTP1_CHUNKED) {
        memcpy(p, "\r\n", CHUNK_END);
        p += CHUNK_END;
    } else if (turn->framing == HTTP1_LENGTH) {
        turn->left -= bytes.n;
    }
    added(request, out, (size_t)(p - room));
    return true;
}

bool http1_finish(struct request *request)
{
    static const char last[] = "0\r\n\r\n";
    struct client *client = request->client;
    struct http1_turn *turn = http1_turn(request);
    struct buf *out;
    if (turn->framing == HTTP1_LENGTH && turn->left > 0)
        return false;
    if (turn->framing == HTTP1_CHUNKED) {
        char *room = http1_room(request, sizeof(last), &out);
        if (room != NULL) {
            memcpy(room, last, sizeof(last) - 1);
            added(request, out, sizeof(last) - 1);
        }
    }
    if (turn->framing == HTTP1_UNTIL_CLOSE)
        client->aborts = false;
    http1_end_upload(request);
    turn->done = true;
    http1_send_replies(client);
    return true;
}

/*
 * What has come goes out, and the connection ends behind it, without the last chunk or short of the
 * length. Where the end of the connection would be the end of the body it is reset.
 */
void http1_break_off(struct request *request)
{
    struct client *client = request->client;
    struct http1_turn *turn = http1_turn(request);
    while (client->requests.prev != &request->node)
        request_abandon(container_of(client->requests.prev, struct request, node));
    if (turn->framing == HTTP1_UNTIL_CLOSE)
        client_abort(client);
    http1_set_last(request);
    http1_end_upload(request);
    turn->done = true;
    http1_send_replies(client);
}

size_t http1_unsent(struct request *request)
{
    struct client *client = request->client;
    if (client->requests.next == &request->node)
        return client_waiting(client);
    return buf_len(&http1_turn(request)->text);
}
