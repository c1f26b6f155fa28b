#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frontd/ipc/metric_sums.h"
#include "frontd/ipc/shm_clients.h"
#include "frontd/ipc/shm_layout.h"
#include "frontd/ipc/shm_names.h"
#include "frontd/ipc/shm_queues.h"
#include "frontd/ipc/shm_reclaim.h"
#include "frontd/ipc/shm_workers.h"
#include "tests/unit/support/shm.h"
#include "tests/unit/support/shm_peers.h"

TestSuite(shm, .init = make_memory_of_test, .fini = unmap_memory_of_test);

Test(shm, memory)
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

Test(shm, memory_to_be_read_only)
{
    int fd;
    struct share *all;
    struct share *some;
    cr_assert_eq(share_create(64, &fd), 0);
    cr_assert_eq(share_map(fd, &table, &all), 0);
    int reads = share_open_readonly(fd);
    cr_assert_geq(reads, 0);
    cr_expect_eq(share_map(reads, &table, &some), -EACCES);
    cr_assert_eq(share_map_readonly(reads, &table, &some), 0);
    share_count(share_front(all, 3)->dropped, 5);
    cr_expect_eq(metric_totals(some).dropped, 5, "it is the same memory");
    share_unmap(all);
    close(fd);
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        signal(SIGSEGV, SIG_DFL); /* not ASan's */
        share_count(share_front(some, 3)->dropped, 1);
        _exit(0);
    }
    int status;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    share_unmap(some);
    close(reads);
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
Test(shm, memory_of_others)
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
Test(shm, memory_that_a_program_before_refuses)
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

/* The whole memory as any process that has it mapped can write it. */
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
    share_count(share_front(mapped, seat)->dropped, 1);
    share_name_claim(mapped, METRIC_KIND_method, 0, SPAN("m"));
}

/*
 * A shard writes anything anywhere. Neither the supervisor nor its siblings come to harm, and what
 * no shard holds is as new when the supervisor has taken back everything.
 */
Test(shm, written_by_somebody_hostile, .timeout = 120)
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
    size_t before = offsetof(struct memory, slots) / sizeof(uint64_t);
    size_t counts = offsetof(struct memory, names) / sizeof(uint64_t);
    size_t some = (offsetof(struct memory, metrics) + 3 * sizeof(struct metric_seat)) /
                      sizeof(uint64_t) -
                  counts;
    size_t peers = words - (size_t)SHARE_SEATS * PEERS * 2;
    share_set_pools(mapped, (const char *const[]){"a", "b"}, 2);
    int a = share_pool(mapped, "a");
    for (unsigned round = 0; round < ROUNDS; round++) {
        /* Everything but the slots and metrics, which are too many to write them all; of those
         * some. */
        for (size_t i = 0; i < before; i++)
            memory[i] = hostile_word(&random);
        for (size_t i = peers; i < words; i++)
            memory[i] = hostile_word(&random);
        for (unsigned i = 0; i < 20000; i++)
            memory[counts + next_random(&random) % some] = hostile_word(&random);
        for (unsigned i = 0; i < 1000; i++)
            memory[before + next_random(&random) % slots] = hostile_word(&random);
        if (round % 2 == 0)
            use_everything(mapped, &random);
        metric_totals(mapped);
        share_reclaim(mapped, hostile_word(&random));
        const char *const names[] = {"a", round % 2 == 0 ? "b" : "c", "d"};
        share_set_pools(mapped, names, 3);
        cr_assert_eq(share_pool(mapped, "a"), a, "a pool keeps its row");
        for (unsigned i = 0; i < 3; i++) {
            int row = share_pool(mapped, names[i]);
            cr_assert(row >= 0 && row < SHARE_POOLS);
        }
    }
    /* No shard is left: all that can be held is free. */
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
Test(shm, written_while_it_is_taken_back, .timeout = 120)
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
        metric_totals(mapped);
        share_set_pools(mapped, pool_names(i, SHARE_POOLS), SHARE_POOLS);
        share_reclaim(mapped, hostile_word(&random));
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    munmap(memory, words * sizeof(*memory));
    share_unmap(mapped);
    close(fd);
}
