#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/fdpass.h"
#include "frontd/supervisor/control/control.h"
#include "frontd/supervisor/control/control_conn.h"
#include "frontd/supervisor/control/control_socket.h"
#include "frontd/system/loop.h"
#include "proto/frame.h"
#include "tests/unit/support/descriptors.h"

/* A server with a few methods, and a client on the other end of a socket pair. */

static uv_loop_t loop;
static struct control control;
static int client = -1;
static struct control_call *pending; /* of `later` */
static unsigned gone;                /* calls of `later` that were dropped */
static size_t answer_bytes;          /* of `much` */
static struct buf received;
static size_t descriptors_before;

static void echo(struct control_call *call, struct span params)
{
    struct json_writer out = {0};
    json_begin(&out, NULL, '{');
    json_add_span(&out, "params", params);
    json_end(&out, '}');
    control_call_answer(call, &out);
}

static void on_gone(struct control_call *call)
{
    (void)call;
    pending = NULL;
    gone++;
}

static void later(struct control_call *call, struct span params)
{
    (void)params;
    call->gone = on_gone;
    pending = call;
}

static void much(struct control_call *call, struct span params)
{
    (void)params;
    struct json_writer out = {0};
    char *room = buf_room(&out.out, answer_bytes);
    memset(room, '1', answer_bytes);
    buf_added(&out.out, answer_bytes);
    control_call_answer(call, &out);
}

static const struct control_method methods[] = {
    {"echo", true, echo}, {"later", true, later}, {"much", true, much}, {"change", false, echo}};

static void serve(bool readonly)
{
    int pair[2];
    cr_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
    client = pair[0];
    cr_assert(control_serve(&control, pair[1], readonly) == 0);
}

static void set_up(void)
{
    loop_prepare();
    CHECK(loop_init(&loop) == 0); /* the first one leaves what libuv keeps for signals */
    CHECK(uv_loop_close(&loop) == 0);
    descriptors_before = open_count();
    CHECK(loop_init(&loop) == 0);
    control_init(&control, &loop, methods, ARRAY_LEN(methods), NULL);
}

/* A failed assertion here would count as none. */
static void tear_down(void)
{
    control_close(&control);
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&loop) == 0);
    if (client >= 0)
        close(client);
    client = -1;
    buf_deinit(&received);
    mem_trim();
    CHECK(mem_in_use() == 0);
    while (
        open_count() != descriptors_before) /* another process closes them; the test has a limit */
        usleep(1000);
}

TestSuite(control, .init = set_up, .fini = tear_down, .timeout = 20);

/* Turns the loop until nothing happens any more. */
static void settle(void)
{
    for (int i = 0; i < 200; i++)
        uv_run(&loop, UV_RUN_NOWAIT);
}

static void send_bytes(const void *bytes, size_t n)
{
    cr_assert(send(client, bytes, n, MSG_NOSIGNAL) == (ssize_t)n);
}

static size_t put(char *out, uint8_t type, uint64_t call, const char *body)
{
    const struct frame_head head = {.type = type, .call = call, .length = (uint32_t)strlen(body)};
    frame_head_write(&head, (uint8_t *)out);
    memcpy(out + FRAME_HEAD_SIZE, body, strlen(body));
    return FRAME_HEAD_SIZE + strlen(body);
}

static void say(uint8_t type, uint64_t call, const char *body)
{
    char bytes[1024];
    send_bytes(bytes, put(bytes, type, call, body));
}

static void greet(void)
{
    say(FRAME_HELLO, 0, "{\"control\":1}");
}

static void request(uint64_t call, const char *method)
{
    char body[256];
    snprintf(body, sizeof(body), "{\"jsonrpc\":\"2.0\",\"id\":%u,\"method\":\"%s\",\"params\":{}}",
        (unsigned)call, method);
    say(FRAME_REQUEST, call, body);
}

/* The next frame that has come; its body is valid until the next call. Type 0: none has. */
static struct frame next(void)
{
    static size_t used;
    struct frame frame = {0};
    buf_consume(&received, used);
    used = 0;
    for (;;) {
        char *room = buf_room(&received, 65536);
        ssize_t n = recv(client, room, 65536, MSG_DONTWAIT);
        if (n > 0)
            buf_added(&received, (size_t)n);
        if (n <= 0 && frame_read(buf_data(&received), buf_len(&received), CONTROL_ANSWER_MAX,
                          &frame, &used) == 0)
            return frame;
        if (n <= 0)
            return (struct frame){0};
        settle();
    }
}

static bool is_closed(void)
{
    char byte;
    ssize_t n = recv(client, &byte, 1, MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno == ECONNRESET);
}

static void expect(uint8_t type, uint64_t call, const char *words)
{
    struct frame frame = next();
    cr_assert(frame.head.type == type, "%s, not %s: %.*s", frame_type_text(frame.head.type),
        frame_type_text(type), (int)frame.body.n, frame.body.p);
    cr_assert(frame.head.call == call);
    cr_assert(memmem(frame.body.p, frame.body.n, words, strlen(words)) != NULL, "%.*s",
        (int)frame.body.n, frame.body.p);
}

static void start(bool readonly)
{
    serve(readonly);
    greet();
    settle();
    expect(FRAME_HELLO, 0, "\"program\":\"frontd\"");
}

Test(control, answers)
{
    start(false);
    request(7, "echo");
    settle();
    expect(FRAME_RESPONSE, 7, "{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"params\":\"{}\"}}");
}

Test(control, takes_frames_that_come_byte_by_byte)
{
    char bytes[512];
    start(false);
    size_t n = put(bytes, FRAME_REQUEST, 3,
        "{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"ec\\u0068o\",\"params\":{}}");
    n += put(bytes + n, FRAME_PING, 0, "");
    for (size_t i = 0; i < n; i++) {
        cr_assert(next().head.type == 0 || i > n - FRAME_HEAD_SIZE);
        send_bytes(bytes + i, 1);
        settle();
        if (i + 1 == n - FRAME_HEAD_SIZE)
            expect(FRAME_RESPONSE, 3, "\"id\":\"x\"");
    }
    expect(FRAME_PONG, 0, "");
}

Test(control, what_cannot_be_carried_out)
{
    start(false);
    request(1, "echos");
    say(FRAME_REQUEST, 2, "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"echo\",\"params\":[]}");
    say(FRAME_REQUEST, 3, "nonsense");
    say(FRAME_REQUEST, 4, "[]");
    say(FRAME_REQUEST, 5, "{\"jsonrpc\":\"2.0\",\"method\":\"echo\"}");
    request(6, "echo");
    settle();
    expect(FRAME_RESPONSE, 1, "-32601");
    expect(FRAME_RESPONSE, 2, "-32602");
    expect(FRAME_RESPONSE, 3, "\"id\":null,\"error\":{\"code\":-32700");
    expect(FRAME_RESPONSE, 4, "-32600");
    expect(FRAME_RESPONSE, 6, "result");
}

Test(control, a_read_only_connection_changes_nothing)
{
    start(true);
    request(1, "change");
    request(2, "echo");
    settle();
    expect(FRAME_RESPONSE, 1, "-32011");
    expect(FRAME_RESPONSE, 2, "result");
}

Test(control, an_answer_later)
{
    start(false);
    request(1, "later");
    settle();
    request(2, "echo");
    settle();
    expect(FRAME_RESPONSE, 2, "result");
    struct json_writer push = {0};
    json_begin(&push, NULL, '{');
    json_end(&push, '}');
    cr_assert(control_call_push(pending, "progress", &push));
    control_call_fail(pending, -32010, "too %s", "bad");
    settle();
    expect(FRAME_PUSH, 1, "{\"jsonrpc\":\"2.0\",\"method\":\"progress\",\"params\":{}}");
    expect(FRAME_RESPONSE, 1, "\"error\":{\"code\":-32010,\"message\":\"too bad\"}");
    cr_assert(gone == 0);
}

Test(control, a_call_whose_client_goes)
{
    start(false);
    request(1, "later");
    settle();
    cr_assert(pending != NULL);
    close(client);
    client = -1;
    settle();
    cr_assert(gone == 1);
}

Test(control, a_call_that_is_cancelled)
{
    start(false);
    request(1, "later");
    say(FRAME_CANCEL, 1, "");
    request(2, "echo");
    settle();
    cr_assert(gone == 1);
    expect(FRAME_RESPONSE, 2, "result");
}

Test(control, calls_at_their_limit)
{
    start(false);
    for (int i = 1; i <= CONTROL_CALLS_MAX; i++)
        request((uint64_t)i, "later");
    request(CONTROL_CALLS_MAX + 1, "echo"); /* stays in the socket */
    settle();
    cr_assert(next().head.type == 0);
    struct json_writer out = {0};
    json_begin(&out, NULL, '{');
    json_end(&out, '}');
    control_call_answer(pending, &out);
    settle();
    expect(FRAME_RESPONSE, CONTROL_CALLS_MAX, "result");
    expect(FRAME_RESPONSE, CONTROL_CALLS_MAX + 1, "result");
}

Test(control, hello_comes_first)
{
    serve(false);
    request(1, "echo");
    settle();
    expect(FRAME_HELLO, 0, "");
    expect(FRAME_GOAWAY, 0, "HELLO comes first");
    cr_assert(is_closed());
}

Test(control, a_hello_of_something_else)
{
    serve(false);
    say(FRAME_HELLO, 0, "{\"protocol\":[1]}");
    settle();
    expect(FRAME_HELLO, 0, "");
    expect(FRAME_GOAWAY, 0, "protocol");
    cr_assert(is_closed());
}

/* A REQUEST whose payload has n bytes: a call of `echo`, and white space. */
static char *request_of(size_t n)
{
    char *bytes = malloc(FRAME_HEAD_SIZE + n);
    const struct frame_head head = {.type = FRAME_REQUEST, .call = 1, .length = (uint32_t)n};
    frame_head_write(&head, (uint8_t *)bytes);
    memset(bytes + FRAME_HEAD_SIZE, ' ', n);
    static const char text[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"echo\"}";
    memcpy(bytes + FRAME_HEAD_SIZE, text, strlen(text));
    return bytes;
}

Test(control, a_request_at_its_limit)
{
    start(false);
    char *bytes = request_of(CONTROL_REQUEST_MAX);
    send_bytes(bytes, FRAME_HEAD_SIZE + CONTROL_REQUEST_MAX);
    free(bytes);
    settle();
    expect(FRAME_RESPONSE, 1, "result");
}

Test(control, a_request_over_its_limit)
{
    start(false);
    char *bytes = request_of(CONTROL_REQUEST_MAX + 1);
    send_bytes(bytes, FRAME_HEAD_SIZE); /* the header is enough */
    free(bytes);
    settle();
    expect(FRAME_GOAWAY, 0, "over 64 KiB");
    cr_assert(is_closed());
}

Test(control, frames_that_no_client_sends)
{
    start(false);
    say(200, 0, "of an extension");
    request(1, "echo");
    say(FRAME_PUBLISH, 0, "");
    settle();
    expect(FRAME_RESPONSE, 1, "result");
    expect(FRAME_GOAWAY, 0, "does not send such frames");
    cr_assert(is_closed());
}

/* The response around it has 35 bytes with an id of one digit. */
Test(control, an_answer_at_its_limit)
{
    static const size_t around = sizeof("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":}") - 1;
    start(false);
    answer_bytes = CONTROL_ANSWER_MAX - around;
    request(1, "much");
    settle();
    struct frame frame = next();
    cr_assert(frame.head.type == FRAME_RESPONSE && frame.head.length == CONTROL_ANSWER_MAX);
    answer_bytes++;
    request(2, "much");
    settle();
    expect(FRAME_RESPONSE, 2, "the answer would be over 16 MiB");
}

Test(control, a_client_that_does_not_read)
{
    start(false);
    answer_bytes = 1024 * 1024;
    request(1, "much");
    request(2, "later"); /* is not looked at before the answer is out */
    settle();
    cr_assert(pending == NULL);
    expect(FRAME_RESPONSE, 1, "result");
    settle();
    cr_assert(pending != NULL);
}

Test(control, pushes_at_their_limit)
{
    start(false);
    request(1, "later");
    settle();
    size_t sent = 0;
    for (bool fits = true; fits; sent += fits) {
        struct json_writer push = {0};
        char text[4096] = "";
        memset(text, 'a', sizeof(text) - 1);
        json_add_text(&push, NULL, text);
        fits = control_call_push(pending, "tap", &push);
        cr_assert(sent < 2 * CONTROL_PUSHES_MAX / sizeof(text));
    }
    cr_assert(sent >= CONTROL_PUSHES_MAX / 4096 - 8);
    struct json_writer out = {0};
    json_add_flag(&out, NULL, true);
    control_call_answer(pending, &out); /* an answer has room beyond them */
    settle();
    for (size_t i = 0; i < sent; i++)
        expect(FRAME_PUSH, 1, "tap");
    expect(FRAME_RESPONSE, 1, "true");
}

/* A descriptor on the way costs the sender its connection, and stays open nowhere. */
Test(control, descriptors_that_come_along)
{
    start(false);
    cr_assert(fdpass_send(client, "x", 1, (const int[]){STDERR_FILENO}, 1) == 0);
    settle();
    cr_assert(is_closed());
}

/* The socket's file */

static bool answers(int dir)
{
    char path[64];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(path, sizeof(path), "/proc/self/fd/%d/" CONTROL_SOCKET_NAME, dir);
    memcpy(address.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool answered = connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0;
    close(fd);
    return answered;
}

Test(control, the_socket_takes_the_place_of_one_of_a_supervisor_before)
{
    char folder[] = "/tmp/test_control-XXXXXX";
    struct stat st;
    cr_assert_not_null(mkdtemp(folder));
    int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int first = control_socket_listen(dir);
    cr_assert(first >= 0 && answers(dir) && control_socket_serves(dir, first));
    cr_assert(fstatat(dir, CONTROL_SOCKET_NAME, &st, 0) == 0 && (st.st_mode & 0777) == 0600);
    close(first);
    cr_assert(!answers(dir)); /* it was killed */
    int second = control_socket_listen(dir);
    cr_assert(second >= 0 && answers(dir));
    cr_assert(!control_socket_serves(dir, STDERR_FILENO));
    control_socket_unlink(dir);
    cr_assert(fstatat(dir, CONTROL_SOCKET_NAME, &st, 0) < 0 && errno == ENOENT);
    cr_assert(!control_socket_serves(dir, second), "its name has gone");
    close(second);
    int file = openat(dir, CONTROL_SOCKET_NAME, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    close(file);
    cr_assert_eq(control_socket_listen(dir), -EEXIST);
    control_socket_unlink(dir);
    cr_assert(fstatat(dir, CONTROL_SOCKET_NAME, &st, 0) == 0, "what is no socket stays");
    unlinkat(dir, CONTROL_SOCKET_NAME, 0);
    cr_assert(symlinkat("/tmp/nowhere", dir, CONTROL_SOCKET_NAME) == 0);
    cr_assert_eq(control_socket_listen(dir), -EEXIST);
    unlinkat(dir, CONTROL_SOCKET_NAME, 0);
    close(dir);
    cr_assert_eq(rmdir(folder), 0);
}
