#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/base.h"
#include "frontd/system/loop.h"

static int calls;

static void on_readable(uv_poll_t *poll, int status, int events)
{
    char byte;
    cr_assert(status == 0 && (events & UV_READABLE));
    calls += (int)read((int)(intptr_t)poll->data, &byte, 1);
    uv_poll_stop(poll);
}

/* A descriptor with a number as high as that. */
static int high(int fd, int number)
{
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, number);
    cr_assert_geq(moved, number);
    close(fd);
    return moved;
}

static void watch(uv_loop_t *loop, int number)
{
    uv_poll_t poll;
    int ends[2];
    cr_assert_eq(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    if (number > 0)
        ends[0] = high(ends[0], number);
    cr_assert_eq(loop_poll_init(loop, &poll, ends[0]), 0);
    unsigned places = loop->nwatchers;
    cr_assert_gt(places, (unsigned)ends[0], "there is room before it is started");
    poll.data = (void *)(intptr_t)ends[0];
    cr_assert(!uv_is_active((uv_handle_t *)&poll));
    cr_assert_eq(uv_poll_start(&poll, UV_READABLE, on_readable), 0);
    cr_assert_eq(loop->nwatchers, places);
    cr_assert_eq(write(ends[1], "x", 1), 1);
    calls = 0;
    uv_run(loop, UV_RUN_DEFAULT);
    cr_assert_eq(calls, 1);
    uv_close((uv_handle_t *)&poll, NULL);
    uv_run(loop, UV_RUN_DEFAULT);
    close(ends[0]);
    close(ends[1]);
}

Test(loop, descriptors_low_and_high)
{
    uv_loop_t loop;
    loop_prepare();
    cr_assert_eq(loop_init(&loop), 0);
    static const int numbers[] = {0, 30, 61, 62, 63, 64, 125, 126, 127, 500, 0, 501, 1000};
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        watch(&loop, numbers[i]);
    cr_assert_eq(uv_loop_close(&loop), 0);
}

/* No memory for a table that large: an error, and the loop goes on with what it has. */
Test(loop, without_memory)
{
    uv_loop_t loop;
    uv_poll_t poll;
    int ends[2];
    struct rlimit descriptors;
    struct rlimit memory;
    loop_prepare();
    cr_assert_eq(loop_init(&loop), 0);
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &descriptors), 0);
    descriptors.rlim_cur = descriptors.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &descriptors), 0);
    int number = (int)MIN(descriptors.rlim_cur, (rlim_t)100000) - 2;
#ifdef __SANITIZE_ADDRESS__
    number = 0; /* its allocator does not fail, it ends the program */
#endif
    if (number < 17000)
        cr_skip_test("needs an allocator that fails, and 17,000 descriptors");
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    ends[0] = high(ends[0], number);
    cr_assert_eq(getrlimit(RLIMIT_AS, &memory), 0);
    struct rlimit none = {1, memory.rlim_max};
    cr_assert_eq(setrlimit(RLIMIT_AS, &none), 0);
    int r = loop_poll_init(&loop, &poll, ends[0]);
    cr_assert_eq(setrlimit(RLIMIT_AS, &memory), 0);
    cr_assert_eq(r, -ENOMEM);
    watch(&loop, 0);
    watch(&loop, number - 1);
    close(ends[0]);
    close(ends[1]);
    cr_assert_eq(uv_loop_close(&loop), 0);
}
