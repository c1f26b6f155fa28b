#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frontd/system/spawn.h"
#include "tests/unit/support/descriptors.h"

static char dir[64];

static void set_up(void)
{
    strcpy(dir, "/tmp/test_spawn-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    cr_assert_eq(chdir(dir), 0);
}

static void tear_down(void)
{
    cr_assert_eq(chdir("/"), 0);
    rmdir(dir);
}

TestSuite(spawn, .init = set_up, .fini = tear_down, .timeout = 60);

static void make_file(const char *name, mode_t mode, const char *text)
{
    int fd = open(name, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    cr_assert_eq(fchmod(fd, mode), 0);
    close(fd);
}

/* Starts it with its output in a pipe. Returns its exit status, and what it has written. */
static int run(struct spawn *spawn, char *out, size_t size)
{
    int ends[2];
    int status;
    pid_t pid;
    size_t open_before = open_count();
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    spawn->fds[1] = spawn->fds[2] = ends[1];
    cr_assert_eq(spawn_start(spawn, &pid), 0);
    close(ends[1]);
    size_t n = 0;
    for (ssize_t got; n < size - 1 && (got = read(ends[0], out + n, size - 1 - n)) > 0;)
        n += (size_t)got;
    out[n] = '\0';
    close(ends[0]);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert_eq(open_count(), open_before);
    cr_assert(WIFEXITED(status), "status %x", status);
    return WEXITSTATUS(status);
}

/* The same of a shell script. */
static int run_script(struct spawn *spawn, const char *script, char *out, size_t size)
{
    char text[512];
    char *words[] = {(char[]){"sh"}, (char[]){"-c"}, text};
    snprintf(text, sizeof(text), "%s", script);
    spawn->path = "/bin/sh";
    spawn->words = words;
    spawn->n = ARRAY_LEN(words);
    return run(spawn, out, size);
}

/* Opens a file as that descriptor. */
static void place(const char *name, int to)
{
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    cr_assert_geq(fd, 0);
    if (fd == to)
        return;
    cr_assert_eq(dup3(fd, to, O_CLOEXEC), to);
    close(fd);
}

Test(spawn, descriptors)
{
    /* Where they stand before: in order, and such that each is in the way of the next one. */
    static const int rows[][2] = {{110, 111}, {3, 0}, {0, 3}, {1, 2}, {2, 1}};
    char out[256];
    size_t open_before = open_count();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int kept[4];
        for (int k = 0; k < 4; k++)
            kept[k] = fcntl(k, F_DUPFD_CLOEXEC, 120);
        make_file("in", 0600, "in\n");
        make_file("third", 0600, "third\n");
        place("in", rows[i][0]);
        place("third", rows[i][1]);
        struct spawn spawn = {.fds = {rows[i][0], 0, 0, rows[i][1]}, .nfds = 4};
        int status = run_script(&spawn, "cat; cat <&3; ls /proc/self/fd", out, sizeof(out));
        for (int k = 0; k < 4; k++) {
            if (kept[k] >= 0)
                dup2(kept[k], k);
            else
                close(k);
            if (kept[k] >= 0)
                close(kept[k]);
        }
        for (int k = 0; k < 2; k++) {
            if (rows[i][k] >= 4)
                close(rows[i][k]);
        }
        cr_expect_eq(status, 0);
        /* `ls` has its own descriptor of the folder beside 0 to 3. */
        cr_expect_str_eq(out, "in\nthird\n0\n1\n2\n3\n4\n", "row %zu", i);
    }
    unlink("in");
    unlink("third");
    cr_expect_eq(open_count(), open_before);
}

Test(spawn, environment)
{
    static const char *const without[] = {"TEST_GONE", "TEST_SET", NULL};
    char set[32] = "TEST_SET=anew";
    char number[32] = "TEST_PID=";
    char *with[] = {set, number};
    char out[256];
    setenv("TEST_GONE", "x", 1);
    setenv("TEST_GONE_NOT", "kept", 1);
    setenv("TEST_SET", "before", 1);
    struct spawn spawn = {.fds = {-1},
        .nfds = 3,
        .without = without,
        .with = with,
        .nwith = ARRAY_LEN(with),
        .pid_text = number + strlen(number)};
    cr_expect_eq(run_script(&spawn,
                     "echo ${TEST_GONE-none} $TEST_GONE_NOT $TEST_SET; "
                     "[ $$ = $TEST_PID ] && pwd",
                     out, sizeof(out)),
        0);
    char expected[128];
    snprintf(expected, sizeof(expected), "none kept anew\n%s\n", dir);
    cr_expect_str_eq(out, expected);
    cr_expect_str_eq(getenv("TEST_GONE"), "x", "the parent keeps it");
}

Test(spawn, signals)
{
    static const char script[] = "exec grep -E 'Sig(Blk|Ign)' /proc/self/status";
    char out[256];
    sigset_t some;
    sigset_t after;
    signal(SIGPIPE, SIG_DFL);
    signal(SIGHUP, SIG_IGN);
    sigemptyset(&some);
    sigaddset(&some, SIGTERM);
    sigprocmask(SIG_BLOCK, &some, NULL);
    struct spawn spawn = {.fds = {-1}, .nfds = 3};
    cr_expect_eq(run_script(&spawn, script, out, sizeof(out)), 0);
    cr_expect_str_eq(out, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000001\n");
    spawn.unignores = true;
    cr_expect_eq(run_script(&spawn, script, out, sizeof(out)), 0);
    cr_expect_str_eq(out, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
    sigprocmask(SIG_SETMASK, NULL, &after);
    cr_expect(sigismember(&after, SIGTERM) && !sigismember(&after, SIGUSR1), "as before");
}

static void on_signal(int number)
{
    (void)number;
    _exit(99);
}

static void report(void)
{
    struct sigaction action;
    sigaction(SIGUSR1, NULL, &action);
    dprintf(1, "%s %s\n", action.sa_handler == SIG_DFL ? "default" : "handled",
        getsid(0) == getpid() ? "leads" : "follows");
}

Test(spawn, functions)
{
    char out[64];
    signal(SIGUSR1, on_signal);
    struct spawn spawn = {.run = report, .fds = {-1}, .nfds = 3};
    cr_expect_eq(run(&spawn, out, sizeof(out)), 0);
    cr_expect_str_eq(out, "default follows\n");
    spawn.leads = true;
    cr_expect_eq(run(&spawn, out, sizeof(out)), 0);
    cr_expect_str_eq(out, "default leads\n");
}

Test(spawn, privileges)
{
    static const char script[] = "exec grep -E '^(NoNewPrivs|CapAmb)' /proc/self/status";
    static const struct {
        enum spawn_privileges privileges;
        int no_new;
    } rows[] = {{SPAWN_INHERITS, 0}, {SPAWN_GAINS_NONE, 1}, {SPAWN_UNPRIVILEGED, 1}};
    struct spawn_user user;
    char out[256];
    char expected[64];
    int inherited = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
    cr_assert_eq(spawn_user_find(NULL, &user), 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct spawn spawn = {
            .fds = {-1}, .nfds = 3, .user = &user, .privileges = rows[i].privileges};
        cr_expect_eq(run_script(&spawn, script, out, sizeof(out)), 0);
        snprintf(expected, sizeof(expected), "CapAmb:\t0000000000000000\nNoNewPrivs:\t%d\n",
            rows[i].no_new | inherited);
        cr_expect_str_eq(out, expected, "row %zu", i);
    }
}

Test(spawn, what_cannot_be_executed)
{
    char out[256];
    char expected[128];
    char *words[] = {(char[]){"text"}};
    make_file("text", 0755, "no program");
    struct spawn spawn = {
        .path = "./text", .words = words, .n = 1, .fds = {-1}, .nfds = 3, .told = "it"};
    cr_expect_eq(run(&spawn, out, sizeof(out)), SPAWN_FAILED);
    snprintf(expected, sizeof(expected), "cannot execute it: %s\n", strerror(ENOEXEC));
    cr_expect_str_eq(out, expected);
    spawn.told = NULL;
    cr_expect_eq(run(&spawn, out, sizeof(out)), SPAWN_FAILED);
    cr_expect_str_eq(out, "");
    unlink("text");
}

Test(spawn, finds_programs)
{
    char path[4096];
    char path_variable[256];
    make_file("tool", 0755, "");
    make_file("text", 0644, "");
    snprintf(path_variable, sizeof(path_variable), "/nowhere:%s:/bin", dir);
    cr_assert_eq(setenv("PATH", path_variable, 1), 0);
    cr_assert_eq(spawn_find("tool", path, sizeof(path)), 0);
    cr_assert_eq(strncmp(path, dir, strlen(dir)), 0);
    cr_assert_eq(spawn_find("sh", path, sizeof(path)), 0);
    cr_assert_str_eq(path, "/bin/sh");
    cr_assert_eq(spawn_find("text", path, sizeof(path)), -EACCES);
    cr_assert_eq(spawn_find("no such tool", path, sizeof(path)), -ENOENT);
    cr_assert_eq(spawn_find("./tool", path, sizeof(path)), 0);
    cr_assert_str_eq(path, "./tool");
    cr_assert_eq(spawn_find("./text", path, sizeof(path)), -EACCES);
    cr_assert_eq(spawn_find("./none", path, sizeof(path)), -ENOENT);
    cr_assert_eq(spawn_find(dir, path, sizeof(path)), -EACCES, "a folder");
    cr_assert_eq(spawn_find("sh", path, 3), -ENOENT, "no room for its path");
    cr_assert_eq(spawn_find("./tool", path, 3), -ENAMETOOLONG);
    cr_assert_eq(setenv("PATH", "/nowhere:", 1), 0);
    cr_assert_eq(spawn_find("tool", path, sizeof(path)), 0);
    cr_assert_str_eq(path, "./tool");
    cr_assert_eq(unsetenv("PATH"), 0);
    cr_assert_eq(spawn_find("sh", path, sizeof(path)), 0);
    unlink("tool");
    unlink("text");
}

Test(spawn, users)
{
    struct spawn_user user;
    cr_assert_eq(spawn_user_find(NULL, &user), 0);
    cr_assert(user.name[0] == '\0' && user.uid == geteuid());
    if (geteuid() == 0) {
        cr_assert_eq(spawn_user_find("no such user", &user), -ENOENT);
        cr_assert_eq(spawn_user_find("root", &user), 0);
        cr_assert(user.uid == 0 && user.home[0] == '/' && user.ngroups > 0);
    } else {
        cr_assert_eq(spawn_user_find("no such user", &user), 0, "without effect");
    }
}
