#include <criterion/criterion.h>
#include <stdarg.h>

#include "frontd/codec/h2_conn.h"
#include "frontd/codec/h2_head.h"
#include "tests/unit/support/h2_bytes.h"

enum { STREAMS = 4, HEADER = 300, TEXT = 1 << 16 };

static const struct h2_config config = {.header = HEADER, .streams = STREAMS};
static struct h2_bytes said;

/* A connection, and what has come of it, a line for each event. */
struct outcome {
    struct h2_conn conn;
    struct h2_hpack *hpack;
    struct h2_stream streams[64];
    size_t nstreams;
    uint64_t now;
    enum h2_fault fault; /* it has ended */
    unsigned answers;
    size_t n;
    char text[TEXT];
};

static void note(struct outcome *outcome, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void note(struct outcome *outcome, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    outcome->n += (size_t)vsnprintf(
        outcome->text + outcome->n, sizeof(outcome->text) - outcome->n, format, args);
    va_end(args);
    cr_assert_lt(outcome->n, sizeof(outcome->text));
}

static void note_span(struct outcome *outcome, struct span span)
{
    note(outcome, "%.*s\n", (int)MIN(span.n, (size_t)20), span.p);
}

static void fail(struct outcome *outcome, enum h2_fault fault)
{
    outcome->fault = fault;
    note(outcome, "fault %d: %s\n", h2_fault(fault)->code, h2_fault(fault)->text);
}

static void reset(struct outcome *outcome, const struct h2_event *event, enum h2_fault of)
{
    uint8_t out[H2_HEAD_SIZE + 4];
    enum h2_fault fault;
    size_t n = h2_conn_reset(
        &outcome->conn, event->stream, event->id, h2_fault(of)->code, outcome->now, out, &fault);
    if (fault != H2_OK)
        fail(outcome, fault);
    else
        note(outcome, "%u reset %d: %s\n", event->id, h2_fault(of)->code, h2_fault(of)->text);
    cr_expect_eq(n, fault == H2_OK ? sizeof(out) : 0);
}

static void take_block(struct outcome *outcome, const struct h2_event *event)
{
    static struct h2_head head;
    static char room[HEADER];
    static const char *const uses[] = {"request", "trailers", "nothing", "fault"};
    struct h2_list list = {.text = room, .room = sizeof(room)};
    if (h2_hpack_decode(outcome->hpack, event->bytes, HEADER, &list) != H2_OK) {
        fail(outcome, H2_FAULT_COMPRESSION);
        return;
    }
    note(outcome, "%u %s%s\n", event->id, uses[event->use], event->end_stream ? " end" : "");
    if (event->use == H2_USE_FAULT)
        reset(outcome, event, event->fault);
    if (event->use != H2_USE_REQUEST)
        return;
    int r = h2_head_read((struct span){room, list.n}, 8, &head);
    if (r == 0) {
        cr_assert_lt(outcome->nstreams, ARRAY_LEN(outcome->streams));
        struct h2_stream *stream = &outcome->streams[outcome->nstreams++];
        r = (int)h2_conn_open(&outcome->conn, stream, event->id,
            head.has_length ? head.content_length : UINT64_MAX, event->end_stream);
    }
    if (r != 0)
        reset(outcome, event, (enum h2_fault)r);
    else
        note_span(outcome, head.http.path);
}

static void take_event(struct outcome *outcome, const struct h2_event *event)
{
    outcome->answers += event->answer_n > 0;
    switch (event->kind) {
    case H2_EVENT_HEADERS: take_block(outcome, event); break;
    case H2_EVENT_DATA:
        note(outcome, "%u data%s ", event->id, event->end_stream ? " end" : "");
        note_span(outcome, event->bytes);
        break;
    case H2_EVENT_RESET: note(outcome, "%u is reset\n", event->id); break;
    case H2_EVENT_WINDOW: note(outcome, "%u window\n", event->id); break;
    case H2_EVENT_PONG: note(outcome, "pong\n"); break;
    case H2_EVENT_STREAM_FAULT: reset(outcome, event, event->fault); break;
    case H2_EVENT_FAULT: fail(outcome, event->fault); break;
    default: break;
    }
}

static void begin(struct outcome *outcome)
{
    uint8_t out[H2_START_MAX];
    memset(outcome, 0, offsetof(struct outcome, text));
    outcome->hpack = h2_hpack_new();
    cr_assert_leq(h2_conn_init(&outcome->conn, &config, outcome->now, out), sizeof(out));
}

static void end(struct outcome *outcome)
{
    h2_hpack_free(outcome->hpack);
}

/* Feeds bytes in two parts and keeps what is not used. Returns how much that is. */
static size_t feed(struct outcome *outcome, const char *p, size_t n, size_t first)
{
    struct h2_event event;
    size_t kept = 0;
    static char pending[sizeof(said.p)];
    for (size_t part = 0; part < 2; part++) {
        size_t from = part == 0 ? 0 : first, to = part == 0 ? first : n;
        size_t len = kept + to - from, at = 0, used;
        char *copy = malloc(len + 1); /* so that ASan sees a read past the end */
        memcpy(copy, pending, kept);
        memcpy(copy + kept, p + from, to - from);
        while (outcome->fault == H2_OK) {
            used = h2_conn_feed(&outcome->conn, copy + at, len - at, &config, outcome->now, &event);
            cr_assert_leq(used, len - at);
            take_event(outcome, &event);
            if (used == 0)
                break;
            at += used;
        }
        kept = len - at;
        memcpy(pending, copy + at, kept);
        free(copy);
    }
    return kept;
}

/* The events of what was said are those, wherever the bytes are cut. */
static void expect(const char *events, enum h2_fault fault)
{
    static struct outcome outcome;
    for (size_t at = 0; at <= said.n; at++) {
        begin(&outcome);
        size_t kept = feed(&outcome, said.p, said.n, at);
        cr_assert_str_eq(outcome.text, events, "cut at %zu: %s", at, outcome.text);
        cr_assert_eq(outcome.fault, fault);
        cr_assert(fault != H2_OK || kept == 0);
        end(&outcome);
    }
}

#define GET(stream)  H2_SAY(&said, H2_HEADERS, H2_END, stream, H2_GET_NONE)
#define POST(stream) H2_SAY(&said, H2_HEADERS, H2_FLAG_END_HEADERS, stream, H2_POST_RPC)
#define GOT(stream)  stream " request end\n/none\n"

Test(h2_conn, requests)
{
    h2_begin(&said);
    GET(1);
    POST(3);
    H2_SAY(&said, H2_PING, 0, 0, "12345678");
    GET(5);
    H2_SAY(&said, H2_DATA, 0, 3, "hel");
    H2_SAY(&said, H2_DATA, H2_FLAG_END_STREAM | H2_FLAG_PADDED, 3, "\x02lo\0\0");
    h2_number(&said, H2_WINDOW_UPDATE, 1, 10);
    h2_number(&said, H2_WINDOW_UPDATE, 0, 10);
    h2_number(&said, H2_RST_STREAM, 1, H2_CANCEL);
    H2_SAY(&said, H2_GOAWAY, 0, 0, "\0\0\0\0\0\0\0\0");
    expect("0 window\n" GOT("1") "3 request\n/rpc\n" GOT("5") "3 data hel\n3 data end lo\n"
                                                              "1 window\n0 window\n1 is reset\n",
        H2_OK);
}

Test(h2_conn, trailers)
{
    h2_begin(&said);
    POST(1);
    H2_SAY(&said, H2_DATA, 0, 1, "hi");
    H2_SAY(&said, H2_HEADERS, H2_END, 1, "\x00\x01x\x01y");
    POST(3);
    H2_SAY(&said, H2_HEADERS, H2_FLAG_END_HEADERS, 3, "\x00\x01x\x01y");
    POST(5);
    H2_SAY(&said, H2_DATA, H2_FLAG_END_STREAM, 5, "");
    H2_SAY(&said, H2_HEADERS, H2_END, 5, "\x00\x01x\x01y");
    expect("0 window\n1 request\n/rpc\n1 data hi\n1 trailers end\n3 request\n/rpc\n3 fault\n"
           "3 reset 1: trailers do not end their stream\n5 request\n/rpc\n5 data end \n"
           "5 fault end\n5 reset 5: a frame follows the end of its stream\n",
        H2_OK);
}

Test(h2_conn, continuation)
{
    h2_begin(&said);
    H2_SAY(&said, H2_HEADERS, H2_FLAG_END_STREAM | H2_FLAG_PADDED, 1, "\x01\x82\0");
    H2_SAY(&said, H2_CONTINUATION, 0, 1, "");
    H2_SAY(&said, H2_CONTINUATION, 0, 1, "\x86\x04\x05/no");
    H2_SAY(&said, H2_CONTINUATION, H2_FLAG_END_HEADERS, 1, "ne\x01\x01h");
    GET(3);
    expect("0 window\n" GOT("1") GOT("3"), H2_OK);
}

/* What is wrong with a connection, behind a request that is right. */
static const struct {
    uint8_t type, flags;
    uint32_t stream;
    struct span payload;
    enum h2_fault fault;
} conn_faults[] = {
    {H2_HEADERS, H2_END, 2, {"\x82", 1}, H2_FAULT_STREAM_ID},
    {H2_HEADERS, H2_END, 3, {"\x80", 1}, H2_FAULT_COMPRESSION},
    {H2_DATA, 0, 3, {"x", 1}, H2_FAULT_IDLE},
    {H2_DATA, 0, 2, {"x", 1}, H2_FAULT_IDLE},
    {H2_RST_STREAM, 0, 3, {"\0\0\0\0", 4}, H2_FAULT_IDLE},
    {H2_WINDOW_UPDATE, 0, 3, {"\0\0\0\x01", 4}, H2_FAULT_IDLE},
    {H2_WINDOW_UPDATE, 0, 2, {"\0\0\0\x01", 4}, H2_FAULT_IDLE},
    {H2_WINDOW_UPDATE, 0, 3, {"\0\0\0\0", 4}, H2_FAULT_IDLE},
    {H2_RST_STREAM, 0, 2, {"\0\0\0\0", 4}, H2_FAULT_IDLE},
    {H2_HEADERS, H2_END | H2_FLAG_PADDED, 3, {"\x01", 1}, H2_FAULT_PADDING},
    {H2_DATA, H2_FLAG_PADDED, 1, {"\x01", 1}, H2_FAULT_PADDING},
    {H2_HEADERS, H2_END, 0, {"\x82", 1}, H2_FAULT_STREAM_ZERO},
    {H2_DATA, 0, 0, {"x", 1}, H2_FAULT_STREAM_ZERO},
    {H2_RST_STREAM, 0, 0, {"\0\0\0\0", 4}, H2_FAULT_STREAM_ZERO},
    {H2_RST_STREAM, 0, 1, {"\0\0\0", 3}, H2_FAULT_SIZE},
    {H2_WINDOW_UPDATE, 0, 1, {"\0\0\0", 3}, H2_FAULT_SIZE},
    {H2_PRIORITY, 0, 0, {"\0\0\0\0\x10", 5}, H2_FAULT_STREAM_ZERO},
    {H2_SETTINGS, 0, 1, {"", 0}, H2_FAULT_STREAM_GIVEN},
    {H2_SETTINGS, 0, 0, {"\0\x02\0", 3}, H2_FAULT_SIZE},
    {H2_SETTINGS, H2_FLAG_ACK, 0, {"\0\x03\0\0\0\x01", 6}, H2_FAULT_SIZE},
    {H2_PING, 0, 1, {"12345678", 8}, H2_FAULT_STREAM_GIVEN},
    {H2_GOAWAY, 0, 1, {"\0\0\0\0\0\0\0", 8}, H2_FAULT_STREAM_GIVEN},
    {H2_PUSH_PROMISE, 0, 3, {"\0\0\0\x02", 4}, H2_FAULT_PUSH_PROMISE},
    {H2_WINDOW_UPDATE, 0, 0, {"\0\0\0\0", 4}, H2_FAULT_INCREMENT_ZERO},
    {H2_WINDOW_UPDATE, 0, 0, {"\x7f\xff\xff\xff", 4}, H2_FAULT_OVERFLOW},
    {H2_SETTINGS, 0, 0, {"\0\x02\0\0\0\x02", 6}, H2_FAULT_ENABLE_PUSH},
    {H2_SETTINGS, 0, 0, {"\0\x04\x80\0\0\0", 6}, H2_FAULT_INITIAL_WINDOW},
    {H2_SETTINGS, 0, 0, {"\0\x05\0\0\x3f\xff", 6}, H2_FAULT_MAX_FRAME},
    {H2_SETTINGS, 0, 0, {"\0\x05\x01\0\0\0", 6}, H2_FAULT_MAX_FRAME},
    {H2_PUSH_PROMISE, 0, 1, {"\0\0\0\x02", 4}, H2_FAULT_PUSH_PROMISE},
    {H2_CONTINUATION, H2_FLAG_END_HEADERS, 1, {"x", 1}, H2_FAULT_CONTINUATION_ALONE},
    {H2_PRIORITY, 0, 5, {"x", 1}, H2_FAULT_SIZE},
    {H2_PING, 0, 0, {"1234567", 7}, H2_FAULT_SIZE},
};

Test(h2_conn, faults_of_the_connection)
{
    for (size_t i = 0; i < ARRAY_LEN(conn_faults); i++) {
        char events[256];
        const struct h2_fault_row *row = h2_fault(conn_faults[i].fault);
        h2_begin(&said);
        GET(1);
        h2_frame(&said, conn_faults[i].type, conn_faults[i].flags, conn_faults[i].stream,
            conn_faults[i].payload.p, conn_faults[i].payload.n);
        snprintf(
            events, sizeof(events), "0 window\n" GOT("1") "fault %d: %s\n", row->code, row->text);
        expect(events, conn_faults[i].fault);
    }
}

/* Nothing may stand among the frames of a block: section 6.10. */
Test(h2_conn, interrupted_blocks)
{
    static const struct {
        uint8_t type;
        uint32_t stream;
    } rows[] = {{H2_DATA, 1}, {H2_HEADERS, 3}, {H2_HEADERS, 5}, {H2_PRIORITY, 3}, {H2_PING, 0},
        {H2_SETTINGS, 0}, {H2_RST_STREAM, 3}, {H2_WINDOW_UPDATE, 0}, {H2_CONTINUATION, 1},
        {0x99, 3}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        h2_begin(&said);
        GET(1);
        H2_SAY(&said, H2_HEADERS, H2_FLAG_END_STREAM, 3, "\x82");
        H2_SAY(&said, rows[i].type, 0, rows[i].stream, "");
        expect("0 window\n" GOT("1") "fault 1: a header block is interrupted\n",
            H2_FAULT_CONTINUATION_MISSING);
    }
}

/*
 * Frames for streams that are closed, or were left out: GET on 3, which both sides have ended; POST
 * on 7 and on 9, which are closed by their faults, and of which the client has ended 7 alone; GET
 * on 11, which the client resets; GET on 13, which is open. What the faults are: section 5.1.
 */
static const struct {
    uint8_t type;
    uint32_t stream;
    struct span payload;
    enum h2_fault fault; /* H2_OK: it is ignored */
    const char *events;
} closed[] = {
    {H2_DATA, 1, {"x", 1}, H2_FAULT_SKIPPED, ""},
    {H2_DATA, 5, {"x", 1}, H2_FAULT_SKIPPED, ""},
    {H2_HEADERS, 1, {H2_GET_NONE, 12}, H2_FAULT_SKIPPED, ""},
    {H2_HEADERS, 5, {H2_GET_NONE, 12}, H2_FAULT_SKIPPED, ""},
    {H2_RST_STREAM, 5, {"\0\0\0\0", 4}, H2_FAULT_SKIPPED, ""},
    {H2_WINDOW_UPDATE, 5, {"\0\0\0\x01", 4}, H2_FAULT_SKIPPED, ""},
    {H2_PRIORITY, 5, {"\0\0\0\x05\x10", 5}, H2_OK, ""}, /* on itself: RFC 9113 has no such rule */
    {H2_PRIORITY, 15, {"\0\0\0\0\x10", 5}, H2_OK, ""},
    {H2_PRIORITY, 5, {"x", 1}, H2_OK, "5 reset 6: PRIORITY has the wrong size\n"},
    {0x99, 5, {"x", 1}, H2_OK, ""},
    {H2_DATA, 3, {"x", 1}, H2_FAULT_CLOSED, ""},
    {H2_HEADERS, 3, {H2_GET_NONE, 12}, H2_FAULT_CLOSED, ""},
    {H2_RST_STREAM, 3, {"\0\0\0\0", 4}, H2_OK, ""},
    {H2_WINDOW_UPDATE, 3, {"\0\0\0\x01", 4}, H2_OK, ""},
    {H2_WINDOW_UPDATE, 3, {"\0\0\0\0", 4}, H2_OK, ""},
    {H2_PRIORITY, 3, {"\0\0\0\0\x10", 5}, H2_OK, ""},
    {H2_CONTINUATION, 3, {"x", 1}, H2_FAULT_CONTINUATION_ALONE, ""},
    {H2_DATA, 7, {"x", 1}, H2_FAULT_CLOSED, ""},
    {H2_HEADERS, 7, {H2_GET_NONE, 12}, H2_FAULT_CLOSED, ""},
    {H2_DATA, 9, {"x", 1}, H2_OK, ""},
    {H2_HEADERS, 9, {"\x00\x01x\x01y", 5}, H2_OK, "9 nothing end\n"},
    {H2_RST_STREAM, 9, {"\0\0\0\0", 4}, H2_OK, ""},
    {H2_WINDOW_UPDATE, 9, {"\0\0\0\x01", 4}, H2_OK, ""},
    {H2_DATA, 11, {"x", 1}, H2_FAULT_CLOSED, ""},
    {H2_HEADERS, 11, {H2_GET_NONE, 12}, H2_FAULT_CLOSED, ""},
    {H2_RST_STREAM, 11, {"\0\0\0\0", 4}, H2_OK, ""},
};

#define BEFORE                                                                                     \
    "0 window\n" GOT(                                                                              \
        "3") "7 request\n/rpc\n7 data end \n7 reset 1: a stream's window grows by 0\n"             \
             "9 request\n/rpc\n9 reset 1: a stream's window grows by 0\n" GOT(                     \
                 "11") "11 is reset\n" GOT("13")

/* Feeds what comes before, and one frame, cut at every byte. */
Test(h2_conn, closed_streams)
{
    static struct outcome outcome;
    for (size_t i = 0; i < ARRAY_LEN(closed); i++) {
        char events[600];
        h2_begin(&said);
        GET(3);
        size_t first = said.n;
        POST(7);
        H2_SAY(&said, H2_DATA, H2_FLAG_END_STREAM, 7, "");
        h2_number(&said, H2_WINDOW_UPDATE, 7, 0);
        POST(9);
        h2_number(&said, H2_WINDOW_UPDATE, 9, 0);
        GET(11);
        h2_number(&said, H2_RST_STREAM, 11, H2_CANCEL);
        GET(13);
        size_t before = said.n;
        h2_frame(&said, closed[i].type, closed[i].type == H2_HEADERS ? H2_END : 0, closed[i].stream,
            closed[i].payload.p, closed[i].payload.n);
        if (closed[i].fault == H2_OK)
            snprintf(events, sizeof(events), BEFORE "%s", closed[i].events);
        else
            snprintf(events, sizeof(events), BEFORE "fault %d: %s\n",
                h2_fault(closed[i].fault)->code, h2_fault(closed[i].fault)->text);
        for (size_t at = before; at <= said.n; at++) {
            begin(&outcome);
            feed(&outcome, said.p, first, first);
            h2_conn_close(&outcome.conn, &outcome.streams[0]); /* it has its answer */
            feed(&outcome, said.p + first, said.n - first, at - first);
            cr_expect_str_eq(outcome.text, events, "%zu: %s", i, outcome.text);
            cr_expect_eq(outcome.fault, closed[i].fault);
            cr_expect_eq(
                outcome.conn.crossing & ~outcome.conn.opened, 0u); /* else it cannot move */
            end(&outcome);
        }
    }
}

/* What is wrong with stream 3, which is open for its body; the connection goes on. */
static const struct {
    uint8_t type, flags;
    struct span payload;
    enum h2_fault fault;
} stream_faults[] = {
    {H2_WINDOW_UPDATE, 0, {"\0\0\0\0", 4}, H2_FAULT_STREAM_INCREMENT_ZERO},
    {H2_WINDOW_UPDATE, 0, {"\x7f\xff\xff\xff", 4}, H2_FAULT_STREAM_OVERFLOW},
    {H2_PRIORITY, 0, {"x", 1}, H2_FAULT_PRIORITY_SIZE},
    {H2_PRIORITY, 0, {"123456", 6}, H2_FAULT_PRIORITY_SIZE},
};

Test(h2_conn, faults_of_a_stream)
{
    for (size_t i = 0; i < ARRAY_LEN(stream_faults); i++) {
        char events[256];
        const struct h2_fault_row *row = h2_fault(stream_faults[i].fault);
        h2_begin(&said);
        POST(3);
        h2_frame(&said, stream_faults[i].type, stream_faults[i].flags, 3,
            stream_faults[i].payload.p, stream_faults[i].payload.n);
        H2_SAY(&said, H2_DATA, 0, 3, "crossed");
        GET(5);
        snprintf(events, sizeof(events), "0 window\n3 request\n/rpc\n3 reset %d: %s\n" GOT("5"),
            row->code, row->text);
        expect(events, H2_OK);
    }
}

Test(h2_conn, beginning)
{
    said.n = 0;
    h2_say(&said, "GET / HTTP/1.1\r\n", 16);
    expect("fault 1: the preface is wrong\n", H2_FAULT_PREFACE);
    said.n = 0;
    h2_say(&said, H2_PREFACE, H2_PREFACE_SIZE);
    GET(1);
    expect("fault 1: the first frame is not SETTINGS\n", H2_FAULT_FIRST_FRAME);
    said.n = 0;
    h2_say(&said, H2_PREFACE, H2_PREFACE_SIZE);
    h2_frame(&said, H2_SETTINGS, H2_FLAG_ACK, 0, NULL, 0);
    expect("fault 1: the first frame is not SETTINGS\n", H2_FAULT_FIRST_FRAME);
}

/* Content-Length against DATA: less, the same, more, and with trailers. */
Test(h2_conn, content_length)
{
#define POST_3                                                                                     \
    H2_POST_RPC "\x0f\x0d\x01"                                                                     \
                "3"
    h2_begin(&said);
    H2_SAY(&said, H2_HEADERS, H2_FLAG_END_HEADERS, 1, POST_3);
    H2_SAY(&said, H2_DATA, 0, 1, "ab");
    H2_SAY(&said, H2_DATA, H2_FLAG_END_STREAM, 1, "c");
    H2_SAY(&said, H2_HEADERS, H2_FLAG_END_HEADERS, 3, POST_3);
    H2_SAY(&said, H2_DATA, H2_FLAG_END_STREAM, 3, "ab");
    H2_SAY(&said, H2_HEADERS, H2_FLAG_END_HEADERS, 5, POST_3);
    H2_SAY(&said, H2_DATA, 0, 5, "abcd");
    H2_SAY(&said, H2_HEADERS, H2_END, 7, POST_3);
    H2_SAY(&said, H2_HEADERS, H2_FLAG_END_HEADERS, 9, POST_3);
    H2_SAY(&said, H2_DATA, 0, 9, "ab");
    H2_SAY(&said, H2_HEADERS, H2_END, 9, "\x00\x01x\x01y");
#define WRONG "reset 1: Content-Length is not that of the body\n"
    expect("0 window\n1 request\n/rpc\n1 data ab\n1 data end c\n3 request\n/rpc\n3 " WRONG
           "5 request\n/rpc\n5 " WRONG "7 request end\n7 " WRONG
           "9 request\n/rpc\n9 data ab\n9 fault end\n9 " WRONG,
        H2_OK);
}

/* ---- Limits, and one past each -------------------------------------------------------------- */

static struct outcome outcome;

static void feed_said(void)
{
    feed(&outcome, said.p, said.n, 0);
    said.n = 0;
}

static void start(void)
{
    begin(&outcome);
    h2_begin(&said);
    feed_said();
    h2_conn_flushed(&outcome.conn);
}

Test(h2_conn, limit_of_streams)
{
    start();
    for (uint32_t i = 0; i < STREAMS; i++)
        GET(2 * i + 1);
    feed_said();
    cr_expect_eq(outcome.conn.open, STREAMS);
    GET(9);
    feed_said();
    cr_expect_not_null(strstr(outcome.text, "9 reset 7: too many streams are open\n"));
    h2_conn_close(&outcome.conn, &outcome.streams[0]);
    GET(11);
    feed_said();
    cr_expect(outcome.conn.open == STREAMS && outcome.fault == H2_OK);
    end(&outcome);
}

/*
 * How a stream has ended is known of the newest H2_RECENT_MAX. Of older ones it is not, and what
 * comes for them is ignored for H2_CROSSING_MS after a reset.
 */
Test(h2_conn, limit_of_recent_streams)
{
    for (uint32_t newer = H2_RECENT_MAX - 1; newer <= H2_RECENT_MAX; newer++) {
        for (int late = 0; late < 2; late++) {
            start();
            outcome.now = 1;
            POST(5); /* which leaves 1 and 3 out */
            h2_number(&said, H2_WINDOW_UPDATE, 5, 0);
            for (uint32_t i = 1; i <= newer; i++) {
                GET(2 * i + 5);
                feed_said();
                h2_conn_close(&outcome.conn, &outcome.streams[--outcome.nstreams]);
                outcome.nstreams = 0;
            }
            bool known = newer < H2_RECENT_MAX;
            outcome.now += H2_CROSSING_MS - 1 + late;
            H2_SAY(&said, H2_DATA, 0, 5, "x");
            feed_said();
            cr_expect_eq(outcome.fault, known || !late ? H2_OK : H2_FAULT_CLOSED);
            outcome.fault = H2_OK;
            H2_SAY(&said, H2_DATA, 0, 3, "x");
            feed_said();
            cr_expect_eq(outcome.fault, late ? H2_FAULT_CLOSED : H2_OK, "%u %d", newer, late);
            end(&outcome);
        }
    }
}

Test(h2_conn, limit_of_continuations)
{
    for (unsigned n = H2_CONTINUATIONS_MAX; n <= H2_CONTINUATIONS_MAX + 1; n++) {
        start();
        H2_SAY(&said, H2_HEADERS, H2_FLAG_END_STREAM, 1, H2_GET_NONE);
        for (unsigned i = 1; i <= n; i++)
            H2_SAY(&said, H2_CONTINUATION, i == n ? H2_FLAG_END_HEADERS : 0, 1, "");
        feed_said();
        cr_expect_eq(
            outcome.fault, n > H2_CONTINUATIONS_MAX ? H2_FAULT_CONTINUATIONS : H2_OK, "%u", n);
        end(&outcome);
    }
}

Test(h2_conn, limit_of_a_block)
{
    static char block[HEADER + 1];
    for (size_t n = HEADER; n <= HEADER + 1; n++) {
        for (size_t parts = 1; parts <= 2; parts++) {
            size_t first = parts == 1 ? n : n / 2;
            memset(block, '\x82', sizeof(block)); /* :method again and again: only decoded */
            start();
            h2_frame(&said, H2_HEADERS, parts == 1 ? H2_END : H2_FLAG_END_STREAM, 1, block, first);
            if (parts == 2)
                h2_frame(&said, H2_CONTINUATION, H2_FLAG_END_HEADERS, 1, block + first, n - first);
            feed_said();
            cr_expect_eq(outcome.fault, n > HEADER ? H2_FAULT_BLOCK : H2_OK);
            end(&outcome);
        }
    }
}

Test(h2_conn, limit_of_empty_frames)
{
    start();
    POST(1);
    for (int i = 0; i < H2_EMPTY_MAX; i++)
        H2_SAY(&said, H2_DATA, 0, 1, "");
    H2_SAY(&said, H2_DATA, 0, 1, "x"); /* they are counted anew */
    for (int i = 0; i < H2_EMPTY_MAX; i++)
        H2_SAY(&said, H2_DATA, H2_FLAG_PADDED, 1, "\0");
    feed_said();
    cr_expect_eq(outcome.fault, H2_OK);
    H2_SAY(&said, H2_DATA, 0, 1, "");
    feed_said();
    cr_expect_eq(outcome.fault, H2_FAULT_EMPTY);
    end(&outcome);
}

/* By the client, by the server, or by turns: they are one sort of reset. */
Test(h2_conn, limit_of_resets)
{
    for (int kind = 0; kind < 3; kind++) {
        start();
        for (uint32_t i = 0; i <= H2_RESETS_MAX; i++) {
            bool ours = kind == 1 || (kind == 2 && i % 2 == 1);
            uint32_t id = 2 * i + 1;
            cr_assert_eq(outcome.fault, H2_OK, "%u", i);
            h2_conn_flushed(&outcome.conn);
            GET(id);
            if (ours)
                h2_number(&said, H2_WINDOW_UPDATE, id, 0);
            else
                h2_number(&said, H2_RST_STREAM, id, H2_CANCEL);
            feed_said();
            outcome.nstreams = 0;
            outcome.n = 0;
        }
        cr_expect_eq(outcome.fault, H2_FAULT_RESETS);
        end(&outcome);
    }
}

/* They are forgotten, 33 a second. */
Test(h2_conn, rate_of_resets)
{
    start();
    for (uint32_t i = 0; i < 10 * H2_RESETS_MAX; i++) {
        GET(2 * i + 1);
        h2_number(&said, H2_RST_STREAM, 2 * i + 1, H2_CANCEL);
        feed_said();
        outcome.nstreams = 0;
        outcome.n = 0;
        outcome.now += H2_COST_MS;
    }
    cr_expect_eq(outcome.fault, H2_OK);
    end(&outcome);
}

Test(h2_conn, limit_of_queued_answers)
{
    for (int settings = 0; settings < 2; settings++) {
        start();
        for (int i = 0; i < H2_QUEUED_MAX; i++) {
            if (settings)
                h2_frame(&said, H2_SETTINGS, 0, 0, NULL, 0);
            else
                H2_SAY(&said, H2_PING, 0, 0, "12345678");
        }
        feed_said();
        cr_expect(outcome.fault == H2_OK && outcome.answers == H2_QUEUED_MAX + 1);
        h2_conn_flushed(&outcome.conn);
        H2_SAY(&said, H2_PING, 0, 0, "12345678");
        feed_said();
        cr_expect_eq(outcome.fault, H2_OK);
        for (int i = 0; i < H2_QUEUED_MAX; i++)
            H2_SAY(&said, H2_PING, 0, 0, "12345678");
        feed_said();
        cr_expect_eq(outcome.fault, H2_FAULT_QUEUED);
        end(&outcome);
    }
}

/* At 75 % of the glitches GOAWAY is to be sent; one more than all of them ends the connection. */
Test(h2_conn, limit_of_glitches)
{
    start();
    for (int i = 1; i <= H2_GLITCHES_MAX; i++) {
        h2_frame(&said, H2_PING, H2_FLAG_ACK, 0, "12345678", 8);
        feed_said();
        cr_assert(outcome.fault == H2_OK && outcome.conn.leave == (i >= H2_GLITCHES_LEAVE));
    }
    h2_frame(&said, H2_PING, H2_FLAG_ACK, 0, "12345678", 8);
    feed_said();
    cr_expect_eq(outcome.fault, H2_FAULT_GLITCHES);
    end(&outcome);
}

/* Frames that clients send now and then count only where there are very many. */
Test(h2_conn, limit_of_spare_frames)
{
    static const struct {
        uint8_t type;
        uint32_t stream;
        struct span payload;
    } frames[] = {
        {H2_WINDOW_UPDATE, 1, {"\0\0\0\x01", 4}},
        {H2_PRIORITY, 1, {"\0\0\0\0\x10", 5}},
        {H2_GOAWAY, 0, {"\0\0\0\0\0\0\0", 8}},
        {0x99, 1, {"", 0}},
    };
    for (size_t kind = 0; kind < ARRAY_LEN(frames); kind++) {
        start();
        GET(1);
        feed_said();
        for (int i = 0; i < H2_SPARE_FIRST + H2_SPARE_EACH; i++)
            h2_frame(&said, frames[kind].type, 0, frames[kind].stream, frames[kind].payload.p,
                frames[kind].payload.n);
        feed_said();
        cr_expect_eq(outcome.conn.glitches_until, 0u);
        h2_frame(&said, frames[kind].type, 0, frames[kind].stream, frames[kind].payload.p,
            frames[kind].payload.n);
        feed_said();
        cr_expect_eq(outcome.conn.glitches_until, (uint32_t)H2_COST_MS);
        h2_conn_sent(&outcome.conn, &outcome.streams[0], 1);
        cr_expect_eq(outcome.conn.spare, H2_SPARE_EACH);
        end(&outcome);
    }
}

/* ---- Flow control --------------------------------------------------------------------------- */

static void say_data(uint32_t stream, size_t n)
{
    static const char zeroes[H2_FRAME_MAX];
    h2_frame(&said, H2_DATA, 0, stream, zeroes, n);
}

/* A stream has the window that clients may expect before they have read anything, and no more. */
Test(h2_conn, window_of_a_stream)
{
    uint8_t out[H2_HEAD_SIZE + 4];
    for (int acknowledged = 0; acknowledged < 2; acknowledged++) {
        start();
        POST(1);
        if (acknowledged)
            h2_frame(&said, H2_SETTINGS, H2_FLAG_ACK, 0, NULL, 0);
        for (size_t n, left = H2_WINDOW_DEFAULT; left > 0; left -= n) {
            n = MIN(left, (size_t)H2_FRAME_MAX);
            say_data(1, n);
        }
        feed_said();
        cr_expect(outcome.conn.open == 1 && outcome.streams[0].recv_window == 0);
        cr_expect_eq(h2_conn_grant(&outcome.streams[0], 5, out), sizeof(out));
        cr_expect_eq(h2_conn_grant(&outcome.streams[0], 5, out), 0u);
        say_data(1, 5);
        feed_said();
        cr_expect_eq(outcome.conn.open, 1);
        say_data(1, 1);
        feed_said();
        cr_expect(outcome.conn.open == 0 && outcome.fault == H2_OK);
        cr_expect_not_null(strstr(outcome.text, "1 reset 3: DATA is over its stream's window\n"));
        end(&outcome);
    }
}

/* The connection's window is opened as it is used, and is a limit all the same. */
Test(h2_conn, window_of_the_connection)
{
    start();
    POST(1);
    h2_frame(&said, H2_SETTINGS, H2_FLAG_ACK, 0, NULL, 0);
    feed_said();
    outcome.streams[0].recv_window = H2_WINDOW_MAX;
    unsigned before = outcome.answers;
    for (int i = 0; i < 3 * H2_CONN_WINDOW / H2_FRAME_MAX; i++) {
        say_data(1, H2_FRAME_MAX);
        feed_said();
    }
    cr_expect(outcome.fault == H2_OK && outcome.answers == before + 6);
    outcome.conn.recv_window = 3;
    say_data(1, 4);
    feed_said();
    cr_expect_eq(outcome.fault, H2_FAULT_WINDOW);
    end(&outcome);
}

/* What may be sent follows the windows of both, and changes of the initial one: section 6.9.2. */
Test(h2_conn, sending)
{
    start();
    GET(1);
    feed_said();
    struct h2_stream *stream = &outcome.streams[0];
    cr_expect_eq(h2_conn_sendable(&outcome.conn, stream), (uint32_t)H2_FRAME_MAX);
    for (int i = 0; i < 3; i++)
        h2_conn_sent(&outcome.conn, stream, H2_FRAME_MAX);
    cr_expect_eq(h2_conn_sendable(&outcome.conn, stream), 16383u);
    h2_setting(&said, H2_SETTING_INITIAL_WINDOW_SIZE, 49153);
    feed_said();
    cr_expect_eq(h2_conn_sendable(&outcome.conn, stream), 1u);
    h2_setting(&said, H2_SETTING_INITIAL_WINDOW_SIZE, 0);
    feed_said();
    cr_expect(stream->send_window == -49152 && h2_conn_sendable(&outcome.conn, stream) == 0);
    h2_number(&said, H2_WINDOW_UPDATE, 1, 49153);
    feed_said();
    cr_expect_eq(h2_conn_sendable(&outcome.conn, stream), 1u);
    h2_number(&said, H2_WINDOW_UPDATE, 1, 100000);
    feed_said();
    cr_expect_eq(h2_conn_sendable(&outcome.conn, stream), 16383u); /* the connection's */
    h2_conn_sent(&outcome.conn, stream, 16383);
    cr_expect_eq(h2_conn_sendable(&outcome.conn, stream), 0u);
    h2_setting(&said, H2_SETTING_INITIAL_WINDOW_SIZE, H2_WINDOW_MAX);
    feed_said();
    cr_expect_eq(outcome.fault, H2_FAULT_OVERFLOW);
    end(&outcome);
}

/* ---- Leaving -------------------------------------------------------------------------------- */

Test(h2_conn, goaway_twice)
{
    uint8_t out[H2_GOAWAY_MAX];
    struct h2_frame frame;
    size_t used;
    start();
    GET(1);
    feed_said();
    size_t n = h2_conn_leave(&outcome.conn, out);
    cr_assert_eq(h2_frame_parse((char *)out, n, &frame, &used), H2_OK);
    cr_expect(frame.type == H2_GOAWAY && frame.value == H2_STREAM_MAX && frame.code == 0);
    cr_assert_eq(h2_frame_parse((char *)out + used, n - used, &frame, &used), H2_OK);
    GET(3); /* it was under way */
    h2_frame(&said, H2_PING, H2_FLAG_ACK, 0, frame.payload.p, H2_PING_SIZE);
    feed_said();
    cr_expect_not_null(strstr(outcome.text, GOT("3") "pong\n"));
    n = h2_conn_goaway(&outcome.conn, H2_OK, out);
    cr_assert_eq(h2_frame_parse((char *)out, n, &frame, &used), H2_OK);
    cr_expect(frame.value == 3 && frame.code == 0);
    GET(5);
    feed_said();
    cr_expect_not_null(strstr(outcome.text, "5 nothing end\n"));
    cr_expect_eq(outcome.conn.open, 2);
    n = h2_conn_goaway(&outcome.conn, H2_FAULT_RESETS, out);
    cr_assert_eq(h2_frame_parse((char *)out, n, &frame, &used), H2_OK);
    cr_expect(frame.code == H2_ENHANCE_YOUR_CALM && frame.payload.n > 10);
    end(&outcome);
}

/* ---- Moving --------------------------------------------------------------------------------- */

static void save(const struct outcome *from, struct buf *out)
{
    struct pack pack = {.out = out};
    h2_conn_save(&from->conn, &config, &pack);
    list_for_each (node, &from->conn.streams)
        h2_stream_save(container_of(node, struct h2_stream, node), &pack);
    cr_assert_not(pack.failed);
}

static int restore(struct outcome *to, struct span bytes, size_t streams)
{
    struct unpack unpack = {.left = bytes};
    int r = h2_conn_restore(&to->conn, &config, &unpack);
    to->nstreams = 0;
    while (r == 0 && to->nstreams < streams)
        r = h2_stream_restore(&to->conn, &to->streams[to->nstreams++], &unpack);
    return r == 0 ? unpack_end(&unpack) : r;
}

Test(h2_conn, moves)
{
    static struct outcome moved;
    struct buf state = {0}, again = {0};
    start();
    POST(1);
    GET(3);
    h2_frame(&said, H2_PING, 0, 0, "12345678", 8);
    h2_number(&said, H2_WINDOW_UPDATE, 1, 77);
    h2_setting(&said, H2_SETTING_INITIAL_WINDOW_SIZE, 20000);
    h2_number(&said, H2_RST_STREAM, 3, 0);
    POST(5);
    say_data(5, 100);
    feed_said();
    save(&outcome, &state);
    struct span bytes = {buf_data(&state), buf_len(&state)};
    cr_assert_eq(restore(&moved, bytes, 2), 0);
    save(&moved, &again);
    cr_assert_eq(buf_len(&again), bytes.n);
    cr_expect_arr_eq(buf_data(&again), bytes.p, bytes.n);
    cr_expect_eq(moved.conn.open, 2);
    for (size_t i = 0; i < 2; i++) {
        const struct h2_stream *to = &moved.streams[i], *from = &outcome.streams[2 * i];
        cr_expect(to->id == from->id && to->left == from->left);
        cr_expect(to->send_window == from->send_window && to->recv_window == from->recv_window);
        cr_expect_eq(to->remote_closed, from->remote_closed);
    }
    const struct h2_conn *to = &moved.conn, *from = &outcome.conn;
    cr_expect(to->send_window == from->send_window && to->recv_window == from->recv_window);
    cr_expect(to->resets_until == from->resets_until && from->resets_until > 0);
    cr_expect(to->glitches_until == from->glitches_until && from->glitches_until > 0);
    cr_expect(to->peer_window == 20000 && from->peer_window == 20000);
    cr_expect(to->opened == 7 && from->opened == 7 && to->crossing == from->crossing);
    cr_expect(to->spare == from->spare && to->queued == from->queued && from->queued > 0);
    cr_expect(to->last_stream == 5 && to->goaway_last == H2_STREAM_MAX && to->tells_table);
    for (size_t n = 0; n < bytes.n; n++)
        cr_expect_lt(restore(&moved, (struct span){bytes.p, n}, 2), 0);
    buf_deinit(&state);
    buf_deinit(&again);
    end(&outcome);
}

/*
 * A connection comes to a process with other limits: the client is told of what differs, and until
 * it has read that the larger ones count; then those of this process alone.
 */
Test(h2_conn, moves_to_other_limits)
{
    static struct outcome moved;
    static const struct {
        struct h2_config to;
        unsigned told; /* settings */
    } rows[] = {
        {{HEADER, STREAMS, false}, 0},
        {{HEADER, STREAMS - 1, false}, 1},
        {{HEADER, STREAMS + 1, false}, 1},
        {{HEADER - 1, STREAMS, false}, 1},
        {{HEADER + 1, STREAMS, false}, 1},
        {{HEADER - 1, STREAMS + 1, false}, 2},
        {{HEADER, STREAMS, true}, 1},
        {{HEADER - 1, STREAMS + 1, true}, 3},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct h2_config *to = &rows[i].to;
        uint8_t out[H2_TELL_MAX];
        struct buf state = {0}, again = {0};
        struct h2_frame frame;
        size_t used;
        start();
        h2_frame(&said, H2_SETTINGS, H2_FLAG_ACK, 0, NULL, 0);
        feed_said();
        save(&outcome, &state);
        struct unpack unpack = {.left = {buf_data(&state), buf_len(&state)}};
        memset(&moved, 0, offsetof(struct outcome, text));
        cr_assert_eq(h2_conn_restore(&moved.conn, to, &unpack), 0);
        size_t n = h2_conn_tell(&moved.conn, to, out);
        cr_assert_eq(n, rows[i].told == 0 ? 0 : H2_HEAD_SIZE + rows[i].told * H2_SETTING_SIZE);
        cr_expect_eq(h2_conn_tell(&moved.conn, to, out), 0u);
        for (unsigned s = 0; s < rows[i].told; s++) {
            uint16_t setting;
            uint32_t value;
            cr_assert_eq(h2_frame_parse((char *)out, n, &frame, &used), H2_OK);
            h2_setting_read(frame.payload, s, &setting, &value);
            cr_expect_eq(value, setting == H2_SETTING_MAX_CONCURRENT_STREAMS    ? to->streams
                                : setting == H2_SETTING_ENABLE_CONNECT_PROTOCOL ? 1
                                                                                : to->header);
        }
        cr_expect_eq(moved.conn.connects, to->connects);
        uint32_t header = MAX(to->header, (uint32_t)HEADER);
        cr_expect_eq(h2_conn_header_limit(&moved.conn, to), header);
        cr_expect_eq(MAX(to->streams, (uint32_t)moved.conn.before_streams),
            MAX(to->streams, (uint32_t)STREAMS));
        /* Once more, before it has read that: what counted goes on to count. */
        struct pack pack = {.out = &again};
        h2_conn_save(&moved.conn, to, &pack);
        unpack = (struct unpack){.left = {buf_data(&again), buf_len(&again)}};
        cr_assert_eq(h2_conn_restore(&moved.conn, to, &unpack), 0);
        cr_expect_eq(h2_conn_tell(&moved.conn, to, out), 0u);
        cr_expect_eq(h2_conn_header_limit(&moved.conn, to), header);
        struct h2_event event;
        h2_frame(&said, H2_SETTINGS, H2_FLAG_ACK, 0, NULL, 0);
        cr_assert_eq(h2_conn_feed(&moved.conn, said.p, said.n, to, 0, &event), said.n);
        cr_expect_eq(h2_conn_header_limit(&moved.conn, to), to->header);
        cr_expect(moved.conn.before_streams == 0 && moved.conn.unread == 0);
        cr_expect_eq(moved.conn.glitches_until > 0, rows[i].told == 0); /* an ACK too many */
        said.n = 0;
        buf_deinit(&state);
        buf_deinit(&again);
        end(&outcome);
    }
}

/* What a client was told of extended CONNECT is never taken back: RFC 8441 section 3. */
Test(h2_conn, connects_for_good)
{
    static const struct h2_config with = {HEADER, STREAMS, true};
    uint8_t out[H2_START_MAX];
    struct h2_frame frame;
    size_t used;
    uint16_t setting;
    uint32_t value;
    start();
    for (int on = 0; on < 2; on++) {
        size_t n = h2_conn_init(&outcome.conn, on ? &with : &config, 0, out);
        cr_assert_eq(h2_frame_parse((char *)out, n, &frame, &used), H2_OK);
        cr_expect_eq(frame.payload.n, (on ? 3u : 2u) * H2_SETTING_SIZE);
        cr_expect_eq(outcome.conn.connects, on);
    }
    h2_setting_read(frame.payload, 2, &setting, &value);
    cr_expect(setting == H2_SETTING_ENABLE_CONNECT_PROTOCOL && value == 1);
    struct buf state = {0};
    struct pack pack = {.out = &state};
    h2_conn_save(&outcome.conn, &with, &pack);
    struct unpack unpack = {.left = {buf_data(&state), buf_len(&state)}};
    cr_assert_eq(h2_conn_restore(&outcome.conn, &config, &unpack), 0);
    cr_expect(outcome.conn.connects && !h2_conn_tells(&outcome.conn));
    buf_deinit(&state);
    end(&outcome);
}

/* What no connection can have left behind. */
Test(h2_conn, moves_nothing_wrong)
{
    static struct outcome moved;
    start();
    POST(1);
    POST(3);
    feed_said();
    struct h2_conn *conn = &outcome.conn;
    const struct h2_conn right = *conn;
#define REFUSED(change)                                                                            \
    do {                                                                                           \
        struct buf state = {0};                                                                    \
        change;                                                                                    \
        save(&outcome, &state);                                                                    \
        cr_expect_lt(                                                                              \
            restore(&moved, (struct span){buf_data(&state), buf_len(&state)}, 2), 0, #change);     \
        buf_deinit(&state);                                                                        \
        *conn = right;                                                                             \
    } while (0)
    REFUSED(conn->last_stream = 4);
    REFUSED(conn->last_stream = 1);
    REFUSED(conn->goaway_last = UINT32_MAX);
    REFUSED(conn->recv_window = -1);
    REFUSED(conn->recv_window = H2_CONN_WINDOW + 1);
    REFUSED(conn->peer_window = 1U << 31);
    REFUSED(conn->spare = H2_SPARE_MAX + 1);
    REFUSED(conn->empty = H2_EMPTY_MAX + 1);
    REFUSED(conn->queued = H2_QUEUED_MAX + 1);
    REFUSED(conn->settings = false);
    REFUSED(conn->opened = 2);   /* not the last one */
    REFUSED(conn->opened = 1);   /* not stream 1, which is open */
    REFUSED(conn->crossing = 4); /* of a stream that was not opened */
    REFUSED(outcome.streams[0].id = 2);
    REFUSED(outcome.streams[0].id = 3);
    outcome.streams[0].id = 1;
    REFUSED(outcome.streams[0].recv_window = INT32_MIN);
    outcome.streams[0].recv_window = 0;
    REFUSED(outcome.streams[0].send_window = INT32_MIN);
    end(&outcome);
}
