#include "frontd/shard/net/poller.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base.h"
#include "tests/unit/support/descriptors.h"

enum { TURNS = 4 };

struct item {
    int fd;
    int peer;
    uint32_t wanted;
    uint32_t got; /* in the last turn; 0: not ready */
    unsigned times;
};

static uv_loop_t loop;
static struct poller poller;
static size_t descriptors;

static uint64_t work_each;

static uint64_t ready(void *data, uint32_t events)
{
    struct item *item = data;
    cr_assert(poller.busy);
    item->got = events;
    item->times++;
    return work_each;
}

static void set_up(void)
{
    cr_assert_eq(uv_loop_init(&loop), 0);
    uv_run(&loop, UV_RUN_NOWAIT);
    descriptors = open_count();
    cr_assert_eq(poller_init(&poller, &loop, ready, POLLER_ALL), 0);
}

static void tear_down(void)
{
    poller_close(&poller);
    uv_run(&loop, UV_RUN_DEFAULT);
    cr_assert_eq(open_count(), descriptors);
    cr_assert_eq(uv_loop_close(&loop), 0);
}

TestSuite(poller, .init = set_up, .fini = tear_down);

static void open_item(struct item *item)
{
    int fds[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    *item = (struct item){.fd = fds[0], .peer = fds[1]};
}

static void want(struct item *item, uint32_t events)
{
    cr_assert_eq(poller_set(&poller, item->fd, item->wanted, events, item), 0);
    item->wanted = events;
}

static void close_item(struct item *item)
{
    want(item, 0);
    close(item->fd);
    close(item->peer);
}

static uint32_t turn(struct item *item)
{
    item->got = 0;
    uv_run(&loop, UV_RUN_NOWAIT);
    cr_assert_not(poller.busy);
    return item->got;
}

Test(poller, says_what_was_asked)
{
    const struct {
        uint32_t wanted;
        bool bytes;      /* wait to be read */
        bool shut;       /* the other side sends no more */
        uint32_t events; /* that come, in each turn */
    } rows[] = {
        {EPOLLIN, false, false, 0},
        {EPOLLIN, true, false, EPOLLIN},
        {EPOLLIN, false, true, EPOLLIN},
        {EPOLLOUT, true, false, EPOLLOUT},
        {EPOLLIN | EPOLLOUT, false, false, EPOLLOUT},
        {EPOLLIN | EPOLLOUT, true, false, EPOLLIN | EPOLLOUT},
        {EPOLLRDHUP, true, false, 0},
        {EPOLLRDHUP, true, true, EPOLLRDHUP},
        {EPOLLIN | EPOLLRDHUP, true, true, EPOLLIN | EPOLLRDHUP},
        {0, true, true, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct item item;
        open_item(&item);
        if (rows[i].bytes)
            cr_assert_eq(write(item.peer, "x", 1), 1);
        if (rows[i].shut)
            cr_assert_eq(shutdown(item.peer, SHUT_WR), 0);
        want(&item, rows[i].wanted);
        for (int n = 0; n < TURNS; n++)
            cr_assert_eq(turn(&item), rows[i].events, "row %zu: %x", i, item.got);
        close_item(&item);
    }
}

Test(poller, hang_ups_are_told_unasked)
{
    struct item item;
    open_item(&item);
    want(&item, EPOLLOUT);
    cr_assert_eq(shutdown(item.peer, SHUT_RDWR), 0);
    cr_assert(turn(&item) & EPOLLHUP);
    want(&item, 0);
    cr_assert_eq(turn(&item), 0, "but not to who waits for nothing");
    close_item(&item);
}

Test(poller, changes)
{
    struct item item;
    open_item(&item);
    cr_assert_eq(write(item.peer, "x", 1), 1);
    const uint32_t steps[] = {EPOLLIN, EPOLLOUT, EPOLLOUT, 0, 0, EPOLLIN | EPOLLOUT, EPOLLIN, 0};
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        want(&item, steps[i]);
        cr_assert_eq(turn(&item), steps[i], "step %zu", i);
    }
    close_item(&item);
}

/* One that is out and closed is not heard of, though its connection is still open elsewhere. */
Test(poller, out_before_it_is_closed)
{
    struct item item;
    open_item(&item);
    int elsewhere = dup(item.fd);
    want(&item, EPOLLIN);
    int peer = item.peer;
    item.peer = dup(peer);
    close_item(&item);
    cr_assert_eq(write(peer, "x", 1), 1);
    cr_assert_eq(turn(&item), 0);
    close(elsewhere);
    close(peer);
}

/* `count` items, two for each pair of sockets, all of them always ready. */
static void open_ready(struct item *items, size_t count)
{
    for (size_t i = 0; i < count; i += 2) {
        struct item *item = &items[i];
        open_item(item);
        item[1] = (struct item){.fd = item->peer, .peer = -1};
        want(&item[0], EPOLLOUT);
        want(&item[1], EPOLLOUT);
    }
}

static void close_ready(struct item *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        want(&items[i], 0);
        close(items[i].fd);
    }
}

/* More than are asked for at a time, and always ready: all have their turns, as many as another. */
Test(poller, many)
{
    static struct item items[POLLER_BATCH + 100];
    open_ready(items, ARRAY_LEN(items));
    turn(&items[0]);
    unsigned times = 0;
    unsigned each = POLLER_ROUNDS * POLLER_BATCH / ARRAY_LEN(items);
    for (size_t i = 0; i < ARRAY_LEN(items); i++) {
        times += items[i].times;
        cr_assert(items[i].times == each || items[i].times == each + 1, "item %zu", i);
    }
    cr_assert_eq(times, POLLER_ROUNDS * POLLER_BATCH, "then it ends");
    close_ready(items, ARRAY_LEN(items));
}

/* With a limit a turn does no more than so much, and they take turns over all turns. */
Test(poller, limited)
{
    const struct {
        uint64_t limit, each;
        unsigned times; /* in a turn */
    } rows[] = {
        {1, 1, POLLER_FEW},
        {POLLER_FEW, 1, POLLER_FEW},
        {POLLER_FEW + 1, 1, 2 * POLLER_FEW},
        {256, 16, 16},
        {256, 1000, POLLER_FEW},
        {256, 0, POLLER_ROUNDS * POLLER_FEW},
    };
    for (size_t row = 0; row < ARRAY_LEN(rows); row++) {
        struct item items[42] = {0};
        poller.work = rows[row].limit;
        work_each = rows[row].each;
        open_ready(items, ARRAY_LEN(items));
        for (unsigned n = 1; n <= ARRAY_LEN(items); n++) {
            unsigned times = 0;
            turn(&items[0]);
            for (size_t i = 0; i < ARRAY_LEN(items); i++)
                times += items[i].times;
            cr_assert_eq(times, n * rows[row].times, "row %zu: %u", row, times);
        }
        for (size_t i = 0; i < ARRAY_LEN(items); i++)
            cr_assert_eq(items[i].times, rows[row].times, "row %zu, item %zu", row, i);
        close_ready(items, ARRAY_LEN(items));
    }
    poller.work = POLLER_ALL;
}

Test(poller, what_cannot_be_waited_for)
{
    struct item item = {0};
    FILE *file = tmpfile();
    cr_assert_not_null(file);
    cr_assert_eq(poller_set(&poller, fileno(file), 0, EPOLLIN, &item), -EPERM);
    cr_assert_eq(fclose(file), 0);
}
