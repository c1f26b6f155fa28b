#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/admin/http_server.h"
#include "frontd/system/loop.h"
#include "tests/unit/support/descriptors.h"

enum { ROUNDS = 20000, BIG = 8 * 1024 * 1024 };

static uv_loop_t loop;
static struct http_server server;
static struct sockaddr_in address;
static struct http_conn *waits; /* the connection that waits for an answer */
static unsigned cancelled;
static bool finished;
static char big[BIG];
static size_t open_before;
static size_t in_use_before;

static void on_request(struct http_conn *conn, const struct http1_head *head)
{
    struct http_answer answer = {
        .status = 200, .content_type = "text/plain", .fields = SPAN("X-Test: yes\r\n")};
    if (memcmp(head->http.path.p, "/wait", MIN(head->http.path.n, 5)) == 0 &&
        head->http.path.n == 5) {
        conn->waits = &waits;
        waits = conn;
        return;
    }
    if (head->http.path.n == 4 && memcmp(head->http.path.p, "/big", 4) == 0)
        answer.body = (struct span){big, BIG};
    else
        cr_assert_eq(buf_append(&answer.owned, head->http.path.p, head->http.path.n), 0);
    http_conn_answer(conn, &answer);
}

static void on_cancel(struct http_conn *conn)
{
    cr_assert_eq(conn, waits);
    waits = NULL;
    cancelled++;
}

static void on_finished(struct http_server *of)
{
    (void)of;
    finished = true;
}

static const struct http_server_ops ops = {on_request, on_cancel, on_finished};

static void set_up(void)
{
    socklen_t len = sizeof(address);
    loop_prepare();
    cr_assert_eq(loop_init(&loop), 0); /* the first opens what stays for good */
    cr_assert_eq(uv_loop_close(&loop), 0);
    open_before = open_count();
    in_use_before = mem_in_use();
    cr_assert_eq(loop_init(&loop), 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    address = (struct sockaddr_in){
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    cr_assert_eq(listen(fd, 128), 0);
    http_server_init(&server, &loop, &ops);
    cr_assert_eq(http_server_listen(&server, fd), 0);
}

static void turn(void)
{
    uv_run(&loop, UV_RUN_NOWAIT);
    usleep(200);
}

static void tear_down(void)
{
    http_server_finish(&server);
    for (size_t i = 0; i < HTTP_CONNS_MAX; i++) {
        if (server.conns[i].state != HTTP_CONN_FREE)
            http_conn_close(&server.conns[i]);
    }
    for (int i = 0; i < ROUNDS && !finished; i++)
        turn();
    cr_assert(finished);
    uv_run(&loop, UV_RUN_DEFAULT);
    cr_assert_eq(uv_loop_close(&loop), 0);
    cr_assert_eq(mem_in_use(), in_use_before);
    cr_assert_eq(open_count(), open_before, "no descriptor is lost");
}

TestSuite(http_server, .init = set_up, .fini = tear_down, .timeout = 60);

static int dial(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int r = connect(fd, (struct sockaddr *)&address, sizeof(address));
    cr_assert(r == 0 || errno == EINPROGRESS);
    turn();
    return fd;
}

static void say_n(int fd, const char *text, size_t n)
{
    for (int i = 0; i < ROUNDS && n > 0; i++) {
        ssize_t sent = send(fd, text, n, MSG_NOSIGNAL);
        if (sent > 0) {
            text += sent;
            n -= (size_t)sent;
        }
        turn();
    }
    cr_assert_eq(n, 0);
}

static void say(int fd, const char *text)
{
    say_n(fd, text, strlen(text));
}

/* Reads until `end` is the end of what has come, or until the connection ends (NULL). */
static const char *hear(int fd, const char *end)
{
    static char text[65536];
    size_t n = 0;
    for (int i = 0; i < ROUNDS; i++) {
        ssize_t got = recv(fd, text + n, sizeof(text) - n - 1, 0);
        if (got > 0)
            n += (size_t)got;
        text[n] = '\0';
        if (end == NULL && (got == 0 || (got < 0 && errno != EAGAIN && errno != ENOTCONN)))
            return text;
        if (end != NULL && n >= strlen(end) && strcmp(text + n - strlen(end), end) == 0)
            return text;
        turn();
    }
    cr_assert_fail("not heard: %s; but %s", end == NULL ? "the end" : end, text);
    return NULL;
}

static void expect_status(int fd, const char *status)
{
    const char *text = hear(fd, NULL);
    char wanted[64];
    snprintf(wanted, sizeof(wanted), "HTTP/1.1 %s ", status);
    cr_expect_eq(strncmp(text, wanted, strlen(wanted)), 0, "%s, not %s", text, status);
    cr_expect_not_null(strstr(text, "Connection: close\r\n"));
}

#define GET(path)  "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"
#define HEAD(path) "HEAD " path " HTTP/1.1\r\nHost: x\r\n\r\n"

Test(http_server, requests_on_one_connection)
{
    int fd = dial();
    say(fd, GET("/one"));
    const char *text = hear(fd, "\r\n\r\n/one");
    cr_expect_not_null(strstr(text, "HTTP/1.1 200 OK\r\n"));
    cr_expect_not_null(strstr(text, "\r\nX-Test: yes\r\n"));
    cr_expect_not_null(strstr(text, "\r\nContent-Length: 4\r\n"));
    say(fd, GET("/two") GET("/three")); /* at once */
    text = hear(fd, "/three");
    cr_expect_not_null(strstr(text, "\r\n\r\n/two"));
    say(fd, HEAD("/four"));
    text = hear(fd, "\r\n\r\n");
    cr_expect_not_null(strstr(text, "\r\nContent-Length: 5\r\n"));
    for (const char *p = GET("/five"); *p != '\0'; p++)
        say_n(fd, p, 1);
    hear(fd, "/five");
    say(fd, "GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    text = hear(fd, NULL);
    cr_expect_not_null(strstr(text, "/last"));
    close(fd);
    fd = dial();
    say(fd, "GET /old HTTP/1.0\r\n\r\n");
    expect_status(fd, "200");
    close(fd);
}

/* More than one turn of the loop has for one connection. */
Test(http_server, many_requests_at_once)
{
    char text[4096] = "";
    for (int i = 0; i < 100; i++)
        strcat(text, GET("/m"));
    strcat(text, GET("/last"));
    int fd = dial();
    say(fd, text);
    const char *answers = hear(fd, "/last");
    int n = 0;
    for (; (answers = strstr(answers, "\r\n\r\n/m")) != NULL; answers++)
        n++;
    cr_expect_eq(n, 100);
    close(fd);
}

/* A head of n bytes. */
static void say_head(int fd, size_t n)
{
    static char head[HTTP_REQUEST_HEAD_MAX + 64];
    static const char before[] = "GET /x HTTP/1.1\r\nHost: x\r\nX: ";
    memset(head, 'a', n);
    memcpy(head, before, sizeof(before) - 1);
    memcpy(head + n - 4, "\r\n\r\n", 4);
    say_n(fd, head, n);
}

Test(http_server, what_is_no_request)
{
    static const struct {
        const char *text;
        const char *status;
    } rows[] = {
        {"\x16\x03\x01\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\n\r\n", "400"},
        {"GET / HTTP/2.0\r\nHost: x\r\n\r\n", "505"},
        {"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na", "413"},
        {"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n", "413"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int fd = dial();
        say(fd, rows[i].text);
        expect_status(fd, rows[i].status);
        close(fd);
    }
    int fd = dial();
    say(fd, "GET /empty HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    hear(fd, "/empty");
    say(fd, "GET /parts HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n");
    say(fd, "A: b\r\n");
    say(fd, "\r\n");
    hear(fd, "/parts");
    say_head(fd, HTTP_REQUEST_HEAD_MAX);
    hear(fd, "\r\n\r\n/x");
    say_head(fd, HTTP_REQUEST_HEAD_MAX + 1);
    expect_status(fd, "431");
    close(fd);
}

Test(http_server, fields_at_the_limit)
{
    for (int over = 0; over < 2; over++) {
        char text[4096] = "GET /f HTTP/1.1\r\nHost: x\r\n";
        for (int i = 1; i < HTTP_REQUEST_FIELDS_MAX + over; i++)
            strcat(text, "A: b\r\n");
        strcat(text, "\r\n");
        int fd = dial();
        say(fd, text);
        if (over)
            expect_status(fd, "431");
        else
            hear(fd, "\r\n\r\n/f");
        close(fd);
    }
}

Test(http_server, a_large_answer_to_a_slow_reader)
{
    static char some[4096];
    memset(big, 'z', BIG);
    int fd = dial();
    say(fd, GET("/big"));
    size_t n = 0;
    for (int i = 0; i < ROUNDS && n < BIG; i++) {
        ssize_t got = recv(fd, some, sizeof(some), 0);
        n += got > 0 ? (size_t)got : 0;
        if (got < 0)
            turn();
    }
    cr_expect_geq(n, BIG);
    close(fd);
}

static bool is_closed(unsigned count)
{
    for (int i = 0; i < ROUNDS && http_server_count(&server) != count; i++)
        turn();
    return http_server_count(&server) == count;
}

Test(http_server, clients_that_are_too_slow)
{
    server.times.head = 30;
    int fd = dial(); /* which says nothing */
    cr_expect_str_eq(hear(fd, NULL), "");
    close(fd);
    fd = dial();
    say(fd, "GET /");
    expect_status(fd, "408");
    close(fd);
    server.times.head = 10000;
    server.times.idle = 30;
    fd = dial();
    say(fd, GET("/x"));
    const char *text = hear(fd, NULL);
    cr_expect_not_null(strstr(text, "\r\n\r\n/x"));
    close(fd);
    server.times.stall = 30;
    fd = dial();
    say(fd, GET("/big")); /* and reads nothing of it */
    cr_expect(is_closed(0));
    close(fd);
    server.times.stall = 10000;
    server.times.write = 50;
    fd = dial();
    say(fd, GET("/big"));
    char byte;
    for (int i = 0; i < ROUNDS && http_server_count(&server) > 0; i++) {
        ssize_t n = recv(fd, &byte, 1, 0); /* one after the other */
        (void)n;
        turn();
    }
    cr_expect_eq(http_server_count(&server), 0);
    close(fd);
}

Test(http_server, connections_at_the_limit)
{
    int fds[HTTP_CONNS_MAX];
    for (size_t i = 0; i < HTTP_CONNS_MAX; i++) {
        fds[i] = dial();
        say(fds[i], "GET /never"); /* none of them is idle */
    }
    cr_assert(is_closed(HTTP_CONNS_MAX));
    int fd = dial();
    expect_status(fd, "503");
    close(fd);
    say(fds[3], " HTTP/1.1\r\nHost: x\r\n\r\n");
    hear(fds[3], "/never"); /* now it is */
    fd = dial();
    expect_status(fd, "503");
    close(fd);
    cr_expect(is_closed(HTTP_CONNS_MAX - 1), "the idle one makes room");
    fd = dial();
    say(fd, GET("/x"));
    hear(fd, "\r\n\r\n/x");
    close(fd);
    for (size_t i = 0; i < HTTP_CONNS_MAX; i++)
        close(fds[i]);
    cr_expect(is_closed(0));
}

static void answer_later(void)
{
    struct http_answer answer = {
        .status = 200, .content_type = "text/plain", .body = SPAN("later")};
    struct http_conn *conn = waits;
    waits = NULL;
    http_conn_answer(conn, &answer);
}

Test(http_server, answers_that_come_later)
{
    int fd = dial();
    say(fd, GET("/wait") GET("/next"));
    cr_assert_not_null(waits);
    answer_later();
    const char *text = hear(fd, "/next");
    cr_expect_not_null(strstr(text, "\r\n\r\nlater"));
    say(fd, GET("/wait"));
    cr_assert_not_null(waits);
    http_conn_close(waits);
    cr_expect_eq(cancelled, 1);
    cr_expect_str_eq(hear(fd, NULL), "");
    close(fd);
}

Test(http_server, the_end)
{
    int idle = dial();
    say(idle, GET("/x"));
    hear(idle, "\r\n\r\n/x");
    int waiting = dial();
    say(waiting, GET("/wait"));
    cr_assert_not_null(waits);
    int late = dial();
    ssize_t n = send(late, GET("/late"), sizeof(GET("/late")) - 1, MSG_NOSIGNAL);
    cr_assert_eq(n, (ssize_t)sizeof(GET("/late")) - 1);
    http_server_finish(&server);
    cr_expect_str_eq(hear(idle, NULL), "");
    expect_status(late, "200"); /* it had come by then */
    cr_expect_not(finished);
    answer_later();
    expect_status(waiting, "200");
    for (int i = 0; i < ROUNDS && !finished; i++)
        turn();
    cr_expect(finished);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_expect_lt(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    close(fd);
    close(idle);
    close(waiting);
    close(late);
}
