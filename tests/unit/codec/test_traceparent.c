#include <criterion/criterion.h>
#include <string.h>

#include "frontd/codec/traceparent.h"

#define TRACE  "0af7651916cd43dd8448eb211c80319c"
#define PARENT "b7ad6b7169203331"
#define RIGHT  "00-" TRACE "-" PARENT "-01"

/* Reads a copy that ends where its bytes end, so that no byte behind them is looked at. */
static bool reads(const char *text, size_t n, struct traceparent *ret)
{
    char *copy = malloc(n + (n == 0));
    cr_assert_not_null(copy);
    memcpy(copy, text, n);
    bool right = traceparent_read((struct span){copy, n}, ret);
    free(copy);
    return right;
}

Test(traceparent, values)
{
    static const struct {
        const char *text;
        int flags; /* -1: refused */
    } rows[] = {
        {RIGHT, TRACEPARENT_SAMPLED},
        {"00-" TRACE "-" PARENT "-00", 0},
        {"00-" TRACE "-" PARENT "-03", TRACEPARENT_SAMPLED | TRACEPARENT_RANDOM},
        {"00-" TRACE "-" PARENT "-ff", TRACEPARENT_SAMPLED | TRACEPARENT_RANDOM},
        {"00-" TRACE "-" PARENT "-fc", 0},
        /* versions to come */
        {"01-" TRACE "-" PARENT "-01", TRACEPARENT_SAMPLED},
        {"cc-" TRACE "-" PARENT "-01-what-will-come", TRACEPARENT_SAMPLED},
        {"cc-" TRACE "-" PARENT "-01-", TRACEPARENT_SAMPLED},
        {"cc-" TRACE "-" PARENT "-01.what", -1},
        {"ff-" TRACE "-" PARENT "-01", -1},
        {"00-" TRACE "-" PARENT "-01-more", -1},
        {"00-" TRACE "-" PARENT "-010", -1},
        /* ids of nothing */
        {"00-00000000000000000000000000000000-" PARENT "-01", -1},
        {"00-" TRACE "-0000000000000000-01", -1},
        {"00-00000000000000000000000000000001-0000000000000001-01", TRACEPARENT_SAMPLED},
        /* characters */
        {"00-0AF7651916CD43DD8448EB211C80319C-" PARENT "-01", -1},
        {"00-" TRACE "-B7AD6B7169203331-01", -1},
        {"0A-" TRACE "-" PARENT "-01", -1},
        {"00-" TRACE "-" PARENT "-0A", -1},
        {"00-0af7651916cd43dd8448eb211c80319g-" PARENT "-01", -1},
        {"00-0af7651916cd43dd8448eb211c80319/-" PARENT "-01", -1},
        {"00_" TRACE "-" PARENT "-01", -1},
        {"00-" TRACE "_" PARENT "-01", -1},
        {"00-" TRACE "-" PARENT "_01", -1},
        {" " RIGHT, -1},
        {"", -1},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct traceparent read = {.flags = 0x55};
        bool right = reads(rows[i].text, strlen(rows[i].text), &read);
        cr_expect_eq(right, rows[i].flags >= 0, "%s", rows[i].text);
        cr_expect_eq(read.flags, right ? rows[i].flags : 0x55, "%s: %x", rows[i].text, read.flags);
    }
}

Test(traceparent, no_beginning_of_a_value_is_one)
{
    struct traceparent read;
    for (size_t n = 0; n < TRACEPARENT_SIZE; n++)
        cr_expect_not(reads(RIGHT, n, &read), "%zu", n);
}

Test(traceparent, what_is_written_is_what_was_read)
{
    struct traceparent read;
    char out[TRACEPARENT_SIZE];
    cr_assert(reads(RIGHT, strlen(RIGHT), &read));
    cr_expect_eq(read.trace[0], 0x0a);
    cr_expect_eq(read.trace[15], 0x9c);
    cr_expect_eq(read.span[0], 0xb7);
    traceparent_write(&read, out);
    cr_expect_eq(memcmp(out, RIGHT, sizeof(out)), 0, "%.*s", (int)sizeof(out), out);
}

Test(traceparent, drawn_by_the_last_seven_bytes)
{
    struct traceparent of = {.trace = {[8] = 0xff, [9] = 0x80}};
    const uint64_t half = (uint64_t)1 << (TRACEPARENT_RANDOMS - 1);
    cr_expect(traceparent_drawn(&of, 0), "all are");
    cr_expect(traceparent_drawn(&of, half));
    cr_expect_not(traceparent_drawn(&of, half + 1));
    cr_expect_not(traceparent_drawn(&of, (uint64_t)1 << TRACEPARENT_RANDOMS), "none is");
    memset(of.trace, 0xff, sizeof(of.trace));
    cr_expect_not(traceparent_drawn(&of, (uint64_t)1 << TRACEPARENT_RANDOMS), "none is");
    memset(of.trace + 9, 0, 7);
    cr_expect(traceparent_drawn(&of, 0), "all are");
    cr_expect_not(traceparent_drawn(&of, 1));
}
