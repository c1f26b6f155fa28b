#include "frontd/shard/request/tracer.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "frontd/ipc/trace_record.h"
#include "frontd/shard/upstream/mark.h"
#include "frontd/shard/upstream/worker.h"

enum {
    WAIT_MS = 50, /* of a record for others */
    US_A_SECOND = 1000000,
    NS_A_US = 1000,
};

static uint64_t wall_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * US_A_SECOND + (uint64_t)now.tv_nsec / NS_A_US;
}

/* The code of a call's error in JSON-RPC; 0: it has a result. */
static int32_t error_of(const struct account *account)
{
    if (account->code == METRIC_CODE_CANCELLED)
        return RPC_CANCELLED;
    if (account->code == METRIC_CODE_APP)
        return account->call->app_code;
    return account->outcome == NULL ? 0 : account->outcome->error;
}

static struct span text(const char *text)
{
    return text == NULL ? (struct span){0} : (struct span){text, strlen(text)};
}

static void fill(const struct account *account, const char *peer, struct trace_record *ret)
{
    const struct call *call = account->call;
    const struct mark *mark = call->mark;
    const struct client *client = account->client;
    struct span *texts = ret->texts;
    *ret = (struct trace_record){
        .start = wall_us() - account->whole,
        .duration = account->whole,
        .queued = account->queued,
        .conn = account->conn,
        .error = error_of(account),
        .failed = account->code != METRIC_CODE_OK && account->code != METRIC_CODE_2XX &&
                  account->code != METRIC_CODE_3XX && account->code != METRIC_CODE_4XX,
        .status = mark->status,
        .flags = mark->trace.flags,
    };
    memcpy(ret->trace, mark->trace.trace, sizeof(ret->trace));
    memcpy(ret->span, call->span, sizeof(ret->span));
    memcpy(ret->parent, mark->trace.span, sizeof(ret->parent));
    texts[TRACE_METHOD] = account->method;
    if (call->id_len > 0 && buf_len(&call->job.frame) > 0 && !call->job.id_at)
        texts[TRACE_ID] = call_id(call);
    texts[TRACE_POOL] = text(account->pool->conf->name);
    texts[TRACE_WORKER] = text(account->worker == NULL ? NULL : account->worker->text);
    texts[TRACE_ROUTE] = text(account->route == NULL ? NULL : account->route->path);
    texts[TRACE_PEER] = text(peer);
    texts[TRACE_REQUEST_ID] = mark_id(mark);
    if (client != NULL)
        texts[TRACE_PROTOCOL] = text(account_protocol(client));
    if (client != NULL)
        texts[TRACE_LISTENER] = text(client_listener(client)->name);
}

static void lose(struct tracer *tracer, uint64_t n)
{
    share_count(tracer->ctx->count->spans_lost, n);
}

static void on_call(
    struct ctx *ctx, struct account_observer *observer, const struct account *account)
{
    struct tracer *tracer = container_of(observer, struct tracer, observer);
    struct trace_record record;
    char peer[PEER_TEXT_SIZE] = "";
    if (!mark_sampled(account->call->mark))
        return;
    if (account->peer.family != 0)
        peer_text(&account->peer, peer);
    fill(account, peer, &record);
    if (trace_record_pack(&tracer->out, &record) < 0) {
        lose(tracer, 1);
        return;
    }
    if (tracer->records++ == 0)
        ctx_arm(ctx, &tracer->timer, WAIT_MS);
    if (buf_len(&tracer->out) > TRACE_MESSAGE_MAX - TRACE_RECORD_MAX)
        tracer_flush(tracer);
}

void tracer_flush(struct tracer *tracer)
{
    if (tracer->records == 0)
        return;
    size_t n = buf_len(&tracer->out);
    ssize_t sent = tracer->fd < 0
                       ? -1
                       : send(tracer->fd, buf_data(&tracer->out), n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent != (ssize_t)n)
        lose(tracer, tracer->records);
    buf_consume(&tracer->out, n);
    tracer->records = 0;
    wheel_disarm(&tracer->timer);
}

void tracer_timeout(struct wheel_timer *timer)
{
    tracer_flush(container_of(timer, struct tracer, timer));
}

int tracer_use(struct ctx *ctx, int fd)
{
    struct tracer *tracer = ctx->tracer;
    if (tracer == NULL) {
        close(fd);
        return -EPROTO;
    }
    if (tracer->fd >= 0)
        close(tracer->fd);
    tracer->fd = fd;
    return 0;
}

void tracer_open(struct tracer *tracer, struct ctx *ctx)
{
    if (ctx->conf->tracing == NULL)
        return;
    tracer->ctx = ctx;
    tracer->fd = -1;
    wheel_timer_init(&tracer->timer, TIMER_TRACER);
    tracer->observer = (struct account_observer){.call = on_call, .from = UINT64_MAX};
    account_observe(ctx, &tracer->observer);
    ctx->tracer = tracer;
}

void tracer_close(struct tracer *tracer, struct ctx *ctx)
{
    if (ctx->tracer == NULL)
        return;
    tracer_flush(tracer);
    ctx->tracer = NULL;
    account_ignore(ctx, &tracer->observer);
    buf_deinit(&tracer->out);
    if (tracer->fd >= 0)
        close(tracer->fd);
}
