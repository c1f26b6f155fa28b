/*
 * Answers that go out part by part: http2_begin_parts() sends HEADERS, http2_part() DATA, as far as
 * the client's windows allow; the rest waits in the stream, as that of a whole answer does
 * (http2_answer.c), and holds up its worker alone. http2_finish() ends the stream, when what waits
 * has gone; http2_break_off() resets it.
 */

#include "frontd/shard/session/http2_session.h"

enum session_parts http2_begin_parts(struct request *request, const struct reply *reply)
{
    struct http2_turn *turn = http2_turn(request);
    struct http2_stream *stream = turn->stream;
    if (stream->is_head || reply_is_bodiless(reply->status))
        return SESSION_NO_BODY;
    if (stream->is_connect || (reply->has_length && reply->body.n > reply->length))
        return SESSION_WHOLE;
    struct h2_reply head = http2_head_of(request, reply, reply->length);
    head.no_length = !reply->has_length;
    turn->has_length = reply->has_length;
    turn->left = reply->length;
    http2_set_state(stream, HTTP2_PARTS);
    http2_put_head(stream->client, &head, stream->h2.id);
    return SESSION_PARTS;
}

bool http2_part(struct request *request, struct span bytes)
{
    struct http2_turn *turn = http2_turn(request);
    struct http2_stream *stream = turn->stream;
    struct http2 *http2 = stream->client->http2;
    bool waits = buf_len(&stream->body) > 0;
    if (bytes.n == 0)
        return true;
    if (turn->has_length && bytes.n > turn->left)
        return false;
    turn->left -= turn->has_length ? bytes.n : 0;
    client_touch(stream->client);
    if (!waits && buf_len(&stream->client->out) < HTTP2_OUT &&
        bytes.n <= h2_conn_sendable(&http2->conn, &stream->h2)) {
        http2_put_bytes(stream, bytes.p, (uint32_t)bytes.n, false);
        return true;
    }
    if (http2_keep(stream, bytes) && !waits) {
        http2_set_state(stream, HTTP2_PARTS); /* it has its time from now on */
        list_append(&http2->sending, &stream->sending);
    }
    return true;
}

/* The request is over, and its stream no longer its own. */
static struct http2_stream *release(struct request *request)
{
    struct http2_stream *stream = http2_turn(request)->stream;
    stream->request = NULL;
    http2_turn(request)->stream = NULL;
    request_free(request);
    return stream;
}

bool http2_finish(struct request *request)
{
    struct http2_turn *turn = http2_turn(request);
    if (turn->has_length && turn->left > 0)
        return false;
    struct http2_stream *stream = release(request);
    client_touch(stream->client);
    if (buf_len(&stream->body) > 0)
        http2_set_state(stream, HTTP2_ANSWERS);
    else if (http2_put_bytes(stream, "", 0, true))
        http2_finish_stream(stream);
    return true;
}

void http2_break_off(struct request *request)
{
    struct http2_stream *stream = release(request);
    http2_reset(stream->client, stream->h2.id, stream, H2_INTERNAL_ERROR);
}

size_t http2_unsent(struct request *request)
{
    return buf_len(&http2_turn(request)->stream->body);
}
