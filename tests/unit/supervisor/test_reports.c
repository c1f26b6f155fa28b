#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/supervisor/reports.h"
#include "frontd/supervisor/shards_dir.h"
#include "frontd/supervisor/sockets/endpoint.h"
#include "frontd/system/folder.h"
#include "tests/unit/support/descriptors.h"

/*
 * The supervisor's side against shards that are processes of this test: what each of them does is a
 * function that runs in it.
 */

enum { BOUND_MS = 4500, SHARDS_MAX = 4 };

static char base[64];
static int run_dir;
static int shards_dir;
static int listener;
static int share;
static int sockets[2]; /* of one address */
static struct record record;
static uint64_t cookies[2];
static struct reports reports;
static pid_t pids[SHARDS_MAX];
static size_t open_before;
static const struct spawn_user nobody_else = {.name = ""};

static void set_up(void)
{
    char error[512] = "";
    snprintf(base, sizeof(base), "/tmp/test_reports-XXXXXX");
    cr_assert_not_null(mkdtemp(base));
    log_init(LOG_ERROR, LOG_TEXT, "test");
    open_before = open_count();
    run_dir = folder_open(base, false, error, sizeof(error));
    shards_dir = shards_dir_open(run_dir, &nobody_else, error, sizeof(error));
    cr_assert_geq(shards_dir, 0, "%s", error);
    listener = shards_dir_listen(shards_dir, &nobody_else, REPORTS_MAX);
    cr_assert_geq(listener, 0);
    cr_assert_eq(share_create(16, &share), 0);
    struct stat st;
    cr_assert_eq(fstat(share, &st), 0);
    record = (struct record){.ngenerations = 1, .nendpoints = 1, .nsockets = 2};
    process_boot(record.boot);
    record.generations[0].role = GENERATION_SERVING;
    record.generations[0].share = (struct generation_share){
        .known = true, .size = (uint64_t)st.st_size, .dev = st.st_dev, .ino = st.st_ino};
    struct conf_address *address = &record.endpoints[0].address;
    address->len = sizeof(address->sock.in);
    address->sock.in.sin_family = AF_INET;
    address->sock.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (size_t i = 0; i < 2; i++) {
        int one = 1;
        socklen_t len = sizeof(address->sock.in);
        sockets[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        setsockopt(sockets[i], SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
        cr_assert_eq(bind(sockets[i], &address->sock.any, len), 0);
        cr_assert_eq(listen(sockets[i], 1), 0);
        cr_assert_eq(getsockname(sockets[i], &address->sock.any, &len), 0);
        cookies[i] = endpoint_cookie(sockets[i]);
    }
    record.endpoints[0].cookies = cookies;
    record.endpoints[0].ncookies = ARRAY_LEN(cookies);
}

static void reap_all(void)
{
    for (size_t i = 0; i < SHARDS_MAX; i++) {
        if (pids[i] > 0)
            kill(pids[i], SIGKILL);
        pids[i] = 0;
    }
    while (waitpid(-1, NULL, 0) > 0) /* and those that have closed something */
        ;
}

static void tear_down(void)
{
    reports_deinit(&reports);
    reap_all();
    close(share);
    fdpass_close(sockets, 2);
    close(listener);
    shards_dir_unlink(shards_dir);
    close(shards_dir);
    unlinkat(run_dir, CTL_REPORT_DIR, AT_REMOVEDIR);
    close(run_dir);
    rmdir(base);
    cr_assert_eq(open_count(), open_before, "no descriptor is lost");
}

TestSuite(reports, .init = set_up, .fini = tear_down, .timeout = 120);

static int dial(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/" CTL_REPORT_SOCK, base);
    int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    CHECK(connect(sock, (struct sockaddr *)&address, sizeof(address)) == 0);
    return sock;
}

static int say(int sock, enum ctl_type type, const int *fds, uint32_t nfds)
{
    struct ctl_message message = {.u.listen.count = type == CTL_LISTEN ? nfds : 0};
    return ctl_send(sock, type, &message, fds, nfds);
}

/* What a shard does. */

static void report(void)
{
    int sock = dial();
    say(sock, CTL_REPORT, &share, 1);
    say(sock, CTL_LISTEN, sockets, 2);
    say(sock, CTL_READY, NULL, 0);
}

/* Keys of that age, and with that number in their names. */
static void say_tickets(int sock, uint64_t count, uint64_t age, uint8_t number)
{
    struct ctl_message message = {.u.tickets.count = count};
    for (uint8_t i = 0; i < MIN(count, (uint64_t)TLS_TICKET_KEYS_MAX); i++) {
        struct tls_ticket_key *key = &message.u.tickets.keys[i];
        key->name[0] = number;
        key->name[1] = i;
        key->made = tls_tickets_now() - age - i;
        key->until = key->made + 1000;
    }
    ctl_send(sock, CTL_TICKETS, &message, NULL, 0);
}

static void report_tickets(uint64_t count, uint64_t age, uint8_t number)
{
    int sock = dial();
    say(sock, CTL_REPORT, &share, 1);
    say_tickets(sock, count, age, number);
    say(sock, CTL_READY, NULL, 0);
}

static int turns[2]; /* a pipe: the second shard waits for the first one */
static uint64_t ages[2];

static void report_tickets_first(void)
{
    report_tickets(1, ages[0], 1);
    CHECK(write(turns[1], "", 1) == 1);
}

static void report_tickets_second(void)
{
    char byte;
    CHECK(read(turns[0], &byte, 1) == 1);
    report_tickets(2, ages[1], 2);
}

static void report_no_tickets(void)
{
    report_tickets(0, 0, 3);
}

static void report_too_many_tickets(void)
{
    report_tickets(TLS_TICKET_KEYS_MAX + 1, 100, 4);
}

static void report_tickets_of_tomorrow(void)
{
    report_tickets(1, (uint64_t)-24 * 3600 * 1000, 5);
}

static void begin_with_tickets(void)
{
    int sock = dial();
    say_tickets(sock, 1, 100, 6);
    say(sock, CTL_READY, NULL, 0);
}

static void be_silent(void)
{
}

static void connect_only(void)
{
    dial();
}

static void report_half(void)
{
    int sock = dial();
    say(sock, CTL_REPORT, &share, 1);
    say(sock, CTL_LISTEN, sockets, 1);
}

static void begin_with_ready(void)
{
    say(dial(), CTL_READY, NULL, 0);
}

static void begin_with_sockets(void)
{
    say(dial(), CTL_LISTEN, sockets, 2);
}

static void report_twice(void)
{
    int sock = dial();
    say(sock, CTL_REPORT, &share, 1);
    say(sock, CTL_REPORT, &share, 1);
    say(sock, CTL_READY, NULL, 0);
}

static void say_garbage(void)
{
    char bytes[64];
    memset(bytes, 'x', sizeof(bytes));
    int sock = dial();
    CHECK(send(sock, bytes, sizeof(bytes), MSG_NOSIGNAL) > 0);
}

static void say_nothing_at_all(void)
{
    int sock = dial();
    while (send(sock, "", 0, MSG_NOSIGNAL) == 0)
        ;
}

static void say_much(void)
{
    signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < 200; i++) {
        int sock = dial();
        say(sock, CTL_REPORT, &share, 1);
        for (int k = 0; k < 10000 && say(sock, CTL_LISTEN, sockets, 2) == 0; k++)
            ;
        close(sock);
    }
}

static void connect_for_ever(void)
{
    for (;;)
        close(dial());
}

/* Listening, as it seems, but not what the supervisor has made. */
static void bring_others(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    int sock = dial();
    int fds[6];
    int ends[2];
    fds[0] = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(bind(fds[0], (struct sockaddr *)&address, sizeof(address)) == 0);
    CHECK(listen(fds[0], 1) == 0);
    CHECK(pipe(ends) == 0);
    fds[1] = ends[0];
    fds[2] = epoll_create1(0);
    fds[3] = sock;
    fds[4] = sockets[1];
    fds[5] = open("/dev/null", O_RDONLY);
    say(sock, CTL_REPORT, &share, 1);
    say(sock, CTL_LISTEN, fds, 6);
    say(sock, CTL_READY, NULL, 0);
}

static void bring_share(int fd)
{
    int sock = dial();
    say(sock, CTL_REPORT, &fd, 1);
    say(sock, CTL_READY, NULL, 0);
}

static void bring_a_fifo(void)
{
    int ends[2];
    CHECK(pipe(ends) == 0);
    bring_share(ends[0]);
}

static void bring_a_file(void)
{
    bring_share(open("/dev/zero", O_RDWR));
}

static void bring_another_memory(void)
{
    int fd;
    CHECK(share_create(16, &fd) == 0);
    bring_share(fd);
}

static void bring_memory_without_seals(void)
{
    struct stat st;
    int fd = memfd_create("frontd-share", MFD_ALLOW_SEALING);
    CHECK(fstat(share, &st) == 0 && ftruncate(fd, st.st_size) == 0);
    bring_share(fd);
}

static int all_said[2]; /* a pipe */

/* close() of it waits for data that is never read, for an hour. */
static void bring_what_lingers(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof(address);
    struct linger linger = {.l_onoff = 1, .l_linger = 3600};
    static char bytes[1 << 20];
    int server = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(bind(server, (struct sockaddr *)&address, len) == 0 && listen(server, 1) == 0);
    CHECK(getsockname(server, (struct sockaddr *)&address, &len) == 0);
    int client = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(client, (struct sockaddr *)&address, len) == 0);
    CHECK(setsockopt(client, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) == 0);
    while (send(client, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
        ;
    int sock = dial();
    say(sock, CTL_REPORT, &share, 1);
    say(sock, CTL_LISTEN, &client, 1);
    close(client); /* the supervisor's is the last, since it has not begun to receive */
    say(sock, CTL_READY, NULL, 0);
    CHECK(write(all_said[1], "", 1) == 1);
}

static void start_shard(uint32_t shard, void (*run)(void))
{
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGPIPE, SIG_IGN);
        close(listener);
        run();
        for (;;)
            pause();
    }
    pids[shard] = pid;
    struct record_generation *generation = &record.generations[0];
    generation->processes[shard] = (struct record_process){
        .pid = pid, .mark = process_mark(pid, -1), .seat = shard, .incarnation = shard + 1};
    generation->shards = MAX(generation->shards, shard + 1);
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Returns how long it took. */
static uint64_t collect(void)
{
    uint64_t begin = now_ms();
    reports_find(&reports, &record);
    reports_collect(&reports, listener);
    return now_ms() - begin;
}

/* Which of two shards' keys count, the first of which has reported before the second. */
static void check_newest(uint64_t age_of_first, uint64_t age_of_second, uint8_t number)
{
    ages[0] = age_of_first;
    ages[1] = age_of_second;
    cr_assert_eq(pipe2(turns, O_CLOEXEC), 0);
    start_shard(0, report_tickets_first);
    start_shard(1, report_tickets_second);
    start_shard(2, report);
    fdpass_close(turns, 2);
    collect();
    cr_assert_eq(reports_count(&reports, 0), 3u);
    cr_assert_not_null(reports.tickets);
    cr_expect_eq(reports.tickets->count, number);
    cr_expect_eq(reports.tickets->keys[0].name[0], number);
}

Test(reports, the_newest_keys_of_tickets_count)
{
    check_newest(10000, 5000, 2);
}

Test(reports, the_newest_keys_of_tickets_count_if_they_come_first)
{
    check_newest(5000, 10000, 1);
}

Test(reports, keys_of_tickets_that_cannot_be)
{
    start_shard(0, report_no_tickets);
    start_shard(1, report_too_many_tickets);
    start_shard(2, report_tickets_of_tomorrow);
    start_shard(3, begin_with_tickets);
    collect();
    cr_expect_eq(reports_count(&reports, 0), 0u);
    cr_expect_null(reports.tickets);
}

Test(reports, of_honest_shards)
{
    for (uint32_t i = 0; i < 3; i++)
        start_shard(i, report);
    uint64_t took = collect();
    cr_assert_eq(reports.count, 3u);
    cr_assert_eq(reports_count(&reports, 0), 3u);
    cr_assert_eq(reports_count(&reports, 1), 0u);
    cr_expect_lt(took, 2500u, "nobody is waited for once all have reported");
    for (size_t i = 0; i < 3; i++) {
        const struct reporter *reporter = &reports.all[i];
        cr_expect(reporter->nsockets == 2 && reporter->shard == i);
        cr_expect_eq(endpoint_cookie(reporter->sockets[0]), endpoint_cookie(sockets[0]));
        struct stat mine, theirs;
        cr_expect(fstat(share, &mine) == 0 && fstat(reporter->share, &theirs) == 0 &&
                  mine.st_ino == theirs.st_ino);
    }
}

/* Each beside an honest one, which is heard all the same, and in time. */
Test(reports, of_hostile_shards)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } cases[] = {
        {"silent", be_silent},
        {"connects only", connect_only},
        {"half a report", report_half},
        {"READY first", begin_with_ready},
        {"LISTEN first", begin_with_sockets},
        {"REPORT twice", report_twice},
        {"garbage", say_garbage},
        {"empty messages", say_nothing_at_all},
        {"ten thousand messages", say_much},
        {"connects for ever", connect_for_ever},
        {"a fifo", bring_a_fifo},
        {"a file", bring_a_file},
        {"another memory", bring_another_memory},
        {"memory that can be cut", bring_memory_without_seals},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        start_shard(0, cases[i].run);
        start_shard(1, report);
        uint64_t took = collect();
        cr_expect_lt(took, BOUND_MS, "%s: %llu ms", cases[i].name, (unsigned long long)took);
        cr_expect_eq(reports.count, 2u, "%s", cases[i].name);
        cr_expect(!reports.all[0].complete, "%s", cases[i].name);
        cr_expect(reports.all[1].complete, "%s", cases[i].name);
        cr_expect_eq(reports.all[1].nsockets, 2u, "%s", cases[i].name);
        reports_kill(&reports.all[0]);
        reports_wait_killed(&reports);
        int status;
        cr_expect_eq(waitpid(pids[0], &status, 0), pids[0]);
        cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%s", cases[i].name);
        pids[0] = 0;
        reports_deinit(&reports);
        reap_all();
    }
}

/* Of what it brings only that is kept which the supervisor has made. */
Test(reports, descriptors_of_others_are_not_kept)
{
    start_shard(0, bring_others);
    collect();
    cr_assert(reports.all[0].complete);
    cr_assert_eq(reports.all[0].nsockets, 1u);
    cr_assert_eq(endpoint_cookie(reports.all[0].sockets[0]), endpoint_cookie(sockets[1]));
}

Test(reports, what_lingers_is_not_waited_for)
{
    char byte;
    cr_assert_eq(pipe2(all_said, O_CLOEXEC), 0);
    start_shard(0, bring_what_lingers);
    cr_assert_eq(read(all_said[0], &byte, 1), 1);
    uint64_t took = collect();
    close(all_said[0]);
    close(all_said[1]);
    cr_expect_lt(took, BOUND_MS);
    cr_expect(reports.all[0].complete && reports.all[0].nsockets == 0);
    reports_deinit(&reports);
    reap_all();
}

/* A process of its PID that was born at another time, a zombie, and none. */
Test(reports, who_is_alive)
{
    struct record_generation *generation = &record.generations[0];
    start_shard(0, be_silent);
    start_shard(1, be_silent);
    start_shard(2, be_silent);
    start_shard(3, be_silent);
    generation->processes[1].mark.birth++;
    kill(pids[2], SIGKILL);
    siginfo_t info;
    cr_assert_eq(waitid(P_PID, (id_t)pids[2], &info, WEXITED | WNOWAIT), 0);
    generation->processes[3].pid = -1;
    reports_find(&reports, &record);
    cr_assert_eq(reports.count, 1u);
    cr_assert_eq(reports.all[0].process->pid, pids[0]);
}

/* It is not waited for, and what it has brought is let go of. */
Test(reports, one_that_ends_meanwhile)
{
    start_shard(0, report_half);
    start_shard(1, report);
    reports_find(&reports, &record);
    pid_t killer = fork();
    if (killer == 0) {
        usleep(100 * 1000);
        kill(pids[0], SIGKILL);
        _exit(0);
    }
    uint64_t begin = now_ms();
    reports_collect(&reports, listener);
    cr_expect_lt(now_ms() - begin, 2500u);
    cr_expect(reports.all[0].pidfd == -1 && reports.all[0].sock == -1);
    cr_expect(reports.all[1].complete);
}

/* One that is in no record, of the same user. */
Test(reports, of_a_process_that_was_not_started)
{
    start_shard(0, be_silent);
    start_shard(1, report);
    record.generations[0].shards = 1; /* the second is another's */
    collect();
    cr_expect_eq(reports.count, 1u);
    cr_expect_eq(reports_count(&reports, SIZE_MAX), 0u);
}

/* Either of the two that tell a process from others, where the system says only one. */
Test(reports, marks)
{
    struct record_generation *generation = &record.generations[0];
    start_shard(0, be_silent);
    struct process_mark right = generation->processes[0].mark;
    cr_assert_neq(right.birth, 0u);
    const struct {
        struct process_mark mark;
        size_t found;
    } cases[] = {
        {right, 1},
        {{right.birth, 0}, 1},
        {{0, right.ino}, right.ino != 0},
        {{0, 0}, 0},
        {{right.birth + 1, right.ino}, 0},
        {{right.birth + 1, 0}, 0},
        {{right.birth, right.ino + 1}, right.ino == 0},
        {{0, right.ino + 1}, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        generation->processes[0].mark = cases[i].mark;
        reports_find(&reports, &record);
        cr_expect_eq(reports.count, cases[i].found, "case %zu", i);
        reports_deinit(&reports);
    }
    generation->processes[0].mark = right;
    record.boot[0] ^= 1;
    reports_find(&reports, &record);
    cr_expect_eq(reports.count, 0u, "of the time before the system was started again");
}
