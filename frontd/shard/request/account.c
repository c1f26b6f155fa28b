#include "frontd/shard/request/account.h"

#include "frontd/shard/upstream/worker.h"

enum metric_class account_class(const struct http_head *head)
{
    static const enum metric_class classes[] = {
        [HTTP_OTHER] = METRIC_CLASS_OTHER,
        [HTTP_GET] = METRIC_CLASS_GET,
        [HTTP_HEAD] = METRIC_CLASS_HEAD,
        [HTTP_POST] = METRIC_CLASS_POST,
        [HTTP_PUT] = METRIC_CLASS_PUT,
        [HTTP_DELETE] = METRIC_CLASS_DELETE,
        [HTTP_PATCH] = METRIC_CLASS_PATCH,
        [HTTP_OPTIONS] = METRIC_CLASS_OPTIONS,
        [HTTP_CONNECT] = METRIC_CLASS_OTHER,
        [HTTP_TRACE] = METRIC_CLASS_OTHER,
    };
    return classes[head->method];
}

const char *account_protocol(const struct client *client)
{
    switch ((enum session_kind)client->session) {
    case SESSION_HTTP2: return "http/2";
    case SESSION_WEBSOCKET: return "websocket";
    case SESSION_FRAME: return "frame";
    case SESSION_LINE: return "line";
    default: return "http/1.1";
    }
}

/* Whether any observer hears of what has come at that time (us), and has that mark. */
static bool is_heard(struct ctx *ctx, uint64_t came, const struct mark *mark)
{
    return ctx_now_us(ctx) - came >= ctx->account_from || mark_wanted(mark);
}

struct account_from account_from(const struct request *request)
{
    struct account_from from = {.client = request->client};
    if (UNLIKELY(is_heard(request->client->ctx, request->came_at, request->mark)))
        from.peer = request_peer(request);
    return from;
}

static void set_from(struct ctx *ctx)
{
    ctx->account_from = UINT64_MAX;
    for (const struct account_observer *of = ctx->account_observers; of != NULL; of = of->next)
        ctx->account_from = MIN(ctx->account_from, of->from);
}

void account_observe(struct ctx *ctx, struct account_observer *observer)
{
    observer->next = ctx->account_observers;
    ctx->account_observers = observer;
    set_from(ctx);
}

void account_ignore(struct ctx *ctx, struct account_observer *observer)
{
    struct account_observer **of = &ctx->account_observers;
    while (*of != NULL && *of != observer)
        of = &(*of)->next;
    if (*of != NULL)
        *of = observer->next;
    set_from(ctx);
}

static void tell_call(struct ctx *ctx, const struct call *call, const struct account_from *from,
    const struct outcome *outcome, enum metric_code code)
{
    const struct job *job = &call->job;
    uint64_t now = ctx_now_us(ctx);
    const struct worker *worker = outcome == NULL ? NULL : outcome->worker;
    if (worker == NULL && job->state == JOB_SENT)
        worker = job->worker;
    const struct account account = {
        .route = call->route,
        .client = from->client,
        .peer = from->peer,
        .conn = job->flow,
        .class = job->notify ? METRIC_CLASS_NOTIFICATION : METRIC_CLASS_CALL,
        .code = code,
        .came = call->came_at,
        .whole = now - call->came_at,
        .bytes_in = buf_len(&job->frame),
        .bytes_out = outcome == NULL ? 0 : outcome->body.n + outcome->blob.n,
        .call = call,
        .method = job_method(job),
        .pool = job->pool,
        .worker = worker,
        .queued = (job->sent_at == 0 ? now : job->sent_at) - call->came_at,
        .worked = job->sent_at == 0 ? 0 : now - job->sent_at,
        .outcome = outcome,
    };
    struct account_observer *next;
    for (struct account_observer *of = ctx->account_observers; of != NULL; of = next) {
        next = of->next;
        if (of->call != NULL && (account.whole >= of->from || mark_wanted(call->mark)))
            of->call(ctx, of, &account);
    }
}

static enum metric_outcome outcome_of(enum metric_code code)
{
    switch (code) {
    case METRIC_CODE_OK:
    case METRIC_CODE_2XX:
    case METRIC_CODE_3XX: return METRIC_OUTCOME_OK;
    case METRIC_CODE_APP:
    case METRIC_CODE_4XX:
    case METRIC_CODE_5XX: return METRIC_OUTCOME_APP;
    default: return METRIC_OUTCOME_FRONT;
    }
}

/*
 * Whether a worker knows the method, as far as can be seen: no client makes rows of metrics. A
 * notification is delivered whatever its method is, and what no worker was sent may have any.
 */
static bool is_known(const struct call *call, enum metric_code code)
{
    if (call->job.notify)
        return false;
    if (outcome_of(code) == METRIC_OUTCOME_OK)
        return true;
    return call->job.sent_at != 0 &&
           (code == METRIC_CODE_DEADLINE_EXCEEDED || code == METRIC_CODE_WORKER_LOST ||
               code == METRIC_CODE_BAD_RESPONSE);
}

static void count_method(
    struct ctx *ctx, const struct call *call, enum metric_code code, uint64_t whole)
{
    struct method_words *method = counts_method(
        &ctx->counts, call->wide_kind, job_method(&call->job), is_known(call, code));
    share_count(&method->ended[outcome_of(code)], 1);
    metric_observe(method->whole, whole);
    if (UNLIKELY(whole > atomic_load_explicit(method->slowest, memory_order_relaxed)))
        share_set(method->slowest, whole);
}

void account_call(struct ctx *ctx, const struct call *call, const struct account_from *from,
    const struct outcome *outcome, enum metric_code code)
{
    struct pair_words *pair = call->counts;
    uint64_t now = ctx_now_us(ctx);
    uint64_t sent = call->job.sent_at;
    metric_observe(pair->whole, now - call->came_at);
    metric_observe(pair->queued, (sent == 0 ? now : sent) - call->came_at);
    if (LIKELY(sent != 0))
        metric_observe(pair->worked, now - sent);
    count_method(ctx, call, code, now - call->came_at);
    share_count(&pair->ended[code], 1);
    if (UNLIKELY(is_heard(ctx, call->came_at, call->mark)))
        tell_call(ctx, call, from, outcome, code);
}

static void tell_request(struct ctx *ctx, const struct request *request)
{
    const struct account account = {
        .route = request->route,
        .client = request->client,
        .peer = request_peer(request),
        .conn = request->client->conn.id,
        .class = request->class,
        .code = request->code,
        .came = request->came_at,
        .whole = ctx_now_us(ctx) - request->came_at,
        .bytes_in = request->bytes_in,
        .bytes_out = request->bytes_out,
        .request = request,
    };
    struct account_observer *next;
    for (struct account_observer *of = ctx->account_observers; of != NULL; of = next) {
        next = of->next;
        if (of->request != NULL && (account.whole >= of->from || mark_wanted(request->mark)))
            of->request(ctx, of, &account);
    }
}

void account_begin(struct request *request)
{
    struct client *client = request->client;
    if (request->counts != NULL)
        return;
    request->counts = counts_route(&client->ctx->counts, request->route, client->listener);
    share_count(request->counts->received, 1);
}

void account_request(struct request *request)
{
    struct ctx *ctx = request->client->ctx;
    account_begin(request); /* one that ends as soon as it has come */
    struct route_words *words = request->counts;
    share_count(words->bytes_in, request->bytes_in);
    share_count(words->bytes_out, request->bytes_out);
    share_count(&words->ended[request->class * METRIC_CODE_COUNT + request->code], 1);
    if (UNLIKELY(is_heard(ctx, request->came_at, request->mark)))
        tell_request(ctx, request);
}

void account_member(struct request *request, enum metric_code code)
{
    account_begin(request);
    share_count(request->counts->received, 1);
    share_count(&request->counts->ended[METRIC_CLASS_MEMBER * METRIC_CODE_COUNT + code], 1);
}
