#include <criterion/criterion.h>
#include <string.h>

#include "common/pack.h"
#include "frontd/ipc/trace_record.h"

static struct trace_record sample(void)
{
    struct trace_record record = {
        .start = 1700000000000000,
        .duration = 5000,
        .queued = 5000,
        .conn = UINT64_MAX,
        .error = -32003,
        .status = 504,
        .flags = 3,
        .failed = true,
    };
    memset(record.trace, 0xab, sizeof(record.trace));
    memset(record.span, 0xcd, sizeof(record.span));
    record.texts[TRACE_METHOD] = SPAN("add");
    record.texts[TRACE_REQUEST_ID] = SPAN("r-1");
    return record;
}

static void expect_same(const struct trace_record *one, const struct trace_record *other)
{
    cr_expect_eq(memcmp(one->trace, other->trace, sizeof(one->trace)), 0);
    cr_expect_eq(memcmp(one->span, other->span, sizeof(one->span)), 0);
    cr_expect_eq(memcmp(one->parent, other->parent, sizeof(one->parent)), 0);
    cr_expect_eq(one->start, other->start);
    cr_expect_eq(one->duration, other->duration);
    cr_expect_eq(one->queued, other->queued);
    cr_expect_eq(one->conn, other->conn);
    cr_expect_eq(one->error, other->error);
    cr_expect_eq(one->status, other->status);
    cr_expect_eq(one->flags, other->flags);
    cr_expect_eq(one->failed, other->failed);
    for (size_t i = 0; i < TRACE_TEXTS; i++)
        cr_expect(one->texts[i].n == other->texts[i].n &&
                  (one->texts[i].n == 0 ||
                      memcmp(one->texts[i].p, other->texts[i].p, one->texts[i].n) == 0));
}

Test(trace_record, some_in_one_message)
{
    struct buf buf = {0};
    struct trace_record read;
    bool bad = true;
    struct trace_record first = sample(), second = sample();
    second.error = 0;
    second.texts[TRACE_METHOD] = (struct span){0};
    cr_assert_eq(trace_record_pack(&buf, &first), 0);
    cr_assert_eq(trace_record_pack(&buf, &second), 0);
    struct span message = {buf_data(&buf), buf_len(&buf)};
    cr_assert(trace_record_next(&message, &read, &bad));
    expect_same(&read, &first);
    cr_assert(trace_record_next(&message, &read, &bad));
    expect_same(&read, &second);
    cr_expect_not(trace_record_next(&message, &read, &bad));
    cr_expect_not(bad);
    buf_deinit(&buf);
}

Test(trace_record, long_texts_are_cut)
{
    char text[TRACE_TEXT_MAX + 1];
    struct buf buf = {0};
    struct trace_record read, record = sample();
    bool bad;
    memset(text, 'x', sizeof(text));
    for (size_t n = TRACE_TEXT_MAX; n <= sizeof(text); n++) {
        record.texts[TRACE_POOL] = (struct span){text, n};
        cr_assert_eq(trace_record_pack(&buf, &record), 0);
        struct span message = {buf_data(&buf), buf_len(&buf)};
        cr_assert(trace_record_next(&message, &read, &bad));
        cr_expect_eq(read.texts[TRACE_POOL].n, TRACE_TEXT_MAX);
        buf_deinit(&buf);
    }
}

Test(trace_record, cut_anywhere_it_is_none)
{
    struct buf buf = {0};
    struct trace_record read, record = sample();
    bool bad;
    cr_assert_eq(trace_record_pack(&buf, &record), 0);
    for (size_t n = 1; n < buf_len(&buf); n++) {
        struct span message = {buf_data(&buf), n};
        cr_expect_not(trace_record_next(&message, &read, &bad));
        cr_expect(bad, "%zu", n);
    }
    buf_deinit(&buf);
}

/* What a later version of the program may send is passed over; what is wrong is bad. */
Test(trace_record, other_versions)
{
    struct trace_record read, record = sample();
    bool bad;
    for (int i = 0; i < 3; i++) {
        struct buf buf = {0};
        struct pack pack = {.out = &buf};
        size_t begun = pack_begin(&pack, i == 0 ? 9 : 1, i == 1 ? 9 : 1);
        pack_u8(&pack, 1);
        pack_end(&pack, begun);
        cr_assert_eq(trace_record_pack(&buf, &record), 0);
        struct span message = {buf_data(&buf), buf_len(&buf)};
        cr_expect_eq(trace_record_next(&message, &read, &bad), i < 2, "%d", i);
        cr_expect_eq(bad, i == 2, "%d", i);
        buf_deinit(&buf);
    }
}

Test(trace_record, times_that_cannot_be)
{
    struct trace_record read;
    bool bad;
    for (int i = 0; i < 4; i++) {
        struct buf buf = {0};
        struct trace_record record = sample();
        if (i == 1)
            record.queued = record.duration + 1;
        if (i == 2)
            record.start = UINT64_MAX / 1000 - record.duration + 1;
        if (i == 3) /* in ns it is the largest */
            record.start = UINT64_MAX / 1000 - record.duration;
        cr_assert_eq(trace_record_pack(&buf, &record), 0);
        struct span message = {buf_data(&buf), buf_len(&buf)};
        cr_expect_eq(trace_record_next(&message, &read, &bad), i == 0 || i == 3, "%d", i);
        buf_deinit(&buf);
    }
}
