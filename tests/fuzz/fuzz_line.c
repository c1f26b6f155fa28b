/*
 * The input is what one client of framed TCP sends, read in both framings and with several limits.
 */

#include <string.h>

#include "frontd/codec/framing.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    SPLITS_MAX = 40, /* splits that are tried of one input; more would only be slow */
};

enum framing { FRAME, LINE };

/* What was read, one after the other: the kind, and of a message its place in the input. */
struct outcome {
    struct {
        enum line_event event;
        size_t at, n;
    } * events;
    size_t count;
    size_t left; /* bytes that make no message yet */
};

static void add(struct outcome *outcome, enum line_event event, size_t at, size_t n)
{
    outcome->events[outcome->count].event = event;
    outcome->events[outcome->count].at = at;
    outcome->events[outcome->count++].n = n;
}

static void begin(struct outcome *outcome, size_t size)
{
    *outcome = (struct outcome){.events = calloc(size + 2, sizeof(*outcome->events))};
    CHECK(outcome->events != NULL);
}

/*
 * What is kept and what is added are a copy that ends where the part ends, so that ASan sees more.
 */
static void feed_parts(struct outcome *outcome, enum framing framing, const uint8_t *data,
    size_t size, uint32_t limit, size_t first, size_t step)
{
    size_t from = 0, scanned = 0;
    begin(outcome, size);
    for (size_t to = first;; to = MIN(to + step, size)) {
        const size_t n = to - from;
        char *copy = malloc(n + (n == 0)), *p = copy;
        CHECK(copy != NULL);
        if (n > 0)
            memcpy(copy, data + from, n);
        struct line_result result;
        for (;;) {
            const size_t rest = (size_t)(copy + n - p);
            result = framing == FRAME ? line_feed_frame(p, rest, limit)
                                      : line_feed_line(p, rest, limit, &scanned);
            if (result.event != LINE_MESSAGE && result.event != LINE_HEARTBEAT)
                break;
            CHECK(scanned == 0 && result.used > 0 && result.used <= rest);
            CHECK(result.payload.p >= p && result.payload.n <= limit);
            CHECK(result.payload.p + result.payload.n <= p + result.used);
            add(outcome, result.event, from + (size_t)(result.payload.p - p), result.payload.n);
            from += result.used;
            p += result.used;
        }
        free(copy);
        if (result.event == LINE_TOO_BIG) {
            add(outcome, result.event, 0, 0);
            break;
        }
        if (to == size)
            break;
    }
    outcome->left = size - from;
}

/* The same, read again with all of it in memory. */
static void read_frames(struct outcome *outcome, const uint8_t *data, size_t size, uint32_t limit)
{
    size_t at = 0;
    begin(outcome, size);
    while (size - at >= 4) {
        const uint64_t n = data[at] * UINT64_C(16777216) + data[at + 1] * UINT64_C(65536) +
                           data[at + 2] * UINT64_C(256) + data[at + 3];
        if (n > limit) {
            add(outcome, LINE_TOO_BIG, 0, 0);
            break;
        }
        if (at + 4 + n > size)
            break;
        add(outcome, n == 0 ? LINE_HEARTBEAT : LINE_MESSAGE, at + 4, n);
        at += 4 + n;
    }
    outcome->left = size - at;
}

static void read_lines(struct outcome *outcome, const uint8_t *data, size_t size, uint32_t limit)
{
    size_t at = 0;
    begin(outcome, size);
    for (size_t i = 0; i < size; i++) {
        if (data[i] != '\n')
            continue;
        const size_t n = i - at - (i > at && data[i - 1] == '\r');
        if (n > limit)
            break;
        add(outcome, n == 0 ? LINE_HEARTBEAT : LINE_MESSAGE, at, n);
        at = i + 1;
    }
    outcome->left = size - at;
    if (outcome->left >= (size_t)limit + 2)
        add(outcome, LINE_TOO_BIG, 0, 0);
}

static void check_same(struct outcome *part, const struct outcome *whole)
{
    CHECK(part->count == whole->count && part->left == whole->left);
    for (size_t i = 0; i < whole->count; i++) {
        CHECK(part->events[i].event == whole->events[i].event);
        CHECK(part->events[i].at == whole->events[i].at && part->events[i].n == whole->events[i].n);
    }
    free(part->events);
}

static void check(enum framing framing, const uint8_t *data, size_t size, uint32_t limit)
{
    struct outcome whole, other;
    feed_parts(&whole, framing, data, size, limit, size, 1);
    if (framing == FRAME)
        read_frames(&other, data, size, limit);
    else
        read_lines(&other, data, size, limit);
    check_same(&other, &whole);
    feed_parts(&other, framing, data, size, limit, 0, 1);
    check_same(&other, &whole);
    for (size_t first = 0; first < size; first += size / SPLITS_MAX + 1) {
        feed_parts(&other, framing, data, size, limit, first, size);
        check_same(&other, &whole);
    }
    free(whole.events);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint32_t limits[] = {0, 5, 65536, UINT32_MAX};
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        check(FRAME, data, size, limits[i]);
        check(LINE, data, size, limits[i]);
    }
    return 0;
}
