/* The input is a chunked body, perhaps with more behind it. */

#include <string.h>

#include "frontd/codec/http1_body.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    SPLITS_MAX = 200, /* splits that are tried of one input; more would only be slow */
    TRAILER_MAX = 64,
};

struct outcome {
    struct http1_chunked state;
    char *data;
    size_t n;    /* bytes of data */
    size_t used; /* bytes of input */
    int end;
};

/* Feeds a copy that ends where the part ends, so that ASan sees a read past it. */
static void feed(struct outcome *outcome, const uint8_t *p, size_t n)
{
    char *copy = malloc(n + (n == 0));
    CHECK(copy != NULL);
    if (n > 0)
        memcpy(copy, p, n);
    size_t at = 0;
    do {
        size_t used;
        struct span data;
        outcome->end = http1_chunked_feed(
            &outcome->state, copy + at, n - at, TRAILER_MAX, &used, &data);
        if (outcome->end < 0) {
            CHECK(outcome->end == -400 || outcome->end == -431);
            break;
        }
        CHECK(used <= n - at);
        if (outcome->end == HTTP1_BODY_DATA) {
            CHECK(data.n > 0 && data.n <= used);
            CHECK(data.p + data.n == copy + at + used);
            memcpy(outcome->data + outcome->n, data.p, data.n);
            outcome->n += data.n;
        }
        CHECK(outcome->end != HTTP1_BODY_MORE || used == n - at);
        at += used;
        outcome->used += used;
    } while (outcome->end == HTTP1_BODY_DATA);
    free(copy);
}

static void feed_parts(
    struct outcome *outcome, const uint8_t *data, size_t size, size_t first, size_t step)
{
    *outcome = (struct outcome){.data = malloc(size + 1)};
    CHECK(outcome->data != NULL);
    feed(outcome, data, first);
    for (size_t at = first; at < size && outcome->end == HTTP1_BODY_MORE; at += step)
        feed(outcome, data + at, MIN(step, size - at));
}

static void check_same(struct outcome *part, const struct outcome *whole)
{
    CHECK(part->end == whole->end && part->n == whole->n);
    CHECK(memcmp(part->data, whole->data, whole->n) == 0);
    CHECK(whole->end < 0 || part->used == whole->used);
    free(part->data);
}

/*
 * A body that was accepted, read again in a careless way that needs all of it in memory: lines end
 * at the next LF, a size is what strtoull() makes of it. There must be no two readings.
 */
static void check_again(const uint8_t *data, const struct outcome *whole)
{
    const char *p = (const char *)data, *end = p + whole->used;
    size_t n = 0;
    for (;;) {
        const char *line = memchr(p, '\n', (size_t)(end - p));
        CHECK(line != NULL);
        const unsigned long long size = strtoull(p, NULL, 16);
        p = line + 1;
        if (size == 0)
            break;
        CHECK(size <= (size_t)(end - p) && n + size <= whole->n);
        CHECK(memcmp(whole->data + n, p, size) == 0);
        n += size;
        p += size;
        CHECK(end - p >= 2 && p[0] == '\r' && p[1] == '\n');
        p += 2;
    }
    CHECK(n == whole->n);
    while (p[0] != '\r') {
        const char *line = memchr(p, '\n', (size_t)(end - p));
        CHECK(line != NULL && line[-1] == '\r' && memchr(p, ':', (size_t)(line - p)) != NULL);
        p = line + 1;
    }
    CHECK(p + 2 == end && p[1] == '\n');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct outcome whole, part;
    feed_parts(&whole, data, size, size, 1);
    if (whole.end == HTTP1_BODY_DONE)
        check_again(data, &whole);
    feed_parts(&part, data, size, 0, 1);
    check_same(&part, &whole);
    for (size_t first = 0; first < size; first += size / SPLITS_MAX + 1) {
        feed_parts(&part, data, size, first, size);
        check_same(&part, &whole);
    }
    free(whole.data);
    return 0;
}
