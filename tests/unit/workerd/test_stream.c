#include <criterion/criterion.h>

#include "workerd/stream.h"

static struct stream *begin(uint32_t first)
{
    struct stream *stream = stream_new(NULL);
    cr_assert_not_null(stream);
    stream->coming = true;
    stream->first = first;
    return stream;
}

Test(stream, window_of_a_body)
{
    struct stream *stream = begin(0);
    cr_assert(stream_came(stream, STREAM_WINDOW));
    cr_assert(stream_came(stream, 0));
    cr_assert_not(stream_came(stream, 1));
    cr_assert_eq(stream->held, STREAM_WINDOW);
    stream_free(stream);
}

/* What was taken is open again once it is told, and not before. */
Test(stream, told_in_steps)
{
    struct stream *stream = begin(0);
    cr_assert(stream_came(stream, STREAM_WINDOW));
    cr_assert_eq(stream_took(stream, STREAM_WINDOW_STEP - 1), 0);
    cr_assert_not(stream_came(stream, 1));
    cr_assert_eq(stream_took(stream, 1), STREAM_WINDOW_STEP);
    cr_assert_not(stream_came(stream, STREAM_WINDOW_STEP + 1));
    cr_assert(stream_came(stream, STREAM_WINDOW_STEP));
    stream_free(stream);
}

/* What came with the REQUEST is beside the window, and is taken first. */
Test(stream, the_beginning_is_beside_the_window)
{
    struct stream *stream = begin(100000);
    cr_assert(stream_came(stream, STREAM_WINDOW));
    cr_assert_eq(stream_took(stream, 100000), 0);
    cr_assert_eq(stream_took(stream, STREAM_WINDOW_STEP), STREAM_WINDOW_STEP);
    stream_free(stream);
}

Test(stream, more_than_has_come_is_all_of_it)
{
    struct stream *stream = begin(5);
    cr_assert(stream_came(stream, 70000));
    cr_assert_eq(stream_took(stream, SIZE_MAX), 70000);
    cr_assert_eq(stream_took(stream, SIZE_MAX), 0);
    cr_assert(stream_came(stream, STREAM_WINDOW));
    cr_assert_not(stream_came(stream, 1));
    stream_free(stream);
}

/* Behind the last part nobody waits for a WINDOW. */
Test(stream, nothing_is_told_at_the_end)
{
    struct stream *stream = begin(0);
    cr_assert(stream_came(stream, STREAM_WINDOW));
    stream->coming = false;
    cr_assert_eq(stream_took(stream, STREAM_WINDOW), 0);
    stream_free(stream);
}

Test(stream, credit_has_an_end)
{
    struct stream *stream = begin(0);
    stream_credit(stream, STREAM_WINDOW);
    stream_credit(stream, UINT32_MAX);
    cr_assert_eq(stream->room, UINT32_MAX);
    stream_credit(stream, INT64_MAX);
    cr_assert_eq(stream->room, UINT32_MAX);
    stream_free(stream);
    cr_assert_null(stream_free(NULL));
}
