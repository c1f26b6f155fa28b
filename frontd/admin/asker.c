#include "frontd/admin/asker.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/ipc/control_rpc.h"
#include "frontd/system/loop.h"
#include "proto/frame.h"
#include "proto/jsonrpc.h"

enum { READ_SIZE = 64 * 1024 };

static void on_io(uv_poll_t *poll, int status, int events);

static void watch(struct asker *asker)
{
    int events = UV_READABLE | (buf_len(&asker->out) > 0 ? UV_WRITABLE : 0);
    CHECK(uv_poll_start(&asker->poll, events, on_io) == 0);
}

static void free_ask(struct asker *asker, struct ask *ask)
{
    list_remove(&ask->node);
    asker->nasks--;
    mem_free(ask);
}

static void end(struct asker *asker, struct ask *ask, struct span result, const char *why)
{
    ask_done *done = ask->done;
    void *data = ask->data;
    free_ask(asker, ask);
    done(data, result, why);
}

/* Gives up on all that is in progress, those first that have waited longest. */
static void fail_all(struct asker *asker)
{
    while (!list_empty(&asker->asks))
        end(asker, list_first(&asker->asks, struct ask, node), (struct span){0},
            "the supervisor is gone");
}

static void lose(struct asker *asker)
{
    uv_poll_stop(&asker->poll);
    close(asker->fd);
    asker->fd = -1;
    fail_all(asker);
    asker->lost(asker->data);
}

static void on_timer(uv_timer_t *timer);

/* All wait for as long, so the first is due first. */
static void arm(struct asker *asker)
{
    if (list_empty(&asker->asks)) {
        uv_timer_stop(&asker->timer);
        return;
    }
    uint64_t now = uv_now(asker->loop);
    uint64_t due = list_first(&asker->asks, struct ask, node)->due;
    CHECK(uv_timer_start(&asker->timer, on_timer, due > now ? due - now : 0, 0) == 0);
}

static void on_timer(uv_timer_t *timer)
{
    struct asker *asker = timer->data;
    while (!list_empty(&asker->asks)) {
        struct ask *ask = list_first(&asker->asks, struct ask, node);
        if (ask->due > uv_now(asker->loop))
            break;
        end(asker, ask, (struct span){0}, "the supervisor does not answer");
    }
    arm(asker);
}

static void take_response(struct asker *asker, const struct frame *frame)
{
    struct jsonrpc_response response;
    list_for_each (node, &asker->asks) {
        struct ask *ask = container_of(node, struct ask, node);
        if (ask->number != frame->head.call)
            continue;
        if (jsonrpc_scan_response(frame->body.p, frame->body.n, &response) != 0 ||
            response.result.n == 0)
            end(asker, ask, (struct span){0}, "the supervisor does not know that");
        else
            end(asker, ask, response.result, NULL);
        return;
    } /* else it was cancelled, or given up */
}

/* Returns 0, or -EPROTO where what has come is no frame. */
static int take_frames(struct asker *asker)
{
    struct frame frame;
    size_t used;
    while (buf_len(&asker->in) > 0) {
        int r = frame_read(
            buf_data(&asker->in), buf_len(&asker->in), CONTROL_ANSWER_MAX, &frame, &used);
        if (r == FRAME_E_MORE)
            return 0;
        if (r != 0)
            return -EPROTO;
        if (frame.head.type == FRAME_RESPONSE)
            take_response(asker, &frame);
        buf_consume(&asker->in, used);
    }
    return 0;
}

static int flush(struct asker *asker)
{
    while (buf_len(&asker->out) > 0) {
        ssize_t n = send(
            asker->fd, buf_data(&asker->out), buf_len(&asker->out), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        buf_consume(&asker->out, (size_t)n);
    }
    return 0;
}

/* Reads once. Returns 0 or -errno; the end is -EPIPE. */
static int receive(struct asker *asker)
{
    char *room = buf_room(&asker->in, READ_SIZE);
    if (room == NULL)
        return -ENOMEM;
    ssize_t n = recv(asker->fd, room, READ_SIZE, MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    buf_added(&asker->in, (size_t)n);
    return n == 0 ? -EPIPE : take_frames(asker);
}

static void on_io(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct asker *asker = poll->data;
    int r = receive(asker);
    if (r == 0)
        r = flush(asker);
    if (r < 0) {
        lose(asker);
        return;
    }
    watch(asker);
    arm(asker);
}

int asker_open(struct asker *asker, uv_loop_t *loop, int fd, void (*lost)(void *data), void *data)
{
    *asker = (struct asker){
        .loop = loop, .lost = lost, .data = data, .wait = ASKER_WAIT_MS, .fd = fd};
    list_init(&asker->asks);
    CHECK(uv_timer_init(loop, &asker->timer) == 0);
    asker->timer.data = asker;
    int r = loop_poll_init(loop, &asker->poll, fd);
    if (r == 0) {
        asker->poll.data = asker;
        r = control_rpc_put_hello(&asker->out, "frontd");
    }
    if (r == 0)
        watch(asker);
    return r;
}

struct ask *asker_ask(struct asker *asker, const char *method, ask_done *done, void *data)
{
    char number[24];
    bool full = asker->nasks == ASKER_QUESTIONS_MAX || buf_len(&asker->out) >= ASKER_OUT_MAX;
    struct ask *ask = asker->fd < 0 || full ? NULL : mem_zalloc(sizeof(*ask));
    if (ask == NULL)
        return NULL;
    *ask = (struct ask){.number = ++asker->numbers,
        .due = uv_now(asker->loop) + asker->wait,
        .done = done,
        .data = data};
    int n = snprintf(number, sizeof(number), "%llu", (unsigned long long)ask->number);
    const struct span parts[] = {
        SPAN("{\"jsonrpc\":\"2.0\",\"id\":"),
        {number, (size_t)n},
        SPAN(",\"method\":\""),
        {method, strlen(method)},
        SPAN("\",\"params\":{}}"),
    };
    if (control_rpc_put_frame(&asker->out, FRAME_REQUEST, ask->number, parts, ARRAY_LEN(parts)) <
        0) {
        mem_free(ask);
        return NULL;
    }
    list_append(&asker->asks, &ask->node);
    asker->nasks++;
    watch(asker);
    arm(asker);
    return ask;
}

void asker_cancel(struct asker *asker, struct ask *ask)
{
    free_ask(asker, ask);
    arm(asker);
}

void asker_close(struct asker *asker)
{
    if (asker->loop == NULL)
        return;
    while (!list_empty(&asker->asks))
        free_ask(asker, list_first(&asker->asks, struct ask, node));
    uv_close((uv_handle_t *)&asker->timer, NULL);
    uv_close((uv_handle_t *)&asker->poll, NULL);
    if (asker->fd >= 0)
        close(asker->fd);
    asker->fd = -1;
    buf_deinit(&asker->in);
    buf_deinit(&asker->out);
}
