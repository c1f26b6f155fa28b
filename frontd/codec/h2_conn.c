#include <string.h>

#include "frontd/codec/h2_conn_internal.h"

static const char ping_payload[H2_PING_SIZE] = "leaving";

/* ---- Streams -------------------------------------------------------------------------------- */

struct h2_stream *h2_conn_find(const struct h2_conn *conn, uint32_t id)
{
    for (struct list *node = conn->streams.prev; node != &conn->streams; node = node->prev) {
        struct h2_stream *stream = container_of(node, struct h2_stream, node);
        if (stream->id == id)
            return stream;
    }
    return NULL;
}

/* Whether no frame of that stream may have come yet: section 5.1.1. */
static bool is_idle(const struct h2_conn *conn, uint32_t id)
{
    return id % 2 == 0 || id > conn->last_stream;
}

/* The client uses a stream for the first time: those below it that it has left out are closed. */
static void note_opened(struct h2_conn *conn, uint32_t id)
{
    uint32_t by = conn->last_stream == 0 ? H2_RECENT_MAX : (id - conn->last_stream) / 2;
    conn->opened = by < H2_RECENT_MAX ? conn->opened << by : 0;
    conn->crossing = by < H2_RECENT_MAX ? conn->crossing << by : 0;
    conn->opened |= 1;
    conn->last_stream = id;
}

/* A stream is closed while the client may still send on it. */
static void note_crossing(struct h2_conn *conn, uint32_t id, uint64_t now)
{
    uint32_t back = (conn->last_stream - id) / 2;
    conn->crossing_until = (uint32_t)now + H2_CROSSING_MS;
    if (back < H2_RECENT_MAX) /* PRIORITY may be wrong for one that was never opened */
        conn->crossing |= 1U << back & conn->opened;
}

/* Whether the client has left the stream out, as far as is known. id: not idle. */
static bool is_skipped(const struct h2_conn *conn, uint32_t id)
{
    uint32_t back = (conn->last_stream - id) / 2;
    return back < H2_RECENT_MAX && !(conn->opened >> back & 1);
}

/* What becomes of DATA and HEADERS for a stream that is not open any more: section 5.1. */
static enum h2_fault judge_closed(struct h2_conn *conn, uint32_t id, uint64_t now)
{
    uint32_t back = (conn->last_stream - id) / 2;
    bool crossing = back < H2_RECENT_MAX
                        ? conn->crossing >> back & 1
                        : h2_time_left(conn->crossing_until, now, H2_CROSSING_MS) > 0;
    if (is_skipped(conn, id))
        return H2_FAULT_SKIPPED;
    return crossing ? h2_count_glitch(conn, now) : H2_FAULT_CLOSED;
}

static void add_stream(struct h2_conn *conn, struct h2_stream *stream)
{
    list_append(&conn->streams, &stream->node);
    conn->open++;
}

enum h2_fault h2_conn_open(
    struct h2_conn *conn, struct h2_stream *stream, uint32_t id, uint64_t length, bool end_stream)
{
    CHECK(id == conn->last_stream);
    if (end_stream && length != UINT64_MAX && length > 0)
        return H2_FAULT_BODY_LENGTH;
    stream->id = id;
    stream->left = length;
    stream->remote_closed = end_stream;
    stream->send_window = (int32_t)conn->peer_window;
    stream->recv_window = H2_WINDOW_DEFAULT;
    add_stream(conn, stream);
    h2_earn_spare(conn);
    return H2_OK;
}

void h2_conn_close(struct h2_conn *conn, struct h2_stream *stream)
{
    CHECK(conn->open > 0);
    list_remove(&stream->node);
    conn->open--;
}

size_t h2_conn_reset(struct h2_conn *conn, struct h2_stream *stream, uint32_t id, enum h2_code code,
    uint64_t now, uint8_t out[static H2_HEAD_SIZE + 4], enum h2_fault *ret_fault)
{
    if (stream == NULL || !stream->remote_closed)
        note_crossing(conn, id, now);
    if (stream != NULL)
        h2_conn_close(conn, stream);
    bool ours = code == H2_NO_ERROR || code == H2_INTERNAL_ERROR;
    *ret_fault = ours ? H2_OK : h2_count_reset(conn, now);
    if (*ret_fault == H2_OK)
        *ret_fault = h2_count_queued(conn);
    return *ret_fault == H2_OK ? h2_write_reset(out, id, code) : 0;
}

/* ---- Header blocks: sections 4.3, 6.2, 6.10 ------------------------------------------------- */

/*
 * Finds the CONTINUATION frames of the block that the frame begins, and puts their fragments
 * behind its own. Returns H2_OK with the block in frame->payload; H2_MORE, and nothing is moved.
 */
static enum h2_fault gather_block(struct feed *feed)
{
    struct h2_frame parts[H2_CONTINUATIONS_MAX];
    struct span *block = &feed->frame.payload;
    size_t at = feed->used, count = 0, total = block->n, used;
    uint32_t limit = h2_conn_header_limit(feed->conn, feed->config);
    bool whole = feed->frame.flags & H2_FLAG_END_HEADERS;
    if (total > limit)
        return H2_FAULT_BLOCK;
    while (!whole) {
        const char *p = feed->p + at;
        if (feed->n - at < H2_HEAD_SIZE)
            return H2_MORE;
        if (p[3] != H2_CONTINUATION)
            return H2_FAULT_CONTINUATION_MISSING;
        if (count == H2_CONTINUATIONS_MAX)
            return H2_FAULT_CONTINUATIONS;
        enum h2_fault fault = h2_frame_parse(p, feed->n - at, &parts[count], &used);
        if (fault != H2_OK)
            return fault;
        if (parts[count].stream != feed->frame.stream)
            return H2_FAULT_CONTINUATION_MISSING;
        total += parts[count].payload.n;
        if (total > limit)
            return H2_FAULT_BLOCK;
        whole = parts[count++].flags & H2_FLAG_END_HEADERS;
        at += used;
    }
    char *end = feed->p + (block->p - feed->p) + block->n;
    for (size_t i = 0; i < count; i++) {
        memmove(end, parts[i].payload.p, parts[i].payload.n);
        end += parts[i].payload.n;
    }
    block->n = total;
    feed->used = at;
    return H2_OK;
}

/* What a block is for, by its stream's state. */
static enum h2_use use_of_block(struct feed *feed, enum h2_fault *ret_fault)
{
    struct h2_conn *conn = feed->conn;
    struct h2_event *event = feed->event;
    *ret_fault = H2_OK;
    if (event->id > conn->last_stream) {
        note_opened(conn, event->id);
        if (event->id > conn->goaway_last) {
            note_crossing(conn, event->id, feed->now);
            return H2_USE_NONE;
        }
        if (conn->open < MAX(feed->config->streams, (uint32_t)conn->before_streams))
            return H2_USE_REQUEST;
        event->fault = H2_FAULT_REFUSED;
        return H2_USE_FAULT;
    }
    if (event->stream == NULL) { /* trailers that a reset has crossed */
        *ret_fault = judge_closed(conn, event->id, feed->now);
        return H2_USE_NONE;
    }
    if (!event->stream->remote_closed && event->end_stream) {
        bool short_body = event->stream->left != UINT64_MAX && event->stream->left > 0;
        event->stream->remote_closed = true;
        event->fault = short_body ? H2_FAULT_BODY_LENGTH : H2_OK;
        return short_body ? H2_USE_FAULT : H2_USE_TRAILERS;
    }
    event->fault = event->stream->remote_closed ? H2_FAULT_HALF_CLOSED : H2_FAULT_TRAILERS_OPEN;
    return H2_USE_FAULT;
}

static enum h2_fault feed_headers(struct feed *feed)
{
    struct h2_event *event = feed->event;
    enum h2_fault fault;
    if (event->id % 2 == 0)
        return H2_FAULT_STREAM_ID;
    fault = gather_block(feed);
    if (fault != H2_OK)
        return fault;
    event->kind = H2_EVENT_HEADERS;
    event->bytes = feed->frame.payload;
    event->end_stream = feed->frame.flags & H2_FLAG_END_STREAM;
    event->use = use_of_block(feed, &fault);
    return fault;
}

/* ---- Flow control: sections 5.2, 6.9 -------------------------------------------------------- */

bool h2_widen(int32_t *window, int64_t by)
{
    int64_t sum = *window + by;
    if (sum > H2_WINDOW_MAX)
        return false;
    *window = (int32_t)sum;
    return true;
}

static enum h2_fault fail_stream(struct feed *feed, enum h2_fault fault)
{
    feed->event->kind = H2_EVENT_STREAM_FAULT;
    feed->event->fault = fault;
    return H2_OK;
}

/* Takes the bytes off the connection's window, and opens it again when half of it is used. */
static enum h2_fault use_window(struct feed *feed)
{
    struct h2_conn *conn = feed->conn;
    int32_t n = (int32_t)feed->frame.length;
    if (n > conn->recv_window)
        return H2_FAULT_WINDOW;
    conn->recv_window -= n;
    if (conn->recv_window <= H2_CONN_WINDOW / 2) {
        uint32_t more = (uint32_t)(H2_CONN_WINDOW - conn->recv_window);
        feed->event->answer_n = (uint8_t)h2_write_window(feed->event->answer, 0, more);
        conn->recv_window = H2_CONN_WINDOW;
    }
    return H2_OK;
}

/* What is wrong with DATA for a stream that is open. */
static enum h2_fault take_data(struct feed *feed, struct h2_stream *stream)
{
    size_t n = feed->frame.payload.n;
    if (stream->remote_closed)
        return H2_FAULT_HALF_CLOSED;
    if ((int32_t)feed->frame.length > stream->recv_window)
        return H2_FAULT_STREAM_WINDOW;
    stream->recv_window -= (int32_t)feed->frame.length;
    if (stream->left == UINT64_MAX)
        return H2_OK;
    if (n > stream->left)
        return H2_FAULT_BODY_LENGTH;
    stream->left -= n;
    return feed->event->end_stream && stream->left > 0 ? H2_FAULT_BODY_LENGTH : H2_OK;
}

static enum h2_fault feed_data(struct feed *feed)
{
    struct h2_conn *conn = feed->conn;
    struct h2_event *event = feed->event;
    event->end_stream = feed->frame.flags & H2_FLAG_END_STREAM;
    if (is_idle(conn, event->id))
        return H2_FAULT_IDLE;
    enum h2_fault fault = use_window(feed);
    if (fault != H2_OK)
        return fault;
    bool empty = feed->frame.payload.n == 0 && !event->end_stream;
    conn->empty = empty ? (uint8_t)(conn->empty + 1) : 0;
    if (conn->empty > H2_EMPTY_MAX)
        return H2_FAULT_EMPTY;
    if (event->stream == NULL) /* a reset may have crossed it */
        return judge_closed(conn, event->id, feed->now);
    fault = take_data(feed, event->stream);
    if (fault != H2_OK)
        return fail_stream(feed, fault);
    event->stream->remote_closed = event->end_stream;
    event->kind = H2_EVENT_DATA;
    event->bytes = feed->frame.payload;
    return H2_OK;
}

static enum h2_fault feed_window(struct feed *feed)
{
    struct h2_conn *conn = feed->conn;
    struct h2_stream *stream = feed->event->stream;
    uint32_t increment = feed->frame.value;
    enum h2_fault fault = h2_count_spare(conn, feed->now);
    if (fault != H2_OK)
        return fault;
    feed->event->kind = H2_EVENT_WINDOW;
    if (feed->event->id == 0) {
        if (increment == 0)
            return H2_FAULT_INCREMENT_ZERO;
        return h2_widen(&conn->send_window, increment) ? H2_OK : H2_FAULT_OVERFLOW;
    }
    if (is_idle(conn, feed->event->id))
        return H2_FAULT_IDLE;
    if (is_skipped(conn, feed->event->id))
        return H2_FAULT_SKIPPED;
    if (stream == NULL)
        feed->event->kind = H2_EVENT_NONE;
    else if (increment == 0)
        return fail_stream(feed, H2_FAULT_STREAM_INCREMENT_ZERO);
    else if (!h2_widen(&stream->send_window, increment))
        return fail_stream(feed, H2_FAULT_STREAM_OVERFLOW);
    return H2_OK;
}

uint32_t h2_conn_sendable(const struct h2_conn *conn, const struct h2_stream *stream)
{
    int32_t window = MIN(conn->send_window, stream->send_window);
    return window <= 0 ? 0 : MIN((uint32_t)window, (uint32_t)H2_FRAME_MAX);
}

void h2_conn_sent(struct h2_conn *conn, struct h2_stream *stream, uint32_t n)
{
    CHECK((int64_t)n <= MAX(MIN(conn->send_window, stream->send_window), 0));
    conn->send_window -= (int32_t)n;
    stream->send_window -= (int32_t)n;
    h2_earn_spare(conn);
}

size_t h2_conn_grant(
    struct h2_stream *stream, uint32_t window, uint8_t out[static H2_HEAD_SIZE + 4])
{
    int64_t more = (int64_t)MIN(window, (uint32_t)H2_WINDOW_MAX) - stream->recv_window;
    if (stream->remote_closed || more <= 0)
        return 0;
    more = MIN(more, (int64_t)H2_WINDOW_MAX);
    stream->recv_window += (int32_t)more;
    return h2_write_window(out, stream->id, (uint32_t)more);
}

/* ---- The other frames ---------------------------------------------------------------------- */

static enum h2_fault feed_ping(struct feed *feed)
{
    struct h2_conn *conn = feed->conn;
    struct h2_event *event = feed->event;
    const char *payload = feed->frame.payload.p;
    if (feed->frame.flags & H2_FLAG_ACK && conn->pinged &&
        memcmp(payload, ping_payload, H2_PING_SIZE) == 0) {
        conn->pinged = false;
        event->kind = H2_EVENT_PONG;
        return H2_OK;
    }
    enum h2_fault fault = h2_count_glitch(conn, feed->now);
    if (fault != H2_OK || feed->frame.flags & H2_FLAG_ACK)
        return fault;
    event->answer_n = (uint8_t)h2_write_ping(event->answer, payload, true);
    return h2_count_queued(conn);
}

static enum h2_fault feed_reset(struct feed *feed)
{
    struct h2_conn *conn = feed->conn;
    struct h2_event *event = feed->event;
    if (is_idle(conn, event->id))
        return H2_FAULT_IDLE;
    if (is_skipped(conn, event->id))
        return H2_FAULT_SKIPPED;
    if (event->stream == NULL)
        return h2_count_glitch(conn, feed->now);
    enum h2_fault fault = h2_count_reset(conn, feed->now);
    if (fault != H2_OK)
        return fault;
    h2_conn_close(conn, event->stream);
    event->kind = H2_EVENT_RESET;
    return H2_OK;
}

static enum h2_fault feed_frame(struct feed *feed)
{
    struct h2_conn *conn = feed->conn;
    struct h2_frame *frame = &feed->frame;
    enum h2_fault fault = h2_frame_parse(feed->p, feed->n, frame, &feed->used);
    if (fault == H2_MORE || (fault != H2_OK && h2_fault(fault)->connection))
        return fault;
    if (!conn->settings && (frame->type != H2_SETTINGS || frame->flags & H2_FLAG_ACK))
        return H2_FAULT_FIRST_FRAME;
    feed->event->id = frame->stream;
    if (frame->stream != 0 && !is_idle(conn, frame->stream))
        feed->event->stream = h2_conn_find(conn, frame->stream);
    if (fault != H2_OK && is_idle(conn, frame->stream))
        return H2_FAULT_SIZE; /* an idle stream cannot be reset: section 6.4 */
    if (fault != H2_OK) {
        enum h2_fault of_conn = h2_count_glitch(conn, feed->now);
        return of_conn != H2_OK ? of_conn : fail_stream(feed, fault);
    }
    switch (frame->type) {
    case H2_DATA: return feed_data(feed);
    case H2_HEADERS: return feed_headers(feed);
    case H2_RST_STREAM: return feed_reset(feed);
    case H2_SETTINGS: return h2_feed_settings(feed);
    case H2_PING: return feed_ping(feed);
    case H2_WINDOW_UPDATE: return feed_window(feed);
    case H2_CONTINUATION: return H2_FAULT_CONTINUATION_ALONE;
    /* PRIORITY, types that are not known, GOAWAY: what is open is answered, the client closes. */
    default: return h2_count_spare(conn, feed->now);
    }
}

static enum h2_fault feed_preface(struct feed *feed)
{
    size_t n = MIN(feed->n, (size_t)H2_PREFACE_SIZE);
    if (h2_preface_match(feed->p, n) < n)
        return H2_FAULT_PREFACE;
    if (n < H2_PREFACE_SIZE)
        return H2_MORE;
    feed->conn->preface = true;
    feed->used = H2_PREFACE_SIZE;
    return H2_OK;
}

size_t h2_conn_feed(struct h2_conn *conn, char *p, size_t n, const struct h2_config *config,
    uint64_t now, struct h2_event *ret_event)
{
    struct feed feed = {
        .conn = conn, .config = config, .now = now, .p = p, .n = n, .event = ret_event};
    ret_event->kind = H2_EVENT_NONE;
    ret_event->fault = H2_OK;
    ret_event->id = 0;
    ret_event->stream = NULL;
    ret_event->end_stream = false;
    ret_event->answer_n = 0;
    enum h2_fault fault = conn->preface ? feed_frame(&feed) : feed_preface(&feed);
    if (fault == H2_OK)
        return feed.used;
    ret_event->kind = fault == H2_MORE ? H2_EVENT_MORE : H2_EVENT_FAULT;
    ret_event->fault = fault;
    ret_event->answer_n = 0;
    return 0;
}

/* ---- Ending --------------------------------------------------------------------------------- */

size_t h2_conn_leave(struct h2_conn *conn, uint8_t out[static H2_LEAVE_MAX])
{
    uint8_t goaway[H2_GOAWAY_MAX];
    size_t n = h2_write_goaway(goaway, H2_STREAM_MAX, H2_NO_ERROR, (struct span){0});
    memcpy(out, goaway, n);
    conn->going = conn->pinged = true;
    conn->leave = false;
    return n + h2_write_ping(out + n, ping_payload, false);
}

size_t h2_conn_goaway(struct h2_conn *conn, enum h2_fault fault, uint8_t out[static H2_GOAWAY_MAX])
{
    conn->going = true;
    conn->leave = false;
    conn->goaway_last = conn->last_stream;
    if (fault == H2_OK)
        return h2_write_goaway(out, conn->last_stream, H2_NO_ERROR, (struct span){0});
    conn->failed = true;
    const struct h2_fault_row *row = h2_fault(fault);
    struct span debug = {row->text, strlen(row->text)};
    return h2_write_goaway(out, conn->last_stream, row->code, debug);
}
