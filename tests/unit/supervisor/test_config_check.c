#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frontd/supervisor/config_check.h"
#include "tests/unit/support/descriptors.h"

enum {
    TURNS_MAX = 100000, /* of the loop: a bound, not a time */
};

static char folder[] = "/tmp/test_check-XXXXXX";
static char script[sizeof(folder) + 16];
static uv_loop_t loop;
static struct config_check check;
static size_t open_before;
static pid_t ended;
static int ended_status;

static void set_up(void)
{
    cr_assert_not_null(mkdtemp(folder));
    snprintf(script, sizeof(script), "%s/frontd", folder);
    cr_assert_eq(uv_loop_init(&loop), 0);
    open_before = open_count();
    config_check_init(&check);
}

static void tear_down(void)
{
    uv_run(&loop, UV_RUN_DEFAULT); /* only closing handles are left */
    cr_assert_eq(open_count(), open_before, "no descriptor is lost");
    cr_assert_eq(uv_loop_close(&loop), 0);
    unlink(script);
    rmdir(folder);
}

TestSuite(check, .init = set_up, .fini = tear_down, .timeout = 120);

/* What is "the binary on disk" from now on: a program for the shell. */
static void install(const char *text, mode_t mode)
{
    unlink(script);
    int fd = open(script, O_WRONLY | O_CREAT | O_CLOEXEC | O_EXCL, mode);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static bool has_ended(void)
{
    ended = waitpid(check.pid, &ended_status, WNOHANG);
    return ended == check.pid;
}

static void on_awake(uv_timer_t *timer)
{
    (void)timer;
}

/* Has the loop come back though nothing is written. */
static void keep_awake(uv_timer_t *awake)
{
    cr_assert_eq(uv_timer_init(&loop, awake), 0);
    uv_timer_start(awake, on_awake, 1, 1);
}

/* Turns the loop until the process has ended. */
static void run_until_it_has_ended(void)
{
    bool over = false;
    for (int i = 0; i < TURNS_MAX && !over; i++) {
        uv_run(&loop, UV_RUN_ONCE);
        over = has_ended();
    }
    cr_assert(over);
}

/* Runs the loop until the process has ended. Returns its status, check->text being what it said. */
static int finish(void)
{
    uv_timer_t awake;
    keep_awake(&awake);
    run_until_it_has_ended();
    config_check_ended(&check);
    uv_close((uv_handle_t *)&awake, NULL);
    uv_run(&loop, UV_RUN_NOWAIT);
    cr_assert_eq(check.pid, -1);
    return ended_status;
}

static void start(void)
{
    cr_assert_eq(config_check_start(&check, &loop, script, "/a/conf"), 0);
    cr_assert_gt(check.pid, 0);
}

Test(check, what_it_says_and_how_it_ends)
{
    static const struct {
        const char *program;
        int status;
        const char *text;
    } cases[] = {
        {"#!/bin/sh\nexit 0\n", 0, ""},
        {"#!/bin/sh\necho right\nexit 0\n", 0, "right"},
        {"#!/bin/sh\nprintf 'no line end'; exit 1\n", 1, "no line end"},
        {"#!/bin/sh\necho one; echo two >&2; echo; echo; exit 42\n", 42, "one\ntwo"},
        {"#!/bin/sh\necho; echo\n", 0, ""},
        {"#!/bin/sh\necho \"$#: $1 $2 $3 $4\"; exit 3\n", 3, "5: --check -c /a/conf --identify"},
        {"#!/bin/sh\nexec >&- 2>&-; sleep 0.1; exit 4\n", 4, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        install(cases[i].program, 0700);
        start();
        int status = finish();
        cr_assert(WIFEXITED(status));
        cr_expect_eq(WEXITSTATUS(status), cases[i].status, "case %zu", i);
        cr_expect_str_eq(check.text, cases[i].text, "case %zu: '%s'", i, check.text);
    }
}

/* What a frontd of this version, or of one that has another state, says for "$5". */
static void install_frontd(const char *before, const char *state, const char *after)
{
    char text[2048];
    snprintf(text, sizeof(text), "#!/bin/sh\n%s\n%s%s --check -c \"$3\" --identify \"$5\"%s\n%s\n",
        before, after[0] == '\0' ? "exec " : "", getenv("FRONTD"), state, after);
    install(text, 0700);
}

static char conf_file[sizeof(folder) + 16];

static void start_with_conf(const char *text)
{
    snprintf(conf_file, sizeof(conf_file), "%s/conf", folder);
    FILE *file = fopen(conf_file, "we");
    cr_assert_not_null(file);
    fputs(text, file);
    fclose(file);
    cr_assert_eq(config_check_start(&check, &loop, script, conf_file), 0);
}

static const char good_conf[] =
    "listeners: [{name: w, address: '127.0.0.1:1', routes: [{path: /, kind: http, pool: a}]}]\n"
    "pools: [{name: a, workers: ['tcp://127.0.0.1:2']}]\n";

/* The real program proves what it is, wherever its line is; and the line is no text. */
Test(check, frontd_identifies_itself)
{
    static const struct {
        const char *before;
        const char *after;
        const char *text;
    } cases[] = {
        {"", "", ""},
        {"echo first", "echo last", "first\nlast"},
        {"echo; echo first >&2", "", "\nfirst"},
        {"head -c 100000 /dev/zero | tr '\\0' '\\n'", "", NULL},
        {"head -c 161 /dev/zero | tr '\\0' x; echo", "printf no_end", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        install_frontd(cases[i].before, "", cases[i].after);
        start_with_conf(good_conf);
        int status = finish();
        cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "case %zu: %s", i, check.text);
        /* What still has something to say afterwards has not become frontd. */
        enum identity wanted = cases[i].after[0] == '\0' ? IDENTITY_FRONTD : IDENTITY_CHILD;
        cr_expect_eq(check.identity, wanted, "case %zu: '%s'", i, check.text);
        if (cases[i].text != NULL)
            cr_expect_str_eq(check.text, cases[i].text, "case %zu: '%s'", i, check.text);
        cr_expect(config_check_is_current(&check, script));
    }
    install_frontd("", "", "");
    start_with_conf("shards: none\n");
    finish();
    cr_expect_eq(check.identity, IDENTITY_FRONTD, "also where the config is wrong");
    cr_expect_not_null(strstr(check.text, "conf:1: "), "'%s'", check.text);
    unlink(conf_file);
}

Test(check, others_do_not)
{
    static const char *const programs[] = {
        "#!/bin/true\n",
        "#!/bin/sh\necho \"$@\"\n",
        "#!/bin/sh\necho \"frontd 0.1.0 state 1: $5\"\n",
        "#!/bin/sh\necho \"frontd 0.1.0 state 1: 0123456789abcdef\"\n",
        /* an answer to another question */
        "#!/bin/sh\n$FRONTD --check -c \"$3\" --identify 00000000000000000000000000000000\n",
        /* one that claims to read every state */
        "#!/bin/sh\n$FRONTD --check -c \"$3\" --identify \"$5\" | sed 's/state 1/state 1,2/'\n",
        /* not a line of its own */
        "#!/bin/sh\necho \"x$($FRONTD --check -c \"$3\" --identify \"$5\")\"\n",
        "#!/bin/sh\necho \"$($FRONTD --check -c \"$3\" --identify \"$5\")x\"\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(programs); i++) {
        install(programs[i], 0700);
        start_with_conf(good_conf);
        int status = finish();
        cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "case %zu", i);
        cr_expect_eq(check.identity, IDENTITY_UNKNOWN, "case %zu: '%s'", i, check.text);
    }
    unlink(conf_file);
}

/* What was checked is what is there, or not. */
Test(check, a_program_that_changes)
{
    static const char text[] = "#!/bin/sh\nexit 0\n";
    install(text, 0700);
    start();
    finish();
    cr_expect(config_check_is_current(&check, script));
    int fd = open(script, O_WRONLY | O_CLOEXEC); /* in its place, of the same length and time */
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, "#!/bin/sh\nexit 1\n", sizeof(text) - 1), (ssize_t)sizeof(text) - 1);
    struct timespec times[2] = {check.file.st_atim, check.file.st_mtim};
    cr_assert_eq(futimens(fd, times), 0);
    close(fd);
    cr_expect_not(config_check_is_current(&check, script), "its change time is another");
    install(text, 0700);
    start();
    finish();
    install(text, 0700); /* another file of that name */
    cr_expect_not(config_check_is_current(&check, script));
    unlink(script);
    cr_expect_not(config_check_is_current(&check, script));
    start();
    finish();
    cr_expect_not(config_check_is_current(&check, script));
}

Test(check, a_program_that_cannot_be_executed)
{
    static const char wanted[] = "cannot execute it: ";
    int status;
    install("#!/bin/sh\n", 0600);
    start();
    status = finish();
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 127);
    cr_expect_eq(strncmp(check.text, wanted, strlen(wanted)), 0, "'%s'", check.text);
    install("no program", 0700);
    start();
    status = finish();
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 127);
    cr_expect_str_eq(check.text + strlen(wanted), "Exec format error");
    unlink(script);
    start();
    status = finish();
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 127);
    cr_expect_str_eq(check.text + strlen(wanted), "No such file or directory");
}

/* It has no descriptor but the first three. */
Test(check, it_inherits_nothing)
{
    int leak = open("/dev/null", O_RDONLY);
    cr_assert_geq(leak, 0);
    /* A shell has its script as 10 or above. */
    install("#!/bin/sh\nfor n in 3 4 5 6 7 8 9; do\n"
            "if [ -e /proc/$$/fd/$n ]; then readlink /proc/$$/fd/$n; fi; done\nexit 0\n",
        0700);
    start();
    cr_expect_eq(finish(), 0);
    cr_expect_str_eq(check.text, "");
    close(leak);
}

Test(check, the_rest_of_much_output_is_dropped)
{
    install("#!/bin/sh\nhead -c 300000 /dev/zero | tr '\\0' x; exit 5\n", 0700);
    start();
    int status = finish();
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 5);
    cr_expect_eq(check.n, (size_t)CONFIG_CHECK_TEXT_MAX);
    cr_expect_eq(strspn(check.text, "x"), (size_t)CONFIG_CHECK_TEXT_MAX);
}

/* One that never stops writing does not keep the loop from doing anything else. */
Test(check, endless_output)
{
    install("#!/bin/sh\nwhile :; do echo yes yes yes yes yes yes yes yes yes; done\n", 0700);
    start();
    for (int i = 0; i < 200; i++)
        uv_run(&loop, UV_RUN_ONCE);
    config_check_kill(&check);
    int status = finish();
    cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    cr_expect_eq(check.n, (size_t)CONFIG_CHECK_TEXT_MAX);
    config_check_kill(&check); /* nothing runs */
}

/* When all that it writes is known, nothing is looked at until it ends. */
Test(check, closed_output_is_not_polled)
{
    install(
        "#!/bin/sh\nhead -c 2000 /dev/zero | tr '\\0' x; exec >&- 2>&-; exec sleep 1000\n", 0700);
    start();
    int turns = 0;
    while (turns < TURNS_MAX && uv_run(&loop, UV_RUN_ONCE) != 0)
        turns++;
    cr_expect_lt(turns, TURNS_MAX, "the loop ends: no handle is active");
    cr_expect_not(has_ended());
    config_check_kill(&check);
    cr_expect(WIFSIGNALED(finish()));
}

/* A signal was remembered meanwhile: the next begins before the loop has run. */
Test(check, one_right_after_the_other)
{
    uv_timer_t awake;
    keep_awake(&awake);
    install("#!/bin/sh\necho wrong; exit 1\n", 0700);
    for (int i = 0; i < 20; i++) {
        start();
        run_until_it_has_ended();
        config_check_ended(&check);
        cr_assert_str_eq(check.text, "wrong");
    }
    uv_close((uv_handle_t *)&awake, NULL);
    uv_run(&loop, UV_RUN_NOWAIT);
}
