/*
 * The input: how to split what follows, then the bytes of a connection. Its events are the same
 * wherever the bytes are cut, also where the connection moves to another process there.
 */

#include <string.h>

#include "frontd/codec/h2_conn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STREAMS = 5 };

static const struct h2_config config = {.header = 64, .streams = STREAMS, .connects = true};

struct outcome {
    struct h2_conn conn;
    struct h2_stream streams[STREAMS]; /* id 0: free */
    char *pending;
    size_t n;
    uint64_t hash; /* of all events and answers */
    uint64_t events;
    bool failed;
};

/* FNV-1a over what came out: long outputs need no room. */
static void digest(struct outcome *outcome, const void *p, size_t n)
{
    const uint8_t *bytes = p;
    for (size_t i = 0; i < n; i++)
        outcome->hash = (outcome->hash ^ bytes[i]) * 0x100000001b3ULL;
}

static struct h2_stream *free_stream(struct outcome *outcome)
{
    for (size_t i = 0; i < STREAMS; i++) {
        if (outcome->streams[i].id == 0)
            return &outcome->streams[i];
    }
    CHECK(false);
    return NULL;
}

static void forget(struct h2_stream *stream)
{
    if (stream != NULL)
        *stream = (struct h2_stream){0};
}

static void reset(struct outcome *outcome, const struct h2_event *event, enum h2_fault of)
{
    uint8_t out[H2_HEAD_SIZE + 4];
    enum h2_fault fault;
    digest(outcome, out,
        h2_conn_reset(
            &outcome->conn, event->stream, event->id, h2_fault(of)->code, 1, out, &fault));
    forget(event->stream);
    outcome->failed |= fault != H2_OK;
}

/* A request is right where its block's first byte is odd, and has a Content-Length after that. */
static void take_block(struct outcome *outcome, const struct h2_event *event)
{
    uint8_t first = event->bytes.n > 0 ? (uint8_t)event->bytes.p[0] : 0;
    if (event->use == H2_USE_FAULT)
        reset(outcome, event, event->fault);
    if (event->use != H2_USE_REQUEST)
        return;
    struct h2_stream *stream = free_stream(outcome);
    uint64_t length = first & 2 ? first : UINT64_MAX;
    enum h2_fault fault = first & 1 ? H2_FAULT_NAME : H2_OK;
    if (fault == H2_OK)
        fault = h2_conn_open(&outcome->conn, stream, event->id, length, event->end_stream);
    if (fault != H2_OK)
        reset(outcome, event, fault);
}

static void take_event(struct outcome *outcome, const struct h2_event *event)
{
    const unsigned facts[] = {event->kind, event->fault, event->id, event->end_stream,
        event->stream != NULL, event->kind == H2_EVENT_HEADERS ? event->use : 0};
    digest(outcome, facts, sizeof(facts));
    digest(outcome, event->answer, event->answer_n);
    CHECK(event->answer_n <= H2_ANSWER_MAX);
    outcome->events++;
    if (event->kind == H2_EVENT_HEADERS || event->kind == H2_EVENT_DATA)
        digest(outcome, event->bytes.p, event->bytes.n);
    switch (event->kind) {
    case H2_EVENT_HEADERS: take_block(outcome, event); break;
    case H2_EVENT_STREAM_FAULT: reset(outcome, event, event->fault); break;
    case H2_EVENT_RESET: forget(event->stream); break;
    case H2_EVENT_FAULT: outcome->failed = true; break;
    default: break;
    }
}

/* Between two parts the connection moves to another process. */
static void move(struct outcome *outcome)
{
    struct buf state = {0};
    struct pack pack = {.out = &state};
    h2_conn_save(&outcome->conn, &config, &pack);
    size_t n = 0;
    list_for_each (node, &outcome->conn.streams) {
        h2_stream_save(container_of(node, struct h2_stream, node), &pack);
        n++;
    }
    struct unpack unpack = {.left = {buf_data(&state), buf_len(&state)}};
    CHECK(!pack.failed && n <= STREAMS);
    CHECK(h2_conn_restore(&outcome->conn, &config, &unpack) == 0);
    memset(outcome->streams, 0, sizeof(outcome->streams));
    for (size_t i = 0; i < n; i++)
        CHECK(h2_stream_restore(&outcome->conn, &outcome->streams[i], &unpack) == 0);
    CHECK(unpack_end(&unpack) == 0 && outcome->conn.open == n);
    buf_deinit(&state);
}

/* Feeds a copy that ends where the part ends, so that ASan sees a read past it. */
static void feed(struct outcome *outcome, const uint8_t *part, size_t part_n, bool moves)
{
    size_t n = outcome->n + part_n, at = 0;
    if (outcome->failed)
        return;
    if (moves)
        move(outcome);
    char *copy = malloc(n + 1);
    CHECK(copy != NULL);
    memcpy(copy, outcome->pending, outcome->n);
    memcpy(copy + outcome->n, part, part_n);
    while (!outcome->failed) {
        struct h2_event event;
        size_t used = h2_conn_feed(&outcome->conn, copy + at, n - at, &config, 1, &event);
        CHECK(used <= n - at &&
              (used > 0 || event.kind == H2_EVENT_MORE || event.kind == H2_EVENT_FAULT));
        if (event.kind == H2_EVENT_MORE)
            break;
        take_event(outcome, &event);
        at += used;
    }
    outcome->n = n - at;
    memcpy(outcome->pending, copy + at, outcome->n);
    free(copy);
}

static void start(struct outcome *outcome, size_t size)
{
    uint8_t out[H2_START_MAX];
    *outcome = (struct outcome){.pending = malloc(size + 1), .hash = 0xcbf29ce484222325ULL};
    CHECK(outcome->pending != NULL);
    CHECK(h2_conn_init(&outcome->conn, &config, 1, out) <= sizeof(out));
}

static void check_same(struct outcome *part, const struct outcome *whole)
{
    CHECK(part->events == whole->events && part->failed == whole->failed);
    CHECK(part->hash == whole->hash && part->conn.open == whole->conn.open);
    CHECK(part->failed || part->n == whole->n);
    free(part->pending);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    const unsigned seed = (unsigned)data[0] << 8 | data[1];
    data += 2;
    size -= 2;
    struct outcome whole, part;
    start(&whole, size);
    feed(&whole, data, size, false);

    const size_t step = 1 + seed % 17;
    start(&part, size);
    for (size_t at = 0; at < size; at += step)
        feed(&part, data + at, MIN(step, size - at), seed & 1);
    check_same(&part, &whole);

    const size_t first = size == 0 ? 0 : seed % size;
    start(&part, size);
    feed(&part, data, first, false);
    feed(&part, data + first, size - first, true);
    check_same(&part, &whole);
    free(whole.pending);
    return 0;
}
