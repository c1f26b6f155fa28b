/*
 * The parts are put together: each layer is given the tables of functions above it that it calls.
 */

#include "frontd/shard/shard_parts.h"

#include <errno.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/siphash.h"
#include "frontd/shard/push/push.h"
#include "frontd/shard/request/rebind.h"
#include "frontd/shard/routes/http.h"
#include "frontd/shard/routes/websocket.h"
#include "frontd/shard/session/duplex.h"
#include "frontd/shard/session/http1_session.h"
#include "frontd/shard/tls/tls_transport.h"

static const struct session_ops *const sessions[SESSIONS] = {
    [SESSION_HTTP1] = &http1_session,
    [SESSION_WEBSOCKET] = &websocket_session,
    [SESSION_FRAME] = &frame_session,
    [SESSION_LINE] = &line_session,
    [SESSION_HTTP2] = &http2_session,
    [SESSION_FIRST] = &http_first_session,
    [SESSION_PROXY] = &proxy_session,
};

static const struct route_ops *const routes[CONF_KINDS] = {
    [CONF_JSONRPC] = &jsonrpc_route,
    [CONF_HTTP] = &http_route,
    [CONF_WEBSOCKET] = &websocket_route,
    [CONF_STREAM] = &stream_route,
};

static const struct question_ops *const questions[CTL_QUESTIONS] = {
    [CTL_QUESTION_CONNS] = &conns_question,
    [CTL_QUESTION_TOPICS] = &topics_question,
    [CTL_QUESTION_KICK] = &kick_question,
    [CTL_QUESTION_ERRORS] = &errors_question,
    [CTL_QUESTION_TAP] = &tap_question,
    [CTL_QUESTION_EXPLAIN] = &explain_question,
    [CTL_QUESTION_PROFILE] = &profile_question,
};

/* Bytes of a request in whatever session. */
static size_t request_size(void)
{
    size_t most = 0;
    for (size_t i = 0; i < SESSIONS; i++)
        most = MAX(most, sessions[i]->request_size);
    return sizeof(struct request) + most;
}

static int init_ctx(struct ctx *ctx, const struct conf *conf, struct share *share)
{
    size_t size;
    ctx->conf = conf;
    ctx->share = share;
    ctx->count = share_front(share, ctx->seat);
    share_set(ctx->count->incarnation, ctx->identity.incarnation | 1);
    for (size_t i = 0; i < SHARE_SEATS; i++)
        ctx->wake_fds[i] = -1;
    ctx->read_buf = mem_get(CTX_READ_SIZE, &size);
    if (ctx->read_buf == NULL)
        return -ENOMEM;
    uv_update_time(&ctx->loop);
    wheel_init(&ctx->wheel, ctx_now(ctx));
    ctx->dirty_tail = &ctx->dirty_clients;
    list_init(&ctx->dirty_streams);
    list_init(&ctx->busy_streams);
    list_init(&ctx->fanouts);
    ctx->later_tail = &ctx->later_clients;
    list_init(&ctx->idle);
    list_init(&ctx->unused);
    memory_init(&ctx->memory, conf->limits.memory);
    wheel_timer_init(&ctx->memory_timer, TIMER_MEMORY);
    ctx->account_from = UINT64_MAX;
    ctx->expect_seed = hash_key_random().k1;
    slab_init(&ctx->clients, sizeof(struct client));
    slab_init(&ctx->requests, request_size());
    slab_init(&ctx->calls, sizeof(struct call));
    slab_init(&ctx->duplexes, sizeof(struct duplex));
    slab_init(&ctx->queues, queue_slab_size());
    int r = counts_init(&ctx->counts, share, ctx->seat, conf);
    r = r < 0 ? r : idmap_init(&ctx->conns);
    r = r < 0 ? r : poller_init(&ctx->poller, &ctx->loop, client_ready, POLLER_ALL);
    return r < 0 ? r : poller_init(&ctx->writers, &ctx->loop, client_drained, WORK_TURN);
}

static void deinit_ctx(struct ctx *ctx)
{
    message_forget_restored(&ctx->restored);
    idmap_deinit(&ctx->conns);
    counts_deinit(&ctx->counts);
    slab_deinit(&ctx->queues);
    slab_deinit(&ctx->duplexes);
    slab_deinit(&ctx->calls);
    slab_deinit(&ctx->requests);
    slab_deinit(&ctx->clients);
    mem_put(ctx->read_buf, CTX_READ_SIZE);
    stream_free_buffer(ctx);
    for (size_t i = 0; i < SHARE_SEATS; i++) {
        if (ctx->wake_fds[i] >= 0)
            close(ctx->wake_fds[i]);
    }
}

static struct subscription *subscriptions_of(struct client *client)
{
    return *client_session(client)->subscriptions(client);
}

int parts_init(struct parts *parts, struct ctx *ctx, const struct conf *conf, struct share *share)
{
    int r = init_ctx(ctx, conf, share);
    memcpy(ctx->sessions, sessions, sizeof(sessions));
    memcpy(ctx->routes, routes, sizeof(routes));
    ctx->fence = &mesh_fence;
    ctx->topics = &parts->topics;
    topics_init(&parts->topics, subscriptions_of);
    rebind_init(ctx);
    ctx->tls = &parts->tls;
    ctx->transport = &tls_transport_ops;
    tls_init(&parts->tls, ctx, &client_tls_ops);
    ctx->auth = &parts->auth;
    auth_init(&parts->auth, conf);
    ctx->sender = &parts->sender;
    ctx->receiver = &parts->receiver;
    sender_init(&parts->sender, ctx);
    http2_init(&parts->http2, ctx);
    ctx->ws_compression = &parts->ws_compression;
    ctx->gunzip = &parts->gunzip;
    ctx->compression = &parts->compression;
    ctx->incidents = &parts->incidents;
    incidents_init(&parts->incidents);
    ctx->inspect = &parts->inspect;
    inspect_init(&parts->inspect, ctx, CTL_FD, questions);
    marks_init(&parts->marks, ctx);
    slow_log_open(&parts->slow, ctx);
    access_log_open(&parts->access, ctx);
    tracer_open(&parts->tracer, ctx);
    if (r == 0)
        r = mesh_init(&parts->mesh, ctx, push_from_sibling);
    return r == 0 ? jsonrpc_init(&parts->jsonrpc, ctx) : r;
}

int parts_init_pool(struct pool *pool, struct ctx *ctx, unsigned index)
{
    return pool_init(pool, ctx, index, &call_job_ops, push_from_worker);
}

void parts_deinit(struct parts *parts, struct ctx *ctx)
{
    inspect_forget(&parts->inspect);
    incidents_deinit(&parts->incidents);
    jsonrpc_deinit(&parts->jsonrpc);
    http2_deinit(&parts->http2);
    ws_compression_deinit(&parts->ws_compression);
    gunzip_deinit(&parts->gunzip);
    compression_deinit(&parts->compression);
    topics_deinit(&parts->topics);
    mesh_deinit(&parts->mesh);
    tls_deinit(&parts->tls);
    auth_deinit(&parts->auth);
    tracer_close(&parts->tracer, ctx);
    access_log_close(&parts->access, ctx);
    slow_log_close(&parts->slow, ctx);
    marks_deinit(&parts->marks, ctx);
    deinit_ctx(ctx);
}
