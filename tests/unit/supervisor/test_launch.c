#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frontd/supervisor/workers/fingerprint.h"
#include "frontd/supervisor/workers/launch.h"

static char dir[64];

static void set_up(void)
{
    strcpy(dir, "/tmp/test_launch-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    cr_assert_eq(chdir(dir), 0);
}

static void tear_down(void)
{
    cr_assert_eq(chdir("/"), 0);
    rmdir(dir);
}

TestSuite(launch, .init = set_up, .fini = tear_down, .timeout = 60);

static void make_file(const char *name, mode_t mode, const char *text)
{
    int fd = open(name, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    cr_assert_eq(fchmod(fd, mode), 0);
    close(fd);
}

Test(launch, fingerprints)
{
    static char program[] = "prog";
    static char argument[] = "site.py";
    static char option[] = "--conf=site.conf";
    char *const command[] = {program, argument, option};
    struct fingerprint first;
    struct fingerprint now;
    make_file("prog", 0755, "1");
    make_file("site.py", 0644, "1");
    make_file("site.conf", 0644, "1");
    first = fingerprint_take("./prog", command, 3, "u");
    now = fingerprint_take("./prog", command, 3, "u");
    cr_assert(fingerprint_equal(&first, &now));
    static const char *const files[] = {"prog", "site.py", "site.conf"};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        struct stat st;
        cr_assert_eq(stat(files[i], &st), 0);
        make_file(files[i], st.st_mode & 0777, "changed");
        now = fingerprint_take("./prog", command, 3, "u");
        cr_assert(now.files != first.files && now.command == first.command, "%s", files[i]);
        /* The same size and time, another file: what an installation by rename() does. */
        make_file("new", st.st_mode & 0777, "changed");
        first = now;
        cr_assert_eq(rename("new", files[i]), 0);
        struct timespec times[2] = {st.st_atim, st.st_mtim};
        cr_assert_eq(utimensat(AT_FDCWD, files[i], times, 0), 0);
        now = fingerprint_take("./prog", command, 3, "u");
        cr_assert(now.files != first.files, "%s", files[i]);
        first = now;
    }
    now = fingerprint_take("./prog", command, 2, "u");
    cr_assert(now.command != first.command);
    now = fingerprint_take("./prog", command, 3, "v");
    cr_assert(now.command != first.command && now.files == first.files);
    now = fingerprint_take(NULL, command, 3, NULL);
    cr_assert(!fingerprint_equal(&now, &first));
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        unlink(files[i]);
}

/* Runs a shell script as a worker, and returns what it writes. */
static int run(const char *path, const char *script, char *out, size_t size)
{
    static char sh[] = "sh";
    static char c[] = "-c";
    char text[1024];
    snprintf(text, sizeof(text), "%s", script);
    char *const command[] = {sh, c, text};
    struct spawn_user user;
    cr_assert_eq(spawn_user_find(NULL, &user), 0);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    cr_assert_geq(listener, 0);
    struct launch launch = {.path = path,
        .command = command,
        .n = 3,
        .user = &user,
        .pool = "app",
        .listener = listener};
    pid_t pid;
    int output;
    cr_assert_eq(launch_start(&launch, &pid, &output), 0);
    close(listener);
    cr_assert_eq(fcntl(output, F_GETFD), FD_CLOEXEC);
    cr_assert(fcntl(output, F_GETFL) & O_NONBLOCK);
    cr_assert_eq(fcntl(output, F_SETFL, 0), 0);
    size_t n = 0;
    for (ssize_t got; n < size - 1 && (got = read(output, out + n, size - 1 - n)) > 0;)
        n += (size_t)got;
    out[n] = '\0';
    close(output);
    int status;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

Test(launch, starts_a_process)
{
    char out[4096];
    char expected[256];
    setenv("LISTEN_PID", "1", 1);
    setenv("NOTIFY_SOCKET", "/nowhere", 1);
    setenv("OF_USERS", "kept", 1);
    int leaked = open("/dev/null", O_RDONLY); /* NOLINT: inheritable is the point */
    cr_assert_geq(leaked, 0);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    sigset_t some;
    sigemptyset(&some);
    sigaddset(&some, SIGTERM);
    sigprocmask(SIG_BLOCK, &some, NULL);
    cr_assert_eq(run("/bin/sh",
                     "[ $$ = $LISTEN_PID ] && echo mine $LISTEN_FDS $LISTEN_FDNAMES "
                     "$OF_USERS ${NOTIFY_SOCKET-none}; pwd; cat; echo to stderr >&2; exit 7",
                     out, sizeof(out)),
        7);
    snprintf(expected, sizeof(expected), "mine 1 app kept none\n%s\nto stderr\n", dir);
    cr_assert_str_eq(out, expected);
    /* `ls` has its own descriptor of the folder beside 0 to 3. */
    cr_assert_eq(run("/bin/sh", "exec ls /proc/self/fd", out, sizeof(out)), 0);
    cr_assert_str_eq(out, "0\n1\n2\n3\n4\n");
    cr_assert_eq(
        run("/bin/sh", "exec grep -E 'Sig(Blk|Ign)' /proc/self/status", out, sizeof(out)), 0);
    cr_assert_str_eq(out, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
    cr_assert_eq(run("/bin/sh", "exec grep flags /proc/self/fdinfo/3", out, sizeof(out)), 0);
    cr_assert_str_eq(out, "flags:\t02\n", "blocking");
    close(leaked);
}

Test(launch, what_cannot_be_executed)
{
    char out[4096];
    char expected[256];
    make_file("text", 0755, "no program");
    cr_assert_eq(run("./text", "", out, sizeof(out)), 127);
    snprintf(expected, sizeof(expected), "cannot execute ./text: %s\n", strerror(ENOEXEC));
    cr_assert_str_eq(out, expected);
    unlink("text");
    cr_assert_eq(run("./text", "", out, sizeof(out)), 127);
}
