#include <criterion/criterion.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "frontd/ipc/shm.h"
#include "frontd/ipc/shm_clients.h"
#include "frontd/ipc/shm_queues.h"
#include "frontd/ipc/shm_reclaim.h"
#include "frontd/ipc/shm_workers.h"

/*
 * A process may die between any two instructions, and the supervisor takes back exactly what it
 * held. One test goes through a life instruction by instruction and looks at what a death there
 * leaves; another kills many processes at random moments.
 */

enum {
    SEAT_DEAD = 1,  /* of the process that dies */
    SEAT_OTHER = 2, /* of one that lives beside it */
    SEAT_CHECK = 3,
    CONCURRENCY = 4,
    WORKERS = 3, /* with slots that are used */
    PEERS = 8,   /* cells of a seat; half of them may be in use */
};

static struct sockaddr_in peer_address(unsigned number)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x0a000000 + number)};
}

static bool add_peer(struct share *share, unsigned seat, unsigned number, uint64_t limit)
{
    struct sockaddr_in peer = peer_address(number);
    return share_peer_add(share, seat, (struct sockaddr *)&peer, limit);
}

static void remove_peer(struct share *share, unsigned seat, unsigned number)
{
    struct sockaddr_in peer = peer_address(number);
    share_peer_remove(share, seat, (struct sockaddr *)&peer);
}

/* Nothing is held: everything can be had up to its limit, by another seat. */
static void check_clean(struct share *share)
{
    static int rows[SHARE_WORKERS];
    for (unsigned i = 0; i < SHARE_WORKERS; i++) {
        unsigned id = 1000 + i; /* a row that was left behind is not found again by its worker */
        rows[i] = share_worker_get(share, SEAT_CHECK, &id, sizeof(id));
        cr_assert_geq(rows[i], 0, "row %u", i);
        cr_assert_eq(share_worker_load(share, rows[i]), 0u);
        cr_assert_eq(share_worker_awaited(share, rows[i]), 0u);
    }
    for (unsigned i = 0; i < SHARE_WORKERS; i++)
        share_worker_put(share, SEAT_CHECK, rows[i]);
    for (unsigned id = 0; id < WORKERS; id++) {
        int slots[CONCURRENCY];
        int row = share_worker_get(share, SEAT_CHECK, &id, sizeof(id));
        for (unsigned s = 0; s < CONCURRENCY; s++)
            cr_assert(share_slot_take(share, SEAT_CHECK, row, CONCURRENCY, &slots[s]));
        for (unsigned s = 0; s < CONCURRENCY; s++)
            share_slot_give(share, SEAT_CHECK, row, slots[s]);
        share_worker_put(share, SEAT_CHECK, row);
    }
    unsigned seat;
    uint64_t since;
    for (unsigned pool = 0; pool < 2; pool++) {
        cr_assert(!share_queue_oldest_but(share, share_seat_bit(SEAT_CHECK), pool, &seat, &since));
        cr_assert(share_queue_add(share, SEAT_CHECK, pool, 1));
        share_queue_remove(share, SEAT_CHECK, pool);
    }
    cr_assert(share_connection_add(share, SEAT_CHECK, 1));
    share_connection_remove(share, SEAT_CHECK);
    /* Any address, so that each cell is looked at; by the dead one's successor, too. */
    for (unsigned number = 0; number < 64; number++) {
        for (unsigned by = SEAT_DEAD; by <= SEAT_CHECK; by += SEAT_CHECK - SEAT_DEAD) {
            cr_assert(add_peer(share, by, number, 1), "peer %u", number);
            cr_assert(!add_peer(share, by, number, 1), "peer %u", number);
            remove_peer(share, by, number);
        }
    }
}

/* A process's life, from its first worker to its last connection. */
static void live(struct share *share)
{
    int slots[2];
    unsigned id = 0;
    int row = share_worker_get(share, SEAT_DEAD, &id, sizeof(id));
    CHECK(share_slot_take(share, SEAT_DEAD, row, CONCURRENCY, &slots[0]));
    CHECK(share_slot_take(share, SEAT_DEAD, row, CONCURRENCY, &slots[1]));
    share_worker_add_abandoned(share, SEAT_DEAD, row, 1);
    share_worker_add_abandoned(share, SEAT_DEAD, row, -1);
    share_slot_give(share, SEAT_DEAD, row, slots[0]);
    share_slot_give(share, SEAT_DEAD, row, slots[1]);
    CHECK(share_slot_take(share, SEAT_DEAD, row, 0, &slots[0]));
    share_slot_give(share, SEAT_DEAD, row, slots[0]);
    share_worker_put(share, SEAT_DEAD, row);
    CHECK(share_queue_add(share, SEAT_DEAD, 1, 1));
    share_queue_set_oldest(share, SEAT_DEAD, 1, 100);
    share_queue_set_oldest(share, SEAT_DEAD, 1, 0);
    share_queue_remove(share, SEAT_DEAD, 1);
    CHECK(share_connection_add(share, SEAT_DEAD, 1));
    for (unsigned number = 0; number < PEERS / 2; number++)
        CHECK(add_peer(share, SEAT_DEAD, number, 1));
    CHECK(add_peer(share, SEAT_DEAD, 0, 2));
    remove_peer(share, SEAT_DEAD, 0);
    for (unsigned number = 0; number < PEERS / 2; number++)
        remove_peer(share, SEAT_DEAD, number);
    share_connection_remove(share, SEAT_DEAD);
}

/* What is in the memory, which is mostly holes. */
/* Of all that map the same memory. */
static struct share_table table;

static uint64_t all_but(unsigned seat)
{
    return ~((uint64_t)1 << seat);
}

static size_t read_all(int fd, char *out, size_t size, off_t *ret_last)
{
    size_t n = 0;
    off_t end = 0;
    for (off_t start; (start = lseek(fd, end, SEEK_DATA)) >= 0;) {
        end = lseek(fd, start, SEEK_HOLE);
        cr_assert_leq(n + (size_t)(end - start), size);
        cr_assert_eq(pread(fd, out + n, (size_t)(end - start), start), end - start);
        n += (size_t)(end - start);
    }
    *ret_last = end;
    return n;
}

static struct share *copy_share(int fd)
{
    char page[4096];
    int copy = memfd_create("copy", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    cr_assert_eq(ftruncate(copy, lseek(fd, 0, SEEK_END)), 0);
    cr_assert_eq(fcntl(copy, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
    off_t end = 0;
    for (off_t at; (at = lseek(fd, end, SEEK_DATA)) >= 0;) {
        end = lseek(fd, at, SEEK_HOLE);
        for (; at < end; at += (off_t)sizeof(page)) {
            ssize_t n = pread(fd, page, sizeof(page), at);
            cr_assert(n > 0 && pwrite(copy, page, (size_t)n, at) == n);
        }
    }
    struct share *share;
    cr_assert_eq(share_map(copy, &table, &share), 0);
    close(copy);
    return share;
}

/* Another process that wants the same worker just then: it waits for the supervisor at most. */
static void live_beside(struct share *share)
{
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        alarm(20);
        unsigned id = 0;
        int slot;
        int row = share_worker_get(share, SEAT_OTHER, &id, sizeof(id));
        CHECK(share_slot_take(share, SEAT_OTHER, row, CONCURRENCY, &slot));
        share_slot_give(share, SEAT_OTHER, row, slot);
        share_worker_put(share, SEAT_OTHER, row);
        _exit(0);
    }
    int status = -1;
    for (unsigned i = 0; i < 20 && waitpid(pid, &status, WNOHANG) == 0; i++)
        sched_yield();
    share_reclaim(share, all_but(SEAT_DEAD));
    if (status == -1)
        cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d", status);
}

static void check_death_now(int fd)
{
    struct share *share = copy_share(fd);
    share_reclaim(share, all_but(SEAT_DEAD));
    check_clean(share);
    share_unmap(share);
    share = copy_share(fd);
    live_beside(share);
    check_clean(share);
    share_unmap(share);
}

/* Steps are the processor's own; where one store is many (LL/SC) they would go in circles. */
#if defined(__x86_64__)

/*
 * Whether the memory is worth a look: not where a loop only reads. An instruction that changes it
 * begins a new count, so that no change is missed.
 */
static bool worth_a_look(pid_t pid, unsigned state)
{
    static struct {
        unsigned state;
        unsigned visits;
    } places[1 << 16];
    long at = ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, regs.rip), NULL);
    unsigned i = (unsigned)at % ARRAY_LEN(places);
    if (places[i].state != state) {
        places[i].state = state;
        places[i].visits = 0;
    }
    return places[i].visits++ < 4;
}

static void step_through(pid_t pid, int fd)
{
    static char memory[2][4 << 20];
    size_t n[2] = {0};
    off_t last[2] = {0};
    unsigned now = 0;
    unsigned states = 0;
    int status;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    while (WIFSTOPPED(status)) {
        if (worth_a_look(pid, states)) {
            n[now] = read_all(fd, memory[now], sizeof(memory[now]), &last[now]);
            if (n[0] != n[1] || last[0] != last[1] || memcmp(memory[0], memory[1], n[0]) != 0) {
                states++;
                check_death_now(fd);
                now = !now;
            }
        }
        cr_assert_eq(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
        cr_assert_eq(waitpid(pid, &status, 0), pid);
    }
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d", status);
    cr_assert_gt(states, 40u, "only %u changes were seen", states);
}

Test(share_death, at_any_instruction)
{
    int fd;
    struct share *share;
    cr_assert_eq(share_create(PEERS, &fd), 0);
    cr_assert_eq(share_map(fd, &table, &share), 0);
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
            _exit(77);
        raise(SIGSTOP);
        live(share);
        _exit(0);
    }
    int status;
    siginfo_t info;
    cr_assert_eq(waitid(P_PID, (id_t)pid, &info, WEXITED | WSTOPPED | WNOWAIT), 0);
    if (info.si_code == CLD_EXITED) {
        waitpid(pid, &status, 0);
        cr_skip_test("no process may be traced here");
    }
    step_through(pid, fd);
    share_unmap(share);
    close(fd);
}

#endif

/* The owner of each slot of each worker: its seat + 1. */
struct owners {
    _Atomic uint32_t of[WORKERS][CONCURRENCY];
    _Atomic uint32_t violations;
    _Atomic uint32_t taken;
};

static uint32_t next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* Takes and gives slots of the workers for ever. */
static void work(struct share *share, struct owners *owners, unsigned seat, uint32_t random)
{
    for (;;) {
        unsigned worker = next_random(&random) % WORKERS;
        int slots[CONCURRENCY];
        unsigned n = 0;
        int row = share_worker_get(share, seat, &worker, sizeof(worker));
        CHECK(row >= 0);
        unsigned wanted = 1 + next_random(&random) % CONCURRENCY;
        while (n < wanted && share_slot_take(share, seat, row, CONCURRENCY, &slots[n])) {
            uint32_t before = atomic_exchange(&owners->of[worker][slots[n]], seat + 1);
            if (before != 0)
                atomic_fetch_add(&owners->violations, 1);
            atomic_fetch_add(&owners->taken, 1);
            n++;
        }
        if (next_random(&random) % 4 == 0)
            sched_yield(); /* so that another process runs while they are held */
        while (n-- > 0) {
            atomic_store(&owners->of[worker][slots[n]], 0);
            share_slot_give(share, seat, row, slots[n]);
        }
        share_worker_put(share, seat, row);
    }
}

static pid_t start(struct share *share, struct owners *owners, unsigned seat, uint32_t random)
{
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        alarm(60);
        work(share, owners, seat, random | 1);
    }
    return pid;
}

/* SIGKILL, then what the supervisor does. */
static void end(struct share *share, struct owners *owners, unsigned seat, pid_t pid)
{
    int status;
    cr_assert_eq(kill(pid, SIGKILL), 0);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status %d", status);
    for (unsigned w = 0; w < WORKERS; w++) {
        for (unsigned s = 0; s < CONCURRENCY; s++) {
            uint32_t its = seat + 1;
            atomic_compare_exchange_strong(&owners->of[w][s], &its, 0);
        }
    }
    share_reclaim(share, all_but(seat));
}

Test(share_death, of_many_processes_at_any_time)
{
    enum { PROCESSES = 4, FIRST = 10, KILLS = 300 };
    int fd;
    struct share *share;
    cr_assert_eq(share_create(PEERS, &fd), 0);
    cr_assert_eq(share_map(fd, &table, &share), 0);
    close(fd);
    struct owners *owners = mmap(
        NULL, sizeof(*owners), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(owners, MAP_FAILED);

    pid_t pids[PROCESSES];
    uint32_t random = 4711;
    for (unsigned i = 0; i < PROCESSES; i++)
        pids[i] = start(share, owners, FIRST + i, next_random(&random));
    for (unsigned kills = 0; kills < KILLS; kills++) {
        unsigned i = next_random(&random) % PROCESSES;
        /* Let them work a little: they are killed wherever they are then. */
        uint32_t until = atomic_load(&owners->taken) + next_random(&random) % 2000;
        time_t latest = time(NULL) + 30;
        while ((int32_t)(until - atomic_load(&owners->taken)) > 0) {
            cr_assert_leq(time(NULL), latest, "nobody gets a slot any more");
            sched_yield();
        }
        end(share, owners, FIRST + i, pids[i]);
        pids[i] = start(share, owners, FIRST + i, next_random(&random));
    }
    for (unsigned i = 0; i < PROCESSES; i++)
        end(share, owners, FIRST + i, pids[i]);
    cr_assert_eq(atomic_load(&owners->violations), 0u, "a slot had two owners");
    check_clean(share);
    munmap(owners, sizeof(*owners));
    share_unmap(share);
}
