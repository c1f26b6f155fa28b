#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "frontd/supervisor/sd_notify.h"
#include "frontd/system/spawn.h"

enum { TEXT_BYTES = 1024 };

static int manager = -1;

/* A service manager on an abstract address which the kernel chose; NOTIFY_SOCKET names it. */
static void set_up(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t size = sizeof(sa_family_t);
    log_init(LOG_ERROR, LOG_TEXT, "test");
    unsetenv("SYSTEMD_EXEC_PID");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    cr_assert(bind(manager, (const struct sockaddr *)&address, size) == 0);
    size = sizeof(address);
    cr_assert(getsockname(manager, (struct sockaddr *)&address, &size) == 0);
    char name[sizeof(address.sun_path) + 1] = "@";
    memcpy(name + 1, address.sun_path + 1, size - offsetof(struct sockaddr_un, sun_path) - 1);
    setenv("NOTIFY_SOCKET", name, 1);
}

TestSuite(sd_notify, .init = set_up);

/* The next message; "" where there is none. */
static const char *received(void)
{
    static char text[TEXT_BYTES];
    ssize_t n = recv(manager, text, sizeof(text) - 1, MSG_DONTWAIT);
    text[MAX(n, 0)] = '\0';
    return text;
}

static unsigned long long now_usec(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000;
}

Test(sd_notify, says_what_happens)
{
    struct sd_notify sd_notify;
    sd_notify_init(&sd_notify);
    sd_notify_ready(&sd_notify);
    cr_assert_str_eq(received(), "READY=1");
    sd_notify_stopping(&sd_notify, 32000);
    cr_assert_str_eq(received(), "STOPPING=1\nEXTEND_TIMEOUT_USEC=32000000");
    unsigned long long before = now_usec();
    sd_notify_reloading(&sd_notify);
    unsigned long long usec;
    int end = 0;
    const char *text = received();
    cr_assert_eq(sscanf(text, "RELOADING=1\nMONOTONIC_USEC=%llu%n", &usec, &end), 1, "%s", text);
    cr_assert_eq(text[end], '\0');
    cr_assert(before <= usec && usec <= now_usec());
}

Test(sd_notify, a_status_is_one_line)
{
    struct sd_notify sd_notify;
    char longest[500 + 1];
    sd_notify_init(&sd_notify);
    sd_notify_status(&sd_notify, "%u shards\nMAINPID=1\r\n\x7f%s", 3U, "caf\xc3\xa9");
    cr_assert_str_eq(received(), "STATUS=3 shards MAINPID=1   caf\xc3\xa9");
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    sd_notify_status(&sd_notify, "%s", longest);
    cr_assert_eq(strlen(received()), strlen("STATUS=") + 400);
}

Test(sd_notify, nothing_is_said_where_nobody_asked)
{
    static const struct {
        const char *socket; /* NULL: as it is */
        const char *exec_pid;
    } rows[] = {{"", NULL}, {NULL, "1"}};
    char name[128];
    snprintf(name, sizeof(name), "%s", getenv("NOTIFY_SOCKET"));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct sd_notify sd_notify;
        uv_loop_t loop;
        setenv("NOTIFY_SOCKET", name, 1);
        setenv("WATCHDOG_USEC", "1000", 1);
        if (rows[i].socket != NULL)
            unsetenv("NOTIFY_SOCKET");
        if (rows[i].exec_pid != NULL)
            setenv("SYSTEMD_EXEC_PID", rows[i].exec_pid, 1); /* inherited from pid 1 */
        sd_notify_init(&sd_notify);
        cr_assert_eq(sd_notify.watchdog_ms, 0);
        sd_notify_ready(&sd_notify);
        sd_notify_reloading(&sd_notify);
        sd_notify_stopping(&sd_notify, 1);
        sd_notify_status(&sd_notify, "x");
        cr_assert_eq(uv_loop_init(&loop), 0);
        sd_notify_start(&sd_notify, &loop);
        sd_notify_close(&sd_notify);
        cr_assert_eq(uv_loop_close(&loop), 0);
        cr_assert_str_eq(received(), "", "row %zu", i);
    }
}

Test(sd_notify, watchdog_interval)
{
    static const struct {
        const char *usec, *pid; /* "own": this process's */
        uint64_t ms;
    } rows[] = {
        {NULL, NULL, 0},
        {"30000000", NULL, 15000},
        {"30000000", "own", 15000},
        {"30000000", "1", 0},
        {"1", NULL, 1},
        {"0", NULL, 0},
        {"", NULL, 0},
        {"-5", NULL, 0},
        {" 5000", NULL, 0},
        {"5000x", NULL, 0},
        {"99999999999999999999999", NULL, 0},
        {"5000", "x", 0},
    };
    char own[24];
    snprintf(own, sizeof(own), "%ld", (long)getpid());
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct sd_notify sd_notify;
        unsetenv("WATCHDOG_USEC");
        unsetenv("WATCHDOG_PID");
        if (rows[i].usec != NULL)
            setenv("WATCHDOG_USEC", rows[i].usec, 1);
        if (rows[i].pid != NULL)
            setenv("WATCHDOG_PID", strcmp(rows[i].pid, "own") == 0 ? own : rows[i].pid, 1);
        sd_notify_init(&sd_notify);
        cr_assert_eq(sd_notify.watchdog_ms, rows[i].ms, "row %zu", i);
    }
}

Test(sd_notify, pings_while_the_loop_turns)
{
    struct sd_notify sd_notify;
    uv_loop_t loop;
    setenv("WATCHDOG_USEC", "2000", 1);
    sd_notify_init(&sd_notify);
    cr_assert_eq(uv_loop_init(&loop), 0);
    sd_notify_start(&sd_notify, &loop);
    for (int i = 0; i < 3; i++) {
        uv_run(&loop, UV_RUN_ONCE);
        cr_assert_str_eq(received(), "WATCHDOG=1", "ping %d", i);
    }
    sd_notify_close(&sd_notify);
    while (received()[0] != '\0') /* a turn may have sent two */
        ;
    uv_run(&loop, UV_RUN_DEFAULT);
    cr_assert_str_eq(received(), "");
    cr_assert_eq(uv_loop_close(&loop), 0);
}

static void *read_on(void *arg)
{
    int *ready = arg;
    while (*ready == 0) {
        char text[TEXT_BYTES];
        ssize_t n = recv(manager, text, sizeof(text) - 1, 0);
        text[MAX(n, 0)] = '\0';
        *ready = n < 0 ? -1 : strcmp(text, "READY=1") == 0;
    }
    return NULL;
}

static void fill_the_queue(void)
{
    struct sockaddr_un address;
    socklen_t size = sizeof(address);
    cr_assert(getsockname(manager, (struct sockaddr *)&address, &size) == 0);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    for (int i = 0; sendto(fd, "X", 1, 0, (const struct sockaddr *)&address, size) == 1; i++)
        cr_assert_lt(i, 1 << 20);
    cr_assert_eq(errno, EAGAIN);
    close(fd);
}

Test(sd_notify, a_manager_that_is_behind_gets_ready_all_the_same)
{
    struct sd_notify sd_notify;
    pthread_t thread;
    int ready = 0;
    sd_notify_init(&sd_notify);
    fill_the_queue();
    cr_assert_eq(pthread_create(&thread, NULL, read_on, &ready), 0);
    sd_notify_ready(&sd_notify);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_eq(ready, 1);
}

Test(sd_notify, a_manager_that_is_gone_or_hangs_is_no_end)
{
    struct sd_notify sd_notify;
    sd_notify_init(&sd_notify);
    fill_the_queue();
    sd_notify_ready(&sd_notify); /* returns */
    close(manager);
    sd_notify_ready(&sd_notify);
    sd_notify_status(&sd_notify, "x");
}

Test(sd_notify, children_are_told_nothing)
{
    setenv("WATCHDOG_USEC", "1", 1);
    setenv("WATCHDOG_PID", "1", 1);
    cr_assert_not_null(getenv("NOTIFY_SOCKET"));
    char *words[] = {(char[]){"sh"}, (char[]){"-c"},
        (char[]){"exit ${NOTIFY_SOCKET+1}${WATCHDOG_USEC+2}${WATCHDOG_PID+3}"}};
    const struct spawn spawn = {.path = "/bin/sh",
        .words = words,
        .n = ARRAY_LEN(words),
        .fds = {-1, -1, -1},
        .nfds = 3,
        .without = sd_notify_variables};
    pid_t pid;
    int status;
    cr_assert_eq(spawn_start(&spawn, &pid), 0);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", status);
}
