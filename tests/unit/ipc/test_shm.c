#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frontd/ipc/shm.h"

enum { SEAT_MAX = SHARE_SEATS - 2 };

static struct share *share;

static struct share_table table;

static uint64_t all_but(unsigned seat)
{
    return ~((uint64_t)1 << seat);
}

static struct share *make_share(size_t peers)
{
    int fd;
    struct share *made;
    cr_assert_eq(share_create(peers, &fd), 0);
    cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    cr_assert_eq(share_map(fd, &table, &made), 0);
    close(fd);
    return made;
}

static void set_up(void)
{
    share_table_init(&table);
    share = make_share(16);
}

static void tear_down(void)
{
    share_unmap(share);
}

TestSuite(share, .init = set_up, .fini = tear_down);

static int get_worker(unsigned seat, unsigned number)
{
    return share_worker_get(share, seat, &number, sizeof(number));
}

Test(share, memory)
{
    int fd;
    struct share *first;
    struct share *second;
    cr_assert_eq(share_create(0, &fd), 0);
    cr_assert_eq(share_map(fd, &table, &first), 0);
    cr_assert_eq(share_map(fd, &table, &second), 0);
    cr_assert(share_connection_add(first, 0, 1));
    cr_assert(!share_connection_add(second, 1, 1), "it is the same memory");
    cr_assert_eq(ftruncate(fd, 4096), -1, "nobody can make it smaller");
    share_unmap(first);
    share_unmap(second);
    share_unmap(NULL);
    close(fd);

    int file = open("/dev/zero", O_RDWR | O_CLOEXEC);
    cr_assert_eq(share_map(file, &table, &first), -EINVAL);
    close(file);
    cr_assert_eq(share_map(-1, &table, &first), -EBADF);
}

/* A memfd of that size with these seals; what is in it is all ones. */
static int make_memory(off_t size, int seals)
{
    static char page[4096];
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    cr_assert_eq(ftruncate(fd, size), 0);
    memset(page, 0xff, sizeof(page));
    for (off_t at = 0; at < size && at < 64 * (off_t)sizeof(page); at += (off_t)sizeof(page)) {
        size_t n = MIN(sizeof(page), (size_t)(size - at));
        cr_assert_eq(pwrite(fd, page, n, at), (ssize_t)n);
    }
    cr_assert_eq(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static off_t size_with(size_t peers)
{
    struct stat st;
    int fd;
    cr_assert_eq(share_create(peers, &fd), 0);
    cr_assert_eq(fstat(fd, &st), 0);
    close(fd);
    return st.st_size;
}

/* What is mapped is judged by its size and its seals; what is in it says nothing. */
Test(share, memory_of_others)
{
    enum { BOTH = F_SEAL_SHRINK | F_SEAL_GROW };
    off_t none = size_with(0);
    off_t cell = (size_with(1) - none);
    const struct {
        off_t size;
        int seals;
        int result;
    } cases[] = {
        {none, BOTH, 0},
        {none, BOTH | F_SEAL_SEAL, 0},
        {none, 0, -EINVAL},
        {none, F_SEAL_SHRINK, -EINVAL},
        {none, F_SEAL_GROW, -EINVAL},
        {none - 1, BOTH, -EINVAL},
        {none + 1, BOTH, -EINVAL},
        {none + cell - 1, BOTH, -EINVAL},
        {none + cell, BOTH, 0},
        {none + cell + 1, BOTH, -EINVAL},
        {none + 3 * cell, BOTH, -EINVAL},
        {none + 4 * cell, BOTH, 0},
        {none + 5 * cell, BOTH, -EINVAL},
        {4096, BOTH, -EINVAL},
        {0, BOTH, -EINVAL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct share *mapped = NULL;
        int fd = make_memory(cases[i].size, cases[i].seals);
        cr_expect_eq(share_map(fd, &table, &mapped), cases[i].result, "case %zu", i);
        share_unmap(mapped);
        close(fd);
    }
    int ends[2];
    struct share *mapped = NULL;
    cr_assert_eq(pipe(ends), 0);
    cr_expect_eq(share_map(ends[0], &table, &mapped), -EINVAL);
    close(ends[0]);
    close(ends[1]);
}

/* A program from before looks at the first word, and at the second for the size. */
Test(share, memory_that_a_program_before_refuses)
{
    uint64_t head[2];
    struct stat st;
    int fd;
    cr_assert_eq(share_create(16, &fd), 0);
    cr_assert_eq(fstat(fd, &st), 0);
    cr_assert_eq(pread(fd, head, sizeof(head), 0), (ssize_t)sizeof(head));
    cr_assert_gt(head[0], 3u);
    cr_assert_eq(head[1], (uint64_t)st.st_size);
    close(fd);
}

/* Makes names "FIRST", "FIRST + 1" and so on; at most SHARE_POOLS at a time. */
static const char *const *pool_names(unsigned first, size_t n)
{
    static char texts[SHARE_POOLS][16];
    static const char *names[SHARE_POOLS];
    for (size_t i = 0; i < n; i++) {
        snprintf(texts[i], sizeof(texts[i]), "%u", first + (unsigned)i);
        names[i] = texts[i];
    }
    return names;
}

Test(share, pools_keep_their_rows)
{
    cr_assert_eq(share_pool(share, "a"), -ENOENT);
    share_set_pools(share, (const char *const[]){"a", "b", "c"}, 3);
    int a = share_pool(share, "a");
    int b = share_pool(share, "b");
    int c = share_pool(share, "c");
    cr_assert(a >= 0 && b >= 0 && c >= 0 && a != b && b != c && a != c);
    cr_assert_eq(share_pool(share, "ab"), -ENOENT);
    cr_assert_eq(share_pool(share, ""), -ENOENT);
    cr_assert(share_queue_add(share, 3, (unsigned)c, 1));
    share_set_pools(share, (const char *const[]){"d", "c", "a", "e"}, 4);
    cr_assert_eq(share_pool(share, "a"), a);
    cr_assert_eq(share_pool(share, "c"), c);
    cr_assert_eq(share_pool(share, "b"), -ENOENT);
    cr_assert(!share_queue_add(share, 3, (unsigned)c, 1), "with all that waits there");
    int d = share_pool(share, "d");
    int e = share_pool(share, "e");
    cr_assert(d >= 0 && e >= 0 && d != e && d != a && d != c && e != a && e != c);
    cr_assert(d == b || e == b, "a row that was given up is used again");
    share_set_pools(share, NULL, 0);
    cr_assert_eq(share_pool(share, "a"), -ENOENT);
    /* One that is named twice has one row. */
    share_set_pools(share, (const char *const[]){"x", "x", "y", "x"}, 4);
    cr_assert(share_pool(share, "x") >= 0 && share_pool(share, "x") != share_pool(share, "y"));
    share_queue_remove(share, 3, (unsigned)c);
}

Test(share, pools_that_seats_reach)
{
    share_set_pools(share, (const char *const[]){"a", "b"}, 2);
    unsigned a = (unsigned)share_pool(share, "a");
    unsigned b = (unsigned)share_pool(share, "b");
    share_pool_set_reached(share, 0, a, true);
    share_pool_set_reached(share, SHARE_SEAT_LAST, a, true);
    share_pool_set_reached(share, 5, a, true);
    share_pool_set_reached(share, 5, b, true);
    share_pool_set_reached(share, 5, a, false);
    cr_assert_eq(share_pool_reached(share, a), share_seat_bit(0) | share_seat_bit(SHARE_SEAT_LAST));
    cr_assert_eq(share_pool_reached(share, b), share_seat_bit(5));
    share_reclaim(share, share_seat_bit(0));
    cr_assert_eq(share_pool_reached(share, a), share_seat_bit(0), "not those that have ended");
    cr_assert_eq(share_pool_reached(share, b), 0u);
    share_set_pools(share, (const char *const[]){"b", "c"}, 2);
    cr_assert_eq(share_pool(share, "c"), (int)a);
    cr_assert_eq(share_pool_reached(share, a), 0u, "a row that is used again is empty");
}

Test(share, all_the_pools_there_can_be)
{
    enum { HALF = SHARE_POOLS / 2 };
    bool seen[SHARE_POOLS] = {false};
    int rows[SHARE_POOLS];
    share_set_pools(share, pool_names(0, SHARE_POOLS), SHARE_POOLS);
    for (size_t i = 0; i < SHARE_POOLS; i++) {
        rows[i] = share_pool(share, pool_names(0, SHARE_POOLS)[i]);
        cr_assert(rows[i] >= 0 && rows[i] < SHARE_POOLS && !seen[rows[i]]);
        seen[rows[i]] = true;
    }
    /* Generation after generation, half of the pools being new each time. */
    for (unsigned first = 0; first < 20 * HALF; first += HALF) {
        share_set_pools(share, pool_names(first, SHARE_POOLS), SHARE_POOLS);
        for (size_t i = 0; i < SHARE_POOLS; i++) {
            int row = share_pool(share, pool_names(first, SHARE_POOLS)[i]);
            cr_assert_eq(row, rows[(first + i) % SHARE_POOLS], "pool %zu", first + i);
        }
        /* Those of the second half take the rows that those before the first have given up. */
        const char *const *next = pool_names(first + HALF, SHARE_POOLS);
        share_set_pools(share, next, SHARE_POOLS);
        for (size_t i = HALF; i < SHARE_POOLS; i++) {
            int row = share_pool(share, next[i]);
            cr_assert_geq(row, 0);
            rows[(first + HALF + i) % SHARE_POOLS] = row;
        }
    }
}

Test(share, slots_up_to_the_limit)
{
    static const uint32_t limits[] = {1, 2, 64, 1000, SHARE_SLOTS};
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        const uint32_t limit = limits[i];
        int *slots = calloc(limit, sizeof(*slots));
        bool *seen = calloc(limit, sizeof(*seen));
        cr_assert(slots != NULL && seen != NULL);
        int workers[2] = {get_worker(1, 7), get_worker(2, 7)};
        cr_assert_eq(workers[0], workers[1], "both know it by the same number");
        for (uint32_t s = 0; s < limit; s++) {
            cr_assert(share_slot_take(share, 1 + s % 2, workers[0], limit, &slots[s]));
            cr_assert(slots[s] >= 0 && (uint32_t)slots[s] < limit && !seen[slots[s]]);
            seen[slots[s]] = true;
        }
        int none = 77;
        cr_assert(!share_slot_take(share, 1, workers[0], limit, &none));
        cr_assert(!share_slot_take(share, 2, workers[0], limit, &none));
        cr_assert_eq(none, 77);
        cr_assert_eq(share_worker_load(share, workers[0]), limit);
        for (uint32_t s = limit; s-- > 0;) {
            share_slot_give(share, 1 + s % 2, workers[0], slots[s]);
            cr_assert_eq(share_worker_load(share, workers[0]), s);
            if (s % 1000 == 0) { /* what was given back can be had again */
                cr_assert(share_slot_take(share, 1, workers[0], limit, &none));
                share_slot_give(share, 1, workers[0], none);
            }
        }
        share_worker_put(share, 1, workers[0]);
        share_worker_put(share, 2, workers[1]);
        free(slots);
        free(seen);
    }
}

Test(share, slots_beyond_the_most_there_are)
{
    int worker = get_worker(0, 1);
    int slot;
    for (unsigned i = 0; i < SHARE_SLOTS; i++)
        cr_assert(share_slot_take(share, 0, worker, UINT32_MAX, &slot));
    cr_assert(!share_slot_take(share, 0, worker, UINT32_MAX, &slot));
    cr_assert_eq(share_worker_load(share, worker), (uint32_t)SHARE_SLOTS);
    for (int i = 0; i < SHARE_SLOTS; i++)
        share_slot_give(share, 0, worker, i);
    share_worker_put(share, 0, worker);
}

Test(share, a_worker_without_a_limit)
{
    int worker = get_worker(3, 1);
    int slot = 0;
    for (uint32_t i = 1; i <= 100000; i++) {
        cr_assert(share_slot_take(share, 3, worker, 0, &slot));
        cr_assert_eq(slot, SHARE_SLOT_NONE);
    }
    cr_assert_eq(share_worker_load(share, worker), 100000u);
    for (uint32_t i = 1; i <= 100000; i++)
        share_slot_give(share, 3, worker, slot);
    cr_assert_eq(share_worker_load(share, worker), 0u);
    share_worker_put(share, 3, worker);
}

/* A worker that comes back with another concurrency: what is taken beyond it still counts. */
Test(share, a_limit_that_shrinks)
{
    int worker = get_worker(0, 1);
    int slots[8];
    int slot;
    for (unsigned i = 0; i < 8; i++)
        cr_assert(share_slot_take(share, 0, worker, 8, &slots[i]));
    for (unsigned i = 0; i < 6; i++) {
        cr_assert(!share_slot_take(share, 0, worker, 2, &slot));
        share_slot_give(share, 0, worker, slots[i]);
    }
    cr_assert(!share_slot_take(share, 0, worker, 2, &slot));
    share_slot_give(share, 0, worker, slots[6]);
    cr_assert(share_slot_take(share, 0, worker, 2, &slot));
    cr_assert_lt(slot, 2);
    share_slot_give(share, 0, worker, slot);
    share_slot_give(share, 0, worker, slots[7]);
    share_worker_put(share, 0, worker);
}

Test(share, calls_that_are_abandoned)
{
    int worker = get_worker(0, 1);
    int slots[3];
    for (unsigned i = 0; i < 3; i++)
        cr_assert(share_slot_take(share, 0, worker, 4, &slots[i]));
    cr_assert_eq(get_worker(SEAT_MAX, 1), worker);
    cr_assert_eq(share_worker_awaited(share, worker), 3u);
    share_worker_add_abandoned(share, 0, worker, 1);
    share_worker_add_abandoned(share, 0, worker, 1);
    cr_assert_eq(share_worker_awaited(share, worker), 1u);
    cr_assert_eq(share_worker_load(share, worker), 3u, "they still hold their slots");
    int slot;
    cr_assert(share_slot_take(share, SEAT_MAX, worker, 4, &slot));
    cr_assert_eq(share_worker_awaited(share, worker), 2u);
    share_worker_add_abandoned(share, 0, worker, -1);
    share_slot_give(share, 0, worker, slots[0]);
    cr_assert_eq(share_worker_awaited(share, worker), 2u);
    share_reclaim(share, all_but(0));
    cr_assert_eq(share_worker_awaited(share, worker), 1u);
    share_slot_give(share, SEAT_MAX, worker, slot);
    share_worker_put(share, SEAT_MAX, worker);
}

Test(share, workers_are_told_apart)
{
    int a = share_worker_get(share, 0, "a", 1);
    int b = share_worker_get(share, 0, "b", 1);
    int ab = share_worker_get(share, 0, "ab", 2);
    cr_assert(a >= 0 && b >= 0 && ab >= 0 && a != b && b != ab && a != ab);
    cr_assert_eq(share_worker_get(share, 0, "a", 1), a);
    share_worker_put(share, 0, a);
    cr_assert_eq(share_worker_get(share, 1, "a", 1), a, "it was got twice, so it is still there");
    share_worker_put(share, 0, a);
    share_worker_put(share, 1, a);
    share_worker_put(share, 0, b);
    share_worker_put(share, 0, ab);
}

Test(share, all_the_workers_there_can_be)
{
    for (unsigned round = 0; round < 3; round++) {
        bool seen[SHARE_WORKERS] = {false};
        int rows[SHARE_WORKERS];
        for (unsigned i = 0; i < SHARE_WORKERS; i++) {
            rows[i] = get_worker(i % 2, round * 100000 + i);
            cr_assert(rows[i] >= 0 && !seen[rows[i]]);
            seen[rows[i]] = true;
        }
        cr_assert_eq(get_worker(0, 99999), -ENOSPC);
        cr_assert_eq(get_worker(2, round * 100000 + 5), rows[5], "one that is there is found");
        share_worker_put(share, 2, rows[5]);
        share_worker_put(share, 1, rows[5]);
        rows[5] = get_worker(1, 99999);
        cr_assert_geq(rows[5], 0, "a row that was given back can be had");
        for (unsigned i = 0; i < SHARE_WORKERS; i++)
            share_worker_put(share, i % 2, rows[i]);
    }
}

/* Whoever comes later finds a worker where the others have it, though rows before it are free. */
Test(share, a_worker_has_one_row)
{
    enum { ALL = 900 };
    int rows[ALL];
    for (unsigned i = 0; i < ALL; i++)
        rows[i] = get_worker(0, i);
    for (unsigned i = 0; i < ALL; i += 2)
        share_worker_put(share, 0, rows[i]);
    for (unsigned i = 1; i < ALL; i += 2) {
        cr_assert_eq(get_worker(1, i), rows[i]);
        share_worker_put(share, 1, rows[i]);
        share_worker_put(share, 0, rows[i]);
    }
}

/* Workers come and go for ever, a few at a time; each finds its row clean. */
Test(share, many_different_workers_over_time)
{
    enum { TOGETHER = 50, ALL = 100000 };
    int rows[TOGETHER];
    for (unsigned i = 0; i < ALL; i++) {
        unsigned at = i % TOGETHER;
        int slot;
        if (i >= TOGETHER)
            share_worker_put(share, 0, rows[at]);
        rows[at] = get_worker(0, i);
        cr_assert_geq(rows[at], 0);
        cr_assert_eq(share_worker_load(share, rows[at]), 0u);
        cr_assert(share_slot_take(share, 0, rows[at], 1, &slot));
        share_slot_give(share, 0, rows[at], slot);
    }
    for (unsigned i = 0; i < TOGETHER; i++)
        share_worker_put(share, 0, rows[i]);
}

Test(share, queues)
{
    for (uint32_t limit = 0; limit < 4; limit++) {
        for (uint32_t i = 0; i < limit; i++)
            cr_assert(share_queue_add(share, i, 5, limit));
        cr_assert(!share_queue_add(share, 0, 5, limit));
        cr_assert(!share_queue_add(share, SEAT_MAX, 5, limit));
        cr_assert(share_queue_add(share, 0, 6, 1), "another pool's queue is another's");
        share_queue_remove(share, 0, 6);
        for (uint32_t i = 0; i < limit; i++)
            share_queue_remove(share, i, 5);
    }
    cr_assert(share_queue_add(share, 1, SHARE_POOLS - 1, 1));
    cr_assert(!share_queue_add(share, 0, SHARE_POOLS - 1, 1));
    share_reclaim(share, all_but(1));
    cr_assert(share_queue_add(share, 0, SHARE_POOLS - 1, 1));
}

Test(share, the_oldest_of_the_others)
{
    unsigned seat = 77;
    uint64_t since = 77;
    cr_assert(share_queue_add(share, 9, 0, 1)); /* so that seats up to 9 are looked at */
    cr_assert(!share_queue_oldest_but(share, share_seat_bit(0), 0, &seat, &since));
    cr_assert(seat == 77 && since == 77, "outputs are untouched where none waits");
    share_queue_set_oldest(share, 0, 0, 100);
    cr_assert(!share_queue_oldest_but(share, share_seat_bit(0), 0, &seat, &since), "not one's own");
    share_queue_set_oldest(share, 4, 0, 300);
    share_queue_set_oldest(share, 9, 0, 200);
    share_queue_set_oldest(share, 5, 1, 1);
    cr_assert(share_queue_oldest_but(share, share_seat_bit(0), 0, &seat, &since));
    cr_assert(seat == 9 && since == 200);
    cr_assert(share_queue_oldest_but(share, share_seat_bit(9), 0, &seat, &since));
    cr_assert(seat == 0 && since == 100);
    share_queue_set_oldest(share, 9, 0, 0);
    cr_assert(share_queue_oldest_but(share, share_seat_bit(0), 0, &seat, &since));
    cr_assert(seat == 4 && since == 300);
    share_reclaim(share, all_but(4));
    cr_assert(!share_queue_oldest_but(share, share_seat_bit(0), 0, &seat, &since));
}

Test(share, each_seat_beats_by_itself)
{
    uint64_t before[SEAT_MAX + 1];
    for (unsigned seat = 0; seat <= SEAT_MAX; seat++)
        before[seat] = share_beats(share, seat);
    for (unsigned seat = 0; seat <= SEAT_MAX; seat += 2) {
        share_beat(share, seat);
        share_reclaim(share, all_but(seat + 1 <= SEAT_MAX ? seat + 1 : 1));
    }
    for (unsigned seat = 0; seat <= SEAT_MAX; seat++)
        cr_expect_eq(share_beats(share, seat) != before[seat], seat % 2 == 0, "seat %u", seat);
}

Test(share, connections)
{
    for (uint64_t limit = 0; limit < 5; limit++) {
        for (unsigned i = 0; i < limit; i++)
            cr_assert(share_connection_add(share, i, limit));
        cr_assert(!share_connection_add(share, 0, limit));
        for (unsigned i = 0; i < limit; i++)
            share_connection_remove(share, i);
    }
    for (unsigned i = 0; i < 1000; i++)
        cr_assert(share_connection_add(share, SEAT_MAX, 1000));
    cr_assert(!share_connection_add(share, 0, 1000));
    share_reclaim(share, all_but(SEAT_MAX));
    cr_assert(share_connection_add(share, 0, 1));
}

union peer {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_un un;
};

static union peer make_peer(unsigned number)
{
    union peer peer = {.in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)number)}};
    peer.in.sin_addr.s_addr = htonl(0x0a000000 + number);
    if (number % 3 == 0) {
        peer = (union peer){.in6 = {.sin6_family = AF_INET6, .sin6_flowinfo = number}};
        memcpy(&peer.in6.sin6_addr, &number, sizeof(number));
    }
    return peer;
}

Test(share, peers)
{
    for (unsigned number = 3; number < 5; number++) {
        union peer peer = make_peer(number);
        union peer other = make_peer(number + 2);
        cr_assert(!share_peer_add(share, 0, &peer.any, 0));
        cr_assert(share_peer_add(share, 0, &peer.any, 2));
        peer.in.sin_port ^= 1; /* the port makes no difference, in6 has it at the same place */
        cr_assert(share_peer_add(share, 1, &peer.any, 2));
        cr_assert(!share_peer_add(share, 0, &peer.any, 2));
        cr_assert(!share_peer_add(share, SEAT_MAX, &peer.any, 2));
        cr_assert(share_peer_add(share, 0, &other.any, 1));
        share_peer_remove(share, 0, &other.any);
        share_peer_remove(share, 0, &peer.any);
        cr_assert(share_peer_add(share, 0, &peer.any, 2));
        share_reclaim(share, all_but(1));
        cr_assert(share_peer_add(share, 0, &peer.any, 2));
        share_peer_remove(share, 0, &peer.any);
        share_peer_remove(share, 0, &peer.any);
    }
    union peer local = {.un = {.sun_family = AF_UNIX}};
    for (unsigned i = 0; i < 100; i++)
        cr_assert(share_peer_add(share, 0, &local.any, 1), "UNIX sockets are not counted");
    share_peer_remove(share, 0, &local.any);

    struct share *without = make_share(0);
    union peer peer = make_peer(1);
    for (unsigned i = 0; i < 100; i++)
        cr_assert(share_peer_add(without, 0, &peer.any, 1));
    share_peer_remove(without, 0, &peer.any);
    share_unmap(without);
}

static union peer ipv6(const char *text)
{
    union peer peer = {.in6 = {.sin6_family = AF_INET6}};
    cr_assert_eq(inet_pton(AF_INET6, text, &peer.in6.sin6_addr), 1);
    return peer;
}

/* Whether two addresses are one peer for connections_per_peer. */
static bool are_one(const union peer *one, const union peer *other)
{
    cr_assert(share_peer_add(share, 0, &one->any, 1));
    bool refused = !share_peer_add(share, 1, &other->any, 1);
    if (!refused)
        share_peer_remove(share, 1, &other->any);
    share_peer_remove(share, 0, &one->any);
    return refused;
}

Test(share, peers_by_their_network)
{
    /* Two addresses, and in how many bits from the left on they are the same. */
    static const struct {
        const char *one;
        const char *other;
        unsigned same;
    } rows[] = {
        {"8000::", "::", 0},
        {"8000::", "c000::", 1},
        {"2001:db8::1", "2001:db8:0:2::1", 62},
        {"2001:db8::1", "2001:db8:0:1::1", 63},
        {"2001:db8::1", "2001:db8::8000:0:0:1", 64},
        {"2001:db8::1", "2001:db8::4000:0:0:1", 65},
        {"2001:db8::1", "2001:db8::3", 126},
        {"2001:db8::1", "2001:db8::", 127},
        {"2001:db8::1", "2001:db8::1", 128},
    };
    static const unsigned prefixes[] = {1, 2, 7, 8, 9, 62, 63, 64, 65, 66, 126, 127, 128};
    for (size_t p = 0; p < ARRAY_LEN(prefixes); p++) {
        share_set_peer_prefix(share, prefixes[p]);
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
            union peer one = ipv6(rows[i].one), other = ipv6(rows[i].other);
            bool wanted = rows[i].same >= prefixes[p];
            cr_assert_eq(are_one(&one, &other), wanted, "/%u, row %zu", prefixes[p], i);
            cr_assert_eq(are_one(&other, &one), wanted);
        }
    }
}

Test(share, peers_of_ipv4)
{
    static const unsigned prefixes[] = {1, 64, 96, 127, 128};
    union peer four = {.in = {.sin_family = AF_INET}};
    cr_assert_eq(inet_pton(AF_INET, "192.0.2.7", &four.in.sin_addr), 1);
    for (size_t p = 0; p < ARRAY_LEN(prefixes); p++) {
        share_set_peer_prefix(share, prefixes[p]);
        union peer mapped = ipv6("::ffff:192.0.2.7"), next = ipv6("::ffff:192.0.2.6");
        union peer compatible = ipv6("::192.0.2.7");
        cr_assert(are_one(&four, &mapped) && are_one(&mapped, &four));
        cr_assert(!are_one(&four, &next) && !are_one(&mapped, &next));
        cr_assert(!are_one(&four, &compatible) && !are_one(&mapped, &compatible));
    }
}

/* While a reload changes it: a process takes back what it has counted, and no other's. */
Test(share, peers_of_two_prefixes)
{
    union peer network = ipv6("2001:db8::"), host = ipv6("2001:db8::1");
    share_set_peer_prefix(share, 128);
    cr_assert(share_peer_add(share, 0, &network.any, 1));
    share_set_peer_prefix(share, 64);
    cr_assert(share_peer_add(share, 1, &network.any, 1), "the same bits, and another peer");
    cr_assert(!share_peer_add(share, 2, &host.any, 1));
    share_peer_remove(share, 1, &host.any);
    share_set_peer_prefix(share, 128);
    cr_assert(!share_peer_add(share, 2, &network.any, 1), "it is counted still");
    share_peer_remove(share, 0, &network.any);
    cr_assert(share_peer_add(share, 2, &network.any, 1));
    share_reclaim(share, 2);
}

static uint32_t next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* Random connects and disconnects on two seats against plain counts; the table is as full as it
 * may become: half. */
Test(share, peers_as_a_model_has_them)
{
    enum { CELLS = 16, PEERS = 40, STEPS = 200000, LIMIT = 4 };
    unsigned counts[2][PEERS] = {{0}};
    unsigned open[2] = {0};
    uint32_t random = 12345;
    for (unsigned step = 0; step < STEPS; step++) {
        unsigned seat = next_random(&random) % 2;
        unsigned number = next_random(&random) % PEERS;
        union peer peer = make_peer(number);
        /* now mostly coming, now mostly going */
        if (next_random(&random) % 8 < (step / 100 % 2 == 0 ? 6 : 2)) {
            if (open[seat] == CELLS / 2)
                continue;
            bool wanted = counts[0][number] + counts[1][number] < LIMIT;
            cr_assert_eq(share_peer_add(share, seat, &peer.any, LIMIT), wanted, "step %u", step);
            counts[seat][number] += wanted;
            open[seat] += wanted;
        } else if (counts[seat][number] > 0) {
            share_peer_remove(share, seat, &peer.any);
            counts[seat][number]--;
            open[seat]--;
        }
    }
}

Test(share, the_oldest_of_the_others_of_a_worker)
{
    unsigned seat = 77;
    uint64_t since = 77;
    int one = get_worker(9, 1);
    int two = get_worker(9, 2);
    cr_assert(!share_worker_oldest_but(share, share_seat_bit(0), one, &seat, &since));
    share_worker_set_oldest(share, 9, one, 200);
    cr_assert(
        !share_worker_oldest_but(share, share_seat_bit(9), one, &seat, &since), "not one's own");
    cr_assert(
        !share_worker_oldest_but(share, share_seat_bit(0), two, &seat, &since), "another worker's");
    cr_assert(seat == 77 && since == 77);
    cr_assert_eq(get_worker(4, 1), one);
    share_worker_set_oldest(share, 4, one, 100);
    cr_assert(share_worker_oldest_but(share, share_seat_bit(0), one, &seat, &since));
    cr_assert(seat == 4 && since == 100);
    share_reclaim(share, all_but(4));
    cr_assert(share_worker_oldest_but(share, share_seat_bit(0), one, &seat, &since));
    cr_assert(seat == 9 && since == 200);
    share_worker_put(share, 9, one);
    cr_assert_eq(get_worker(4, 3), get_worker(4, 3));
    cr_assert(
        !share_worker_oldest_but(share, share_seat_bit(0), one, &seat, &since), "the row is clean");
    share_worker_put(share, 9, two);
}

Test(share, a_worker_that_hangs_is_known_to_all_until_its_row_is_free)
{
    int row = get_worker(0, 1);
    cr_assert_eq(get_worker(1, 1), row);
    cr_assert_eq(share_worker_hung(share, row), 0u);
    share_worker_set_hung(share, row, 7);
    share_worker_put(share, 0, row);
    cr_assert_eq(share_worker_hung(share, row), 7u);
    share_worker_put(share, 1, row);
    cr_assert_eq(share_worker_hung(share, row), 0u);
}

Test(share, the_largest_of_all)
{
    unsigned seat = 77;
    cr_assert(share_queue_add(share, 9, 0, 1)); /* so that seats up to 9 are looked at */
    cr_assert_eq(share_queue_largest(share, 0, &seat), 0u);
    cr_assert_eq(seat, 77u);
    share_queue_set_largest(share, 3, 0, 5, 5);
    share_queue_set_largest(share, 9, 0, 6, 2);
    share_queue_set_largest(share, 5, 1, 7, 9);
    cr_assert_eq(share_queue_largest(share, 0, &seat), 6u);
    cr_assert_eq(seat, 9u);
    cr_assert_eq(share_queue_waiting(share, 0), 1u);
    cr_assert_eq(share_queue_settle(share, 9, 0), 0u);
    share_queue_owe(share, 9, 0);
    cr_assert_eq(share_queue_largest(share, 0, &seat), 6u);
    share_queue_owe(share, 9, 0);
    cr_assert_eq(share_queue_largest(share, 0, &seat), 5u, "it owes all that it could give up");
    cr_assert_eq(seat, 3u);
    cr_assert_eq(share_queue_settle(share, 9, 0), 2u);
    cr_assert_eq(share_queue_settle(share, 9, 0), 0u);
    cr_assert_eq(share_queue_largest(share, 0, &seat), 6u);
    share_queue_owe(share, 9, 0);
    share_reclaim(share, all_but(9));
    cr_assert_eq(share_queue_settle(share, 9, 0), 0u);
    cr_assert_eq(share_queue_waiting(share, 0), 0u);
    cr_assert_eq(share_queue_largest(share, 0, &seat), 5u);
    cr_assert_eq(seat, 3u);
}

/* The whole memory as anybody who has it mapped can write it. */
static uint64_t *map_all(int fd, size_t *ret_words)
{
    struct stat st;
    cr_assert_eq(fstat(fd, &st), 0);
    void *memory = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    cr_assert_neq(memory, MAP_FAILED);
    *ret_words = (size_t)st.st_size / sizeof(uint64_t);
    return memory;
}

/* Words of all kinds: bits, bounds, small numbers, seats. */
static uint64_t hostile_word(uint32_t *random)
{
    uint64_t word = (uint64_t)next_random(random) << 32 | next_random(random);
    switch (next_random(random) % 4) {
    case 0: return word;
    case 1: return UINT64_MAX;
    case 2: return word % 64;
    default: return (uint64_t)1 << (word % 64);
    }
}

/* All that a shard does, as it comes. Returns normally, whatever is there. */
static void use_everything(struct share *mapped, uint32_t *random)
{
    unsigned seat = next_random(random) % 3;
    int slot;
    int worker = share_worker_get(mapped, seat, "w", 1);
    if (worker >= 0) {
        cr_assert_lt(worker, SHARE_WORKERS);
        share_worker_load(mapped, worker);
        share_worker_awaited(mapped, worker);
        share_worker_add_abandoned(mapped, seat, worker, 1);
        if (share_slot_take(mapped, seat, worker, 100, &slot)) {
            cr_assert(slot >= 0 && slot < 100);
            share_slot_give(mapped, seat, worker, slot);
        }
        share_worker_put(mapped, seat, worker);
    }
    unsigned other = 77;
    uint64_t since;
    if (share_queue_oldest_but(mapped, share_seat_bit(seat), 5, &other, &since))
        cr_assert_lt(other, SHARE_SEATS);
    if (share_queue_add(mapped, seat, 5, 1000))
        share_queue_remove(mapped, seat, 5);
    share_queue_remove(mapped, seat, 5);
    if (share_connection_add(mapped, seat, 1000))
        share_connection_remove(mapped, seat);
    share_connection_remove(mapped, seat);
    for (unsigned i = 0; i < 40; i++) {
        union peer peer = make_peer(i);
        share_peer_add(mapped, seat, &peer.any, 1000);
        share_peer_remove(mapped, seat, &peer.any);
    }
    share_count(&share_counters(mapped, seat)->requests, 1);
}

/*
 * A shard writes anything anywhere. Neither the supervisor nor its siblings come to harm, and what
 * is nobody's is as new when the supervisor has taken back everything.
 */
Test(share, written_by_somebody_hostile, .timeout = 120)
{
    enum { ROUNDS = 24, PEERS = 16 };
    uint32_t random = 4711;
    size_t words;
    int fd;
    struct share *mapped;
    cr_assert_eq(share_create(PEERS, &fd), 0);
    cr_assert_eq(share_map(fd, &table, &mapped), 0);
    uint64_t *memory = map_all(fd, &words);
    size_t slots = SHARE_WORKERS * (size_t)SHARE_SLOTS / sizeof(uint64_t);
    size_t before = words - slots - (size_t)SHARE_SEATS * PEERS * 2;
    share_set_pools(mapped, (const char *const[]){"a", "b"}, 2);
    int a = share_pool(mapped, "a");
    for (unsigned round = 0; round < ROUNDS; round++) {
        /* Everything but the slots, which are too many to write them all; of those some. */
        for (size_t i = 0; i < before; i++)
            memory[i] = hostile_word(&random);
        for (size_t i = before + slots; i < words; i++)
            memory[i] = hostile_word(&random);
        for (unsigned i = 0; i < 1000; i++)
            memory[before + next_random(&random) % slots] = hostile_word(&random);
        if (round % 2 == 0)
            use_everything(mapped, &random);
        share_sums(mapped);
        share_reclaim(mapped, hostile_word(&random));
        const char *const names[] = {"a", round % 2 == 0 ? "b" : "c", "d"};
        share_set_pools(mapped, names, 3);
        cr_assert_eq(share_pool(mapped, "a"), a, "a pool keeps its row");
        for (unsigned i = 0; i < 3; i++) {
            int row = share_pool(mapped, names[i]);
            cr_assert(row >= 0 && row < SHARE_POOLS);
        }
    }
    /* Nobody is left: all that can be held is free. */
    share_reclaim(mapped, 0);
    for (unsigned i = 0; i < 1000; i++)
        cr_assert(share_connection_add(mapped, 1, 1000));
    cr_assert(!share_connection_add(mapped, 0, 1000));
    for (unsigned pool = 0; pool < SHARE_POOLS; pool++)
        cr_assert(share_queue_add(mapped, 0, pool, 1));
    union peer peer = make_peer(1);
    cr_assert(share_peer_add(mapped, 2, &peer.any, 1));
    cr_assert(!share_peer_add(mapped, 3, &peer.any, 1));
    for (unsigned i = 2; i < 10; i++) {
        peer = make_peer(i);
        cr_assert(share_peer_add(mapped, 2, &peer.any, 1));
    }
    for (unsigned i = 0; i < SHARE_WORKERS; i++) {
        int slot;
        int worker = share_worker_get(mapped, 0, &i, sizeof(i));
        cr_assert_geq(worker, 0);
        cr_assert_eq(share_worker_load(mapped, worker), 0u);
        cr_assert(share_slot_take(mapped, 0, worker, 1, &slot));
        share_slot_give(mapped, 0, worker, slot);
    }
    munmap(memory, words * sizeof(*memory));
    share_unmap(mapped);
    close(fd);
}

/* While it writes, not before: the supervisor is done in bounded time. */
Test(share, written_while_it_is_taken_back, .timeout = 120)
{
    uint32_t random = 815;
    size_t words;
    int fd;
    struct share *mapped;
    cr_assert_eq(share_create(16, &fd), 0);
    cr_assert_eq(share_map(fd, &table, &mapped), 0);
    uint64_t *memory = map_all(fd, &words);
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        alarm(100);
        for (;;) /* the head, the counters, the queues, the rows of workers */
            ((volatile uint64_t *)memory)[next_random(&random) % 150000] = hostile_word(&random);
    }
    for (unsigned i = 0; i < 30; i++) {
        share_sums(mapped);
        share_set_pools(mapped, pool_names(i, SHARE_POOLS), SHARE_POOLS);
        share_reclaim(mapped, hostile_word(&random));
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    munmap(memory, words * sizeof(*memory));
    share_unmap(mapped);
    close(fd);
}
