#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "frontd/shard/net/resolver.h"

/* Families as digits, in the order in which they come. */
static void order(const char *families, char *out)
{
    struct conf_address addresses[RESOLVER_ADDRESSES_MAX];
    size_t n = strlen(families);
    memset(addresses, 0, sizeof(addresses));
    for (size_t i = 0; i < n; i++) {
        addresses[i].sock.any.sa_family = families[i] == '6' ? AF_INET6 : AF_INET;
        addresses[i].len = (socklen_t)i; /* which it was */
    }
    resolver_interleave(addresses, n);
    for (size_t i = 0; i < n; i++)
        out += sprintf(out, "%s%c%u", i == 0 ? "" : " ",
            addresses[i].sock.any.sa_family == AF_INET6 ? '6' : '4', (unsigned)addresses[i].len);
}

/* RFC 8305 section 4: families by turns, and within one the order stays. */
Test(resolver, interleaves)
{
    static const char *const rows[][2] = {
        {"6", "60"},
        {"64", "60 41"},
        {"46", "40 61"},
        {"664", "60 42 61"},
        {"6644", "60 42 61 43"},
        {"4466", "40 62 41 63"},
        {"666", "60 61 62"},
        {"66664", "60 44 61 62 63"},
        {"46666644", "40 61 46 62 47 63 64 65"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char got[64];
        order(rows[i][0], got);
        cr_expect_str_eq(got, rows[i][1], "%s", rows[i][0]);
    }
}

static uv_loop_t *loop;
static struct ctx ctx;
static struct resolver resolver;
static unsigned answers;
static size_t found;
static char reason[128];
static struct conf_address first;

static void on_found(
    struct resolver_query *query, const struct conf_address *addresses, size_t n, const char *why)
{
    cr_assert(!resolver_waits(query));
    answers++;
    found = n;
    if (n > 0)
        first = addresses[0];
    snprintf(reason, sizeof(reason), "%s", n == 0 ? why : "");
}

static void open_it(void)
{
    int fd = resolver_start();
    cr_assert_geq(fd, 0);
    loop = &ctx.loop;
    cr_assert_eq(uv_loop_init(loop), 0);
    cr_assert_eq(resolver_open(&resolver, &ctx, fd), 0);
}

static void run_until(unsigned n)
{
    for (int i = 0; i < 1000 && answers < n; i++)
        uv_run(loop, UV_RUN_ONCE);
    cr_assert_eq(answers, n);
}

static void close_it(void)
{
    resolver_close(&resolver);
    cr_assert_eq(uv_run(loop, UV_RUN_DEFAULT), 0);
    cr_assert_eq(uv_loop_close(loop), 0);
}

/* The only child of a process, or 0. */
static pid_t child_of(pid_t pid)
{
    char path[64];
    int child = 0;
    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%d", &child) != 1)
        child = 0;
    fclose(file);
    return child;
}

/* The process that serves, once it is another one than `before`. */
static pid_t server(pid_t before)
{
    for (int i = 0; i < 10000; i++) {
        pid_t pid = child_of(child_of(getpid()));
        if (pid != 0 && pid != before)
            return pid;
        usleep(1000);
    }
    return 0;
}

static void asks(uint16_t port)
{
    struct resolver_query query = {.answered = on_found};
    unsigned before = answers;
    cr_assert_eq(resolver_ask(&resolver, &query, "127.0.0.9", port), 0);
    run_until(before + 1);
    cr_assert(found == 1 && first.sock.in.sin_port == htons(port));
}

Test(resolver, is_started_again, .timeout = 60)
{
    pid_t pid = 0;
    open_it();
    for (uint16_t n = 1; n <= 3; n++) {
        pid = server(pid);
        cr_assert_neq(pid, 0);
        asks(n);
        kill(pid, SIGKILL);
    }
    /* Without the one that would start it again it still serves, and says so when it has ended. */
    pid = server(pid);
    cr_assert_neq(pid, 0);
    kill(child_of(getpid()), SIGKILL);
    asks(4);
    kill(pid, SIGKILL);
    for (int i = 0; i < 1000 && resolver.open; i++)
        uv_run(loop, UV_RUN_ONCE);
    cr_assert(!resolver.open);
    close_it();
}

Test(resolver, looks_up, .timeout = 60)
{
    struct resolver_query one = {.answered = on_found};
    struct resolver_query two = {.answered = on_found};
    open_it();
    cr_assert(!resolver_waits(&one));
    cr_assert_eq(resolver_ask(&resolver, &one, "localhost.", 80), 0);
    cr_assert(resolver_waits(&one));
    run_until(1);
    cr_assert_eq(found, 2u);
    cr_assert(first.sock.any.sa_family == AF_INET6 && first.sock.in6.sin6_port == htons(80));
    cr_assert_eq(resolver_ask(&resolver, &one, "127.0.0.9", 81), 0);
    run_until(2);
    cr_assert(found == 1 && first.sock.any.sa_family == AF_INET);
    cr_assert_eq(resolver_ask(&resolver, &one, "no name at all", 1), 0);
    run_until(3);
    cr_assert(found == 0 && reason[0] != '\0');
    /* One that is cancelled is not answered, whatever comes. */
    cr_assert_eq(resolver_ask(&resolver, &one, "localhost", 1), 0);
    cr_assert_eq(resolver_ask(&resolver, &two, "localhost", 2), 0);
    resolver_cancel(&one);
    resolver_cancel(&one);
    run_until(4);
    cr_assert_eq(first.sock.in6.sin6_port, htons(2));
    close_it();
    cr_assert_eq(resolver_ask(NULL, &one, "localhost", 1), -EPIPE);
    cr_assert_eq(resolver_ask(&resolver, &one, "localhost", 1), -EPIPE);
}
