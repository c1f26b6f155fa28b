#include "frontd/frontctl/link.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "frontd/frontctl/frontctl.h"
#include "frontd/frontctl/text.h"
#include "frontd/ipc/control_rpc.h"
#include "proto/frame.h"
#include "proto/json_read.h"
#include "proto/jsonrpc.h"

enum { READ_BYTES = 64 * 1024 };

static int64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / (1000 * 1000);
}

/* Reads more. until: of clock_ms(), -1: any time. Returns LINK_ANSWERED where something came. */
static enum link_outcome receive(struct link *link, int64_t until)
{
    struct pollfd waits = {.fd = link->fd, .events = POLLIN};
    for (;;) {
        int64_t left = until < 0 ? -1 : MAX(until - clock_ms(), 0);
        int r = poll(&waits, 1, (int)left);
        if (r == 0)
            return LINK_SILENT;
        if (r > 0)
            break;
        if (errno != EINTR)
            return LINK_BROKEN;
    }
    char *room = buf_room(&link->in, READ_BYTES);
    if (room == NULL)
        return LINK_BROKEN;
    ssize_t n = recv(link->fd, room, READ_BYTES, MSG_DONTWAIT);
    if (n > 0)
        buf_added(&link->in, (size_t)n);
    return n > 0 || (n < 0 && errno == EAGAIN) ? LINK_ANSWERED : LINK_LOST;
}

/* The next frame, which stays until the one after it. */
static enum link_outcome next_frame(struct link *link, int64_t until, struct frame *ret_frame)
{
    buf_consume(&link->in, link->taken);
    link->taken = 0;
    for (;;) {
        int r = frame_read(
            buf_data(&link->in), buf_len(&link->in), CONTROL_ANSWER_MAX, ret_frame, &link->taken);
        if (r == 0)
            return LINK_ANSWERED;
        if (r != FRAME_E_MORE)
            return LINK_BROKEN;
        enum link_outcome outcome = receive(link, until);
        if (outcome != LINK_ANSWERED)
            return outcome;
    }
}

static int send_all(int fd, const struct buf *out)
{
    const char *p = buf_data(out);
    for (size_t left = buf_len(out); left > 0;) {
        ssize_t n = send(fd, p, left, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        p += n;
        left -= (size_t)n;
    }
    return 0;
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timeval limit = {.tv_sec = LINK_HELLO_MS / 1000};
    if (strlen(path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    /* For connect() too, where the queue is full. */
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
        int r = -errno;
        close(fd);
        return r;
    }
    return fd;
}

/* Says why no connection could be made, and what may be done about it. Returns the exit code. */
static int explain(const char *path, int r, bool quiet)
{
    const char *hint = "";
    if (r == -ENOENT)
        hint = "; does frontd run, with this run_dir?";
    else if (r == -ECONNREFUSED)
        hint = "; frontd has ended, or was killed";
    else if (r == -EACCES || r == -EPERM)
        hint = "; only root and the user of frontd may ask";
    if (!quiet)
        frontctl_complain("%s: %s%s", path, strerror(-r), hint);
    return r == -EACCES || r == -EPERM ? FRONTCTL_REFUSED : FRONTCTL_UNREACHED;
}

/* The supervisor closes the connection, and says why. */
static int take_goaway(const char *path, struct span body, bool quiet)
{
    char text[512] = "the supervisor has closed the connection";
    bool valid = jsonrpc_validate(body.p, body.n) == 0;
    if (valid)
        text_of(json_read_member(body, "text"), text, sizeof(text));
    char code[32] = "";
    if (valid)
        text_of(json_read_member(body, "reason"), code, sizeof(code));
    if (!quiet)
        frontctl_complain("%s: %s", path, text);
    return strcmp(code, "permission") == 0 ? FRONTCTL_REFUSED : FRONTCTL_UNREACHED;
}

static int greet(struct link *link, const char *path, bool quiet)
{
    struct buf out = {0};
    struct frame frame;
    /* One that refuses may have closed already; why is still to be read. */
    if (control_rpc_put_hello(&out, "frontctl") == 0)
        (void)send_all(link->fd, &out);
    buf_deinit(&out);
    enum link_outcome outcome = next_frame(link, clock_ms() + LINK_HELLO_MS, &frame);
    if (outcome == LINK_ANSWERED && frame.head.type == FRAME_HELLO &&
        control_rpc_read_hello(frame.body) > 0) {
        text_of(json_read_member(frame.body, "version"), link->peer, sizeof(link->peer));
        return 0;
    }
    if (outcome == LINK_ANSWERED && frame.head.type == FRAME_GOAWAY)
        return take_goaway(path, frame.body, quiet);
    if (!quiet)
        frontctl_complain("%s: %s", path,
            outcome == LINK_SILENT ? "frontd does not answer"
            : outcome == LINK_LOST ? "frontd has closed the connection"
                                   : "what answers is no control server of frontd");
    return FRONTCTL_UNREACHED;
}

int link_open(struct link *link, const char *path, bool quiet)
{
    *link = (struct link){.fd = -1};
    int fd = connect_to(path);
    if (fd < 0)
        return explain(path, fd, quiet);
    link->fd = fd;
    int r = greet(link, path, quiet);
    if (r != 0)
        link_close(link);
    return r;
}

void link_close(struct link *link)
{
    if (link->fd >= 0)
        close(link->fd);
    link->fd = -1;
    buf_deinit(&link->in);
    link->taken = 0;
}

static int send_request(struct link *link, const char *method, struct json_writer *params)
{
    char id[24];
    int id_n = snprintf(id, sizeof(id), "%llu", (unsigned long long)++link->calls);
    struct span text = params == NULL
                           ? SPAN("{}")
                           : (struct span){buf_data(&params->out), buf_len(&params->out)};
    const struct span parts[] = {
        SPAN("{\"jsonrpc\":\"2.0\",\"id\":"),
        {id, (size_t)id_n},
        SPAN(",\"method\":\""),
        {method, strlen(method)},
        SPAN("\",\"params\":"),
        text,
        SPAN("}"),
    };
    struct buf out = {0};
    int r = params != NULL && params->failed
                ? -ENOMEM
                : control_rpc_put_frame(&out, FRAME_REQUEST, link->calls, parts, ARRAY_LEN(parts));
    if (r == 0)
        r = send_all(link->fd, &out);
    buf_deinit(&out);
    if (params != NULL)
        buf_deinit(&params->out);
    return r;
}

static enum link_outcome take_response(struct span body, struct link_answer *ret_answer)
{
    struct jsonrpc_response response;
    int64_t code = 0;
    if (jsonrpc_scan_response(body.p, body.n, &response) != 0)
        return LINK_BROKEN;
    if (response.error.n > 0)
        json_read_integer(json_read_member(response.error, "code"), &code);
    *ret_answer = (struct link_answer){response.result, response.error, (int)code};
    return LINK_ANSWERED;
}

static void take_push(struct span body, link_push *on_push, void *data)
{
    struct jsonrpc_request one;
    size_t count;
    bool batch;
    if (on_push != NULL && jsonrpc_scan(body.p, body.n, &one, 1, &count, &batch) == 0 && !batch &&
        one.kind == JSONRPC_NOTIFY)
        on_push(data, one.method, one.params);
}

enum link_outcome link_call(struct link *link, const char *method, struct json_writer *params,
    int timeout_ms, link_push *on_push, void *data, struct link_answer *ret_answer)
{
    struct frame frame;
    if (send_request(link, method, params) < 0)
        return LINK_LOST;
    for (;;) {
        int64_t until = timeout_ms < 0 ? -1 : clock_ms() + timeout_ms;
        enum link_outcome outcome = next_frame(link, until, &frame);
        if (outcome != LINK_ANSWERED)
            return outcome;
        bool ours = frame.head.call == link->calls;
        if (frame.head.type == FRAME_RESPONSE && ours)
            return take_response(frame.body, ret_answer);
        if (frame.head.type == FRAME_PUSH && ours)
            take_push(frame.body, on_push, data);
        if (frame.head.type == FRAME_GOAWAY)
            return LINK_LOST;
    }
}
