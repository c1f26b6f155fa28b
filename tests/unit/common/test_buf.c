#include <criterion/criterion.h>
#include <errno.h>

#include "common/alloc.h"
#include "common/buf.h"

static void check(const struct buf *buf, const char *wanted)
{
    cr_assert_eq(buf_len(buf), strlen(wanted));
    cr_assert(buf_len(buf) == 0 || memcmp(buf_data(buf), wanted, buf_len(buf)) == 0);
}

Test(buf, appends_and_consumes)
{
    struct buf buf = {0};
    cr_assert_eq(buf_append(&buf, "", 0), 0);
    cr_assert_eq(mem_in_use(), (size_t)0);
    cr_assert_eq(buf_append(&buf, "hello ", 6), 0);
    cr_assert_eq(buf_printf(&buf, "%s %d", "world", 42), 0);
    check(&buf, "hello world 42");
    buf_consume(&buf, 6);
    check(&buf, "world 42");
    buf_truncate(&buf, 5);
    check(&buf, "world");
    buf_consume(&buf, 0);
    check(&buf, "world");
    buf_consume(&buf, 5);
    check(&buf, "");
    cr_assert_eq(mem_in_use(), (size_t)0, "an empty buffer keeps no memory");
    buf_deinit(&buf);
    buf_deinit(&buf);
}

Test(buf, room_counts_when_it_is_said)
{
    struct buf buf = {0};
    char *room = buf_room(&buf, 100);
    cr_assert_not_null(room);
    cr_assert_eq(buf_len(&buf), (size_t)0);
    memcpy(room, "abc", 3);
    buf_added(&buf, 3);
    check(&buf, "abc");
    buf_deinit(&buf);
}

Test(buf, too_much_is_refused)
{
    struct buf buf = {0};
    cr_assert_eq(buf_append(&buf, "abc", 3), 0);
    cr_assert_null(buf_room(&buf, ((size_t)1 << 31) - 2));
    cr_assert_null(buf_room(&buf, SIZE_MAX));
    check(&buf, "abc");
    buf_deinit(&buf);
}

/* A client that reads all but a little does not keep the memory of all. */
Test(buf, little_that_is_left_keeps_little)
{
    enum { LARGE = 1 << 20, LEFT = 1000 };
    static char bytes[LARGE];
    struct buf buf = {0};
    memset(bytes + LARGE - LEFT, 'x', LEFT);
    cr_assert_eq(buf_append(&buf, bytes, LARGE), 0);
    buf_consume(&buf, LARGE / 2);
    cr_assert_geq(buf.size, (uint32_t)LARGE);
    mem_fail_after(0);
    buf_consume(&buf, LARGE / 2 - LEFT - 1);
    cr_assert_geq(buf.size, (uint32_t)LARGE, "without memory it stays where it is");
    buf_consume(&buf, 1);
    cr_assert_leq(buf.size, 2U * LEFT);
    cr_assert(buf_len(&buf) == LEFT && memcmp(buf_data(&buf), bytes + LARGE - LEFT, LEFT) == 0);
    cr_assert_eq(mem_in_use(), (size_t)buf.size);
    buf_deinit(&buf);
}

/* Random operations, compared with an array that never moves. */
Test(buf, is_a_queue)
{
    enum { TURNS = 20000, SIZE = 1 << 20 };
    static char model[SIZE];
    size_t start = 0;
    size_t end = 0;
    struct buf buf = {0};
    srand(7);
    for (int i = 0; i < TURNS; i++) {
        size_t n = (size_t)rand() % (rand() % 8 == 0 ? 3000 : 40);
        if (rand() % 2 == 0 && end + n <= SIZE) {
            for (size_t j = 0; j < n; j++)
                model[end + j] = (char)rand();
            cr_assert_eq(buf_append(&buf, model + end, n), 0);
            end += n;
        } else if (rand() % 4 == 0) {
            size_t keep = n < end - start ? n : end - start;
            buf_truncate(&buf, end - start - keep);
            end -= keep;
        } else {
            size_t take = n < end - start ? n : end - start;
            buf_consume(&buf, take);
            start += take;
        }
        cr_assert_eq(buf_len(&buf), end - start);
        cr_assert(end == start || memcmp(buf_data(&buf), model + start, end - start) == 0);
        cr_assert_leq(
            buf.size, 1U << 20, "it grows with what is in it, not with what went through");
    }
    buf_deinit(&buf);
    cr_assert_eq(mem_in_use(), (size_t)0);
}

Test(buf, each_allocation_fails)
{
    struct buf buf = {0};
    mem_fail_after(0);
    cr_assert_eq(buf_append(&buf, "abc", 3), -ENOMEM);
    mem_fail_after(0);
    cr_assert_eq(buf_printf(&buf, "%d", 1), -ENOMEM);
    check(&buf, "");
    cr_assert_eq(buf_append(&buf, "abc", 3), 0);
    char large[1000] = {0};
    mem_fail_after(0);
    cr_assert_eq(buf_append(&buf, large, sizeof(large)), -ENOMEM);
    check(&buf, "abc");
    cr_assert_eq(buf_append(&buf, large, sizeof(large)), 0);
    cr_assert_eq(buf_len(&buf), (size_t)1003);
    buf_deinit(&buf);
    cr_assert_eq(mem_in_use(), (size_t)0);
}

/* A block that was given back is taken again, and has no more of what was in it than a pointer. */
static bool is_clean(size_t size, char byte)
{
    size_t got;
    char *block = mem_get(size, &got);
    cr_assert_not_null(block);
    bool clean = memchr(block + sizeof(void *), byte, got - sizeof(void *)) == NULL;
    mem_put(block, got);
    return clean;
}

Test(buf, what_is_secret_is_wiped)
{
    char bytes[100];
    static const size_t sizes[] = {128, 256, 512, 1024, 2048};
    for (int secret = 1; secret >= 0; secret--) { /* the other way round it would be found again */
        struct buf buf = {.secret = secret};
        mem_trim();
        memset(bytes, secret ? 'x' : 'y', sizeof(bytes));
        for (int i = 0; i < 20; i++)
            cr_assert_eq(buf_append(&buf, bytes, sizeof(bytes)), 0);
        cr_assert_eq(buf_len(&buf), 20 * sizeof(bytes));
        for (size_t i = 0; i < buf_len(&buf); i++)
            cr_assert_eq(buf_data(&buf)[i], bytes[0]);
        if (secret)
            buf_wipe(&buf);
        else
            buf_deinit(&buf);
        cr_expect_eq(buf.size, 0u);
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
            cr_expect_eq(is_clean(sizes[i], bytes[0]), secret == 1, "%zu", sizes[i]);
    }
}

Test(buf, wiping_nothing)
{
    struct buf buf = {0};
    buf_wipe(&buf);
    cr_expect_null(buf.memory);
}
