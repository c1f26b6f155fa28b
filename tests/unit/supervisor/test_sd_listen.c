/*
 * Passed sockets have fixed numbers, and Criterion has descriptors of its own there. So each test
 * is a forked process, which ends with the line of the check that failed, or with 0.
 */

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"
#include "frontd/supervisor/sockets/sd_listen.h"

#define REQUIRE(expr)                                                                              \
    do {                                                                                           \
        if (!(expr)) {                                                                             \
            dprintf(STDERR_FILENO, "%s:%d: %s\n", __FILE__, __LINE__, #expr);                      \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static char folder[] = "/tmp/frontd-activation-XXXXXX";

static void run(void (*body)(void))
{
    int status;
    cr_assert_not_null(mkdtemp(folder));
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        log_init(LOG_ERROR, LOG_TEXT, "test");
        close_range(3, ~0U, 0);
        body();
        _exit(0);
    }
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    char path[64];
    snprintf(path, sizeof(path), "%s/s", folder);
    unlink(path);
    rmdir(folder);
    cr_assert_eq(status, 0);
}

static struct conf_address ipv4(const char *host, uint16_t port)
{
    struct conf_address address = {.sock.in = {.sin_family = AF_INET, .sin_port = htons(port)},
        .len = sizeof(address.sock.in)};
    inet_pton(AF_INET, host, &address.sock.in.sin_addr);
    return address;
}

static struct conf_address ipv6(const char *host, uint16_t port)
{
    struct conf_address address = {.sock.in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)},
        .len = sizeof(address.sock.in6)};
    inet_pton(AF_INET6, host, &address.sock.in6.sin6_addr);
    return address;
}

static struct conf_address path(const char *name)
{
    struct conf_address address = {
        .sock.un = {.sun_family = AF_UNIX}, .len = sizeof(address.sock.un)};
    snprintf(address.sock.un.sun_path, sizeof(address.sock.un.sun_path), "%s/%s", folder, name);
    return address;
}

/* The next free descriptor as a socket bound there; *address gets the port. Not close-on-exec. */
static int pass(struct conf_address *address, int type, bool listening)
{
    int one = 1;
    int fd = socket(address->sock.any.sa_family, type, 0);
    socklen_t len = address->len;
    REQUIRE(fd >= 3);
    if (address->sock.any.sa_family != AF_UNIX)
        REQUIRE(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) == 0);
    else /* with the bytes of its path, no more */
        len = (socklen_t)(sizeof(sa_family_t) + strlen(address->sock.un.sun_path));
    REQUIRE(bind(fd, &address->sock.any, len) == 0);
    REQUIRE(!listening || listen(fd, 8) == 0);
    if (address->sock.any.sa_family != AF_UNIX)
        REQUIRE(getsockname(fd, &address->sock.any, &address->len) == 0);
    return fd;
}

static void set_variables(pid_t pid, const char *count)
{
    char own[24];
    snprintf(own, sizeof(own), "%ld", (long)pid);
    setenv("LISTEN_PID", own, 1);
    setenv("LISTEN_FDS", count, 1);
    setenv("LISTEN_FDNAMES", "a:b", 1);
}

static bool same_socket(int a, int b)
{
    uint64_t cookies[2];
    socklen_t len = sizeof(cookies[0]);
    return getsockopt(a, SOL_SOCKET, SO_COOKIE, &cookies[0], &len) == 0 &&
           getsockopt(b, SOL_SOCKET, SO_COOKIE, &cookies[1], &len) == 0 && cookies[0] == cookies[1];
}

static bool close_on_exec(int fd)
{
    return (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0;
}

static void no_variables(void)
{
    REQUIRE(getenv("LISTEN_PID") == NULL);
    REQUIRE(getenv("LISTEN_FDS") == NULL);
    REQUIRE(getenv("LISTEN_FDNAMES") == NULL);
}

/* The nth socket for that address is a duplicate of `fd`. */
static void finds(
    const struct sd_listen *sd_listen, struct conf_address address, size_t nth, int fd)
{
    int found = sd_listen_dup(sd_listen, &address, nth);
    REQUIRE(found > fd);
    REQUIRE(same_socket(found, fd));
    REQUIRE(close_on_exec(found));
    REQUIRE(sd_listen_has(sd_listen, found));
    close(found);
}

static void each_kind(void)
{
    struct conf_address v4 = ipv4("127.0.0.1", 0), any = ipv4("0.0.0.0", 0), un = path("s");
    struct conf_address v6 = ipv6("::1", 0);
    struct sd_listen sd_listen;
    struct conf_address *all[] = {&v4, &any, &v6, &un};
    int one;
    socklen_t len = sizeof(one);
    for (int i = 0; i < 4; i++)
        REQUIRE(pass(all[i], SOCK_STREAM, true) == 3 + i);
    set_variables(getpid(), "4");
    sd_listen_take(&sd_listen);
    no_variables();
    REQUIRE(sd_listen.count == 4);
    for (int i = 0; i < 4; i++) {
        finds(&sd_listen, *all[i], 0, 3 + i);
        REQUIRE(sd_listen_dup(&sd_listen, all[i], 1) == -ENOENT);
        REQUIRE(close_on_exec(3 + i));
        REQUIRE((fcntl(3 + i, F_GETFL) & O_NONBLOCK) != 0);
    }
    for (int i = 0; i < 3; i++) {
        REQUIRE(getsockopt(3 + i, IPPROTO_TCP, TCP_NODELAY, &one, &len) == 0);
        REQUIRE(one == 1);
    }
    /* Exactly the address: not its port elsewhere, not another name. */
    struct conf_address others[] = {ipv4("127.0.0.2", ntohs(v4.sock.in.sin_port)),
        ipv4("127.0.0.1", ntohs(any.sock.in.sin_port)), ipv6("::", ntohs(v6.sock.in6.sin6_port)),
        path("s2"), path("")};
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        REQUIRE(sd_listen_dup(&sd_listen, &others[i], 0) == -ENOENT);
    sd_listen_deinit(&sd_listen);
    for (int i = 0; i < 4; i++)
        REQUIRE(fcntl(3 + i, F_GETFD) < 0);
}

Test(sd_listen, each_kind_is_found_by_its_address)
{
    run(each_kind);
}

static void twice_one_address(void)
{
    struct conf_address address = ipv4("127.0.0.1", 0);
    struct sd_listen sd_listen;
    REQUIRE(pass(&address, SOCK_STREAM, true) == 3);
    REQUIRE(pass(&address, SOCK_STREAM, true) == 4);
    set_variables(getpid(), "2");
    sd_listen_take(&sd_listen);
    finds(&sd_listen, address, 0, 3);
    finds(&sd_listen, address, 1, 4);
    REQUIRE(sd_listen_dup(&sd_listen, &address, 2) == -ENOENT);
}

Test(sd_listen, several_sockets_of_one_address)
{
    run(twice_one_address);
}

static void useless(void)
{
    struct conf_address addresses[] = {ipv4("127.0.0.1", 0), ipv4("127.0.0.1", 0), path("s")};
    struct sd_listen sd_listen;
    int pair[2];
    REQUIRE(pass(&addresses[0], SOCK_STREAM, false) == 3);
    REQUIRE(pass(&addresses[1], SOCK_DGRAM, false) == 4);
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0); /* as Accept=yes does, connected */
    close(pair[1]);
    REQUIRE(open("/dev/null", O_RDONLY) == 6);
    REQUIRE(pass(&addresses[2], SOCK_STREAM, true) == 7);
    set_variables(getpid(), "5");
    sd_listen_take(&sd_listen);
    REQUIRE(sd_listen.count == 1);
    REQUIRE(!sd_listen_has(&sd_listen, 3));
    finds(&sd_listen, addresses[2], 0, 7);
    REQUIRE(sd_listen_dup(&sd_listen, &addresses[0], 0) == -ENOENT);
    for (int fd = 3; fd < 8; fd++)
        REQUIRE(close_on_exec(fd));
}

Test(sd_listen, what_is_no_listening_stream_socket_is_not_used)
{
    run(useless);
}

static void wrong_variables(void)
{
    static const char *const counts[] = {"", "x", "1x", "-1", "65537", "99999999999999999999", "0"};
    struct conf_address address = ipv4("127.0.0.1", 0);
    struct sd_listen sd_listen;
    REQUIRE(pass(&address, SOCK_STREAM, true) == 3);
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        set_variables(getpid(), counts[i]);
        sd_listen_take(&sd_listen);
        no_variables();
        REQUIRE(sd_listen.count == 0 && sd_listen.passed == 0);
    }
    set_variables(getppid(), "1"); /* inherited, and not ours */
    sd_listen_take(&sd_listen);
    no_variables();
    REQUIRE(sd_listen.count == 0 && !close_on_exec(3));
    setenv("LISTEN_FDS", "1", 1); /* of no listener */
    sd_listen_take(&sd_listen);
    REQUIRE(sd_listen.count == 0);
    set_variables(getpid(), "2"); /* more than there are */
    sd_listen_take(&sd_listen);
    REQUIRE(sd_listen.count == 1 && sd_listen.passed == 1);
    finds(&sd_listen, address, 0, 3);
}

Test(sd_listen, wrong_variables_are_not_followed)
{
    run(wrong_variables);
}

static void too_many(void)
{
    struct conf_address addresses[SD_LISTEN_MAX + 1];
    struct sd_listen sd_listen;
    char count[24];
    for (int i = 0; i <= SD_LISTEN_MAX; i++) {
        addresses[i] = ipv4("127.0.0.1", 0);
        REQUIRE(pass(&addresses[i], SOCK_STREAM, true) == 3 + i);
    }
    snprintf(count, sizeof(count), "%d", SD_LISTEN_MAX + 1);
    set_variables(getpid(), count);
    sd_listen_take(&sd_listen);
    REQUIRE(sd_listen.count == SD_LISTEN_MAX);
    finds(&sd_listen, addresses[SD_LISTEN_MAX - 1], 0, 3 + SD_LISTEN_MAX - 1);
    REQUIRE(sd_listen_dup(&sd_listen, &addresses[SD_LISTEN_MAX], 0) == -ENOENT);
}

Test(sd_listen, one_too_many)
{
    run(too_many);
}

static void executed_in_place(void)
{
    struct conf_address addresses[] = {ipv4("127.0.0.1", 0), path("s")};
    struct sd_listen sd_listen, again;
    char number[24];
    REQUIRE(pass(&addresses[0], SOCK_STREAM, true) == 3);
    REQUIRE(pass(&addresses[1], SOCK_STREAM, true) == 4);
    set_variables(getpid(), "2");
    sd_listen_take(&sd_listen);
    sd_listen_expose(&sd_listen);
    snprintf(number, sizeof(number), "%ld", (long)getpid());
    REQUIRE(strcmp(getenv("LISTEN_PID"), number) == 0);
    REQUIRE(strcmp(getenv("LISTEN_FDS"), "2") == 0);
    REQUIRE(!close_on_exec(3) && !close_on_exec(4));
    sd_listen_hide(&sd_listen); /* execve() failed */
    no_variables();
    REQUIRE(close_on_exec(3) && close_on_exec(4));
    sd_listen_expose(&sd_listen);
    sd_listen_take(&again); /* as the new program does */
    no_variables();
    finds(&again, addresses[0], 0, 3);
    finds(&again, addresses[1], 0, 4);
    REQUIRE(close_on_exec(3) && close_on_exec(4));
}

Test(sd_listen, a_program_executed_in_place_takes_them_again)
{
    run(executed_in_place);
}

static void nothing_passed(void)
{
    struct sd_listen sd_listen;
    struct conf_address address = ipv4("127.0.0.1", 80);
    sd_listen_take(&sd_listen);
    sd_listen_expose(&sd_listen);
    no_variables();
    REQUIRE(sd_listen_dup(&sd_listen, &address, 0) == -ENOENT);
    sd_listen_deinit(&sd_listen);
}

Test(sd_listen, nothing_passed)
{
    run(nothing_passed);
}

static void unused(void)
{
    int log[2];
    char text[2048];
    struct conf_address addresses[] = {
        ipv4("127.0.0.1", 0), ipv4("127.0.0.1", 0), ipv6("::1", 0), path("s")};
    struct conf_listener listener = {0};
    struct conf conf = {.listeners = &listener, .nlisteners = 1};
    struct sd_listen sd_listen;
    char expected[64];
    for (size_t i = 0; i < ARRAY_LEN(addresses); i++)
        pass(&addresses[i], SOCK_STREAM, true);
    set_variables(getpid(), "4");
    sd_listen_take(&sd_listen);
    listener.address = addresses[1];
    REQUIRE(pipe2(log, O_CLOEXEC | O_NONBLOCK) == 0);
    REQUIRE(dup2(log[1], STDERR_FILENO) == STDERR_FILENO);
    log_init(LOG_WARNING, LOG_TEXT, "test");
    sd_listen_warn_unused(&sd_listen, &conf);
    ssize_t n = read(log[0], text, sizeof(text) - 1);
    dup2(STDOUT_FILENO, STDERR_FILENO);
    REQUIRE(n > 0);
    text[n] = '\0';
    for (size_t i = 0; i < 2; i++) {
        snprintf(expected, sizeof(expected), ": 127.0.0.1:%u was passed",
            ntohs(addresses[i].sock.in.sin_port));
        REQUIRE((strstr(text, expected) != NULL) == (i == 0));
    }
    snprintf(expected, sizeof(expected), ": [::1]:%u was passed",
        ntohs(addresses[2].sock.in6.sin6_port));
    REQUIRE(strstr(text, expected) != NULL);
    snprintf(expected, sizeof(expected), ": unix:%s/s was passed", folder);
    REQUIRE(strstr(text, expected) != NULL);
}

Test(sd_listen, a_socket_without_a_listener_is_named)
{
    run(unused);
}
