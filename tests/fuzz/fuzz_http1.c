/* The input: how to split what follows, then the bytes of a connection. */

#include <string.h>

#include "frontd/codec/http1.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct http1_config config = {
    .head = {.head_bytes = 512, .fields = 8},
    .body = 64,
};

/* FNV-1a over what came out: long outputs need no room. */
static void digest(uint64_t *hash, const void *p, size_t n)
{
    const uint8_t *bytes = p;
    for (size_t i = 0; i < n; i++)
        *hash = (*hash ^ bytes[i]) * 0x100000001b3ULL;
}

struct outcome {
    struct http1 http1;
    char *pending; /* of the request that is not complete */
    size_t n;
    uint64_t hash; /* of all events but HTTP1_CONTINUE */
    size_t requests;
    bool continued; /* for the request that is not complete */
    bool failed;
};

static void digest_span(uint64_t *hash, struct span span)
{
    digest(hash, &span.n, sizeof(span.n));
    digest(hash, span.p, span.n);
}

static bool inside(struct span span, const char *p, size_t n)
{
    return span.n == 0 || (span.p >= p && span.p <= p + n && span.n <= (size_t)(p + n - span.p));
}

static void take_head(
    struct outcome *outcome, const struct http1_head *head, const char *p, size_t n)
{
    const struct span spans[] = {head->http.method_text, head->target, head->http.path,
        head->http.query, head->http.authority};
    for (size_t i = 0; i < ARRAY_LEN(spans); i++) {
        CHECK(inside(spans[i], p, n));
        digest_span(&outcome->hash, spans[i]);
    }
    const unsigned flags[] = {head->http.method, head->http.form, head->minor, head->has_length,
        head->chunked, head->keep_alive, head->http.expect_continue, head->http.nfields};
    digest(&outcome->hash, flags, sizeof(flags));
    for (size_t i = 0; i < head->http.nfields; i++) {
        CHECK(inside(head->http.fields[i].name, p, n) && inside(head->http.fields[i].value, p, n));
        digest_span(&outcome->hash, head->http.fields[i].name);
        digest_span(&outcome->hash, head->http.fields[i].value);
    }
}

/* Takes one event from the `n` bytes at `p`. Returns how many at its start are done with. */
static size_t take_event(struct outcome *outcome, char *p, size_t n)
{
    static struct http1_head head;
    memset(&head, 0xa5, sizeof(head));
    struct http1_result result = http1_feed(&outcome->http1, p, n, &config, &head);
    if (result.event == HTTP1_REQUEST) {
        CHECK(result.used > 0 && result.used <= n);
        CHECK(inside(result.body, p, result.used) && result.body.n <= config.body);
        take_head(outcome, &head, p, result.used);
        digest_span(&outcome->hash, result.body);
        outcome->requests++;
        outcome->continued = false;
        return result.used;
    }
    if (result.event == HTTP1_ERROR) {
        CHECK(result.status >= 400 && result.status <= 505 && head.http.method <= HTTP_TRACE);
        const unsigned parts[] = {result.status, head.http.method, result.head_known};
        digest(&outcome->hash, parts, sizeof(parts));
        if (result.head_known)
            take_head(outcome, &head, p, n);
        outcome->failed = true;
        return n;
    }
    CHECK(result.kept <= n);
    CHECK(result.kept <= config.head.head_bytes + config.body || outcome->http1.phase == 0);
    if (result.event == HTTP1_CONTINUE) {
        CHECK(!outcome->continued && head.http.expect_continue && result.kept == n);
        outcome->continued = true;
    }
    memcpy(outcome->pending, p, result.kept);
    outcome->n = result.kept;
    return n;
}

/* Between two parts the connection moves to another process. */
static void move(struct outcome *outcome)
{
    struct buf state = {0};
    struct pack pack = {.out = &state};
    http1_save(&outcome->http1, &pack);
    struct unpack unpack = {.left = {buf_data(&state), buf_len(&state)}};
    struct span bytes = {outcome->pending, outcome->n};
    CHECK(http1_restore(&outcome->http1, &unpack, bytes) == 0);
    CHECK(unpack_end(&unpack) == 0);
    buf_deinit(&state);
}

/* Feeds a copy that ends where the part ends, so that ASan sees a read past it. */
static void feed(struct outcome *outcome, const uint8_t *part, size_t part_n)
{
    size_t n = outcome->n + part_n;
    if (part_n == 0 || outcome->failed)
        return;
    char *copy = malloc(n);
    CHECK(copy != NULL);
    move(outcome);
    memcpy(copy, outcome->pending, outcome->n);
    memcpy(copy + outcome->n, part, part_n);
    outcome->n = 0;
    for (size_t at = 0; at < n && !outcome->failed;)
        at += take_event(outcome, copy + at, n - at);
    free(copy);
}

static void start(struct outcome *outcome, size_t size)
{
    *outcome = (struct outcome){.pending = malloc(size + 1), .hash = 0xcbf29ce484222325ULL};
    CHECK(outcome->pending != NULL);
}

/* The part's events are those of the whole, and what is kept is the same. */
static void check_same(struct outcome *part, const struct outcome *whole)
{
    CHECK(part->requests == whole->requests && part->failed == whole->failed);
    CHECK(part->hash == whole->hash);
    CHECK(part->n == whole->n && memcmp(part->pending, whole->pending, whole->n) == 0);
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
    feed(&whole, data, size);

    /* In parts of lengths that the fuzzer chooses: from every byte by itself to two halves. */
    const size_t step = seed % 17 == 0 ? size / 2 + 1 : seed % 17;
    start(&part, size);
    for (size_t at = 0, i = 0; at < size; i++) {
        size_t n = MIN(1 + (seed >> 4) * i % step, size - at);
        feed(&part, data + at, n);
        at += n;
    }
    check_same(&part, &whole);

    const size_t first = size == 0 ? 0 : seed % size;
    start(&part, size);
    feed(&part, data, first);
    feed(&part, data + first, size - first);
    check_same(&part, &whole);

    free(whole.pending);
    return 0;
}
