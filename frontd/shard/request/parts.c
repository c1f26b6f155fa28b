/*
 * The worker's first part → begins() → the route's begins() → parts_open(); each further
 * one → goes_on(); the last one, or what has gone wrong → the route's ended() →
 * parts_end(). At the end of a turn that has written to the client → credit().
 *
 * Each part but for the last may itself end the answer: the worker has sent more than it said, or
 * memory is out, or events come to an end in a shard that leaves. Then its call is cancelled.
 */

#include "frontd/shard/request/parts.h"

#include "frontd/shard/request/account.h"
#include "frontd/shard/request/progress.h"
#include "frontd/shard/request/route_ops.h"
#include "frontd/shard/request/upload.h"

static const char too_long[] = "longer than its content-length";

static bool begins(struct call *call, const struct outcome *outcome, enum rpc_error *ret_error)
{
    struct request *request = call->owner;
    if (request->asking || request->is_batch || route_ops_of(request)->begins == NULL ||
        client_session(request->client)->begin == NULL)
        return false;
    return route_ops_of(request)->begins(request, outcome, ret_error);
}

/* Whether the answer has come to where it can be continued elsewhere, and should be. */
static bool may_end(const struct request *request)
{
    return request->ends && request->is_events && event_stream_between(&request->events);
}

/* These bytes go out. Returns false where the body is longer than its head has said. */
static bool send_part(struct request *request, struct span bytes)
{
    request->bytes_out = (uint32_t)MIN((uint64_t)request->bytes_out + bytes.n, UINT32_MAX);
    return client_session(request->client)->part(request, bytes);
}

/* The same, compressed. What stays inside goes out at the end of the turn. */
static enum rpc_error send_compressed(
    struct request *request, struct span bytes, enum compress_until until)
{
    struct span coded;
    enum rpc_error error = compress_part(
        &request->coding, request->client->ctx, bytes, until, &coded);
    client_touch(request->client);
    if (error == 0 && !send_part(request, coded))
        error = RPC_BAD_RESPONSE;
    return error;
}

/* The body is complete. Returns 0, the request is gone then; or why it is not. */
static enum rpc_error finish(struct request *request)
{
    enum rpc_error error = 0;
    if (request->coding.coder != NULL)
        error = send_compressed(request, (struct span){0}, COMPRESS_FINISH);
    if (error == 0 && !client_session(request->client)->finish(request))
        error = RPC_BAD_RESPONSE;
    return error;
}

/* Server-Sent Events end here, and are complete for the client. */
static void end_events(struct request *request)
{
    request_cancel(request);
    if (finish(request) != 0)
        client_session(request->client)->break_off(request);
}

/* The bytes that are sent of these: not all, where events end within them. */
static struct span pass_events(struct request *request, struct span bytes)
{
    size_t n = request->is_events ? event_stream_pass(&request->events, bytes) : 0;
    if (!request->ends || n == 0)
        return bytes;
    request->events = (struct event_stream){0}; /* between two */
    return (struct span){bytes.p, n};
}

/* Sends bytes of the body. Returns 0, or why they cannot be sent. */
static enum rpc_error put_part(struct request *request, struct span bytes)
{
    bytes = pass_events(request, bytes);
    if (UNLIKELY(request->coding.coder != NULL))
        return send_compressed(
            request, bytes, request->is_events ? COMPRESS_FLUSH : COMPRESS_GATHER);
    return send_part(request, bytes) ? 0 : RPC_BAD_RESPONSE;
}

/* Adds bytes of the body. Returns 0, or why the answer ends early. */
static enum rpc_error add_part(struct request *request, struct span bytes)
{
    struct client *client = request->client;
    if (client->state >= CLIENT_ENDING)
        return RPC_WORKER_LOST;
    if (UNLIKELY(ctx_memory(client->ctx) == MEMORY_OUT) &&
        client_session(client)->unsent(request) > 0)
        return RPC_OVERLOADED;
    return put_part(request, bytes);
}

bool parts_open(struct request *request, const struct reply *reply)
{
    struct client *client = request->client;
    struct ctx *ctx = client->ctx;
    struct reply coded;
    if (UNLIKELY(request->route->compress != NULL)) {
        compress_begin(&request->coding, ctx, request->route->compress, reply, &coded);
        reply = &coded;
    }
    enum session_parts parts = client_session(client)->begin(request, reply);
    if (parts != SESSION_PARTS)
        compress_end(&request->coding, ctx);
    if (parts == SESSION_NO_BODY) {
        request_cancel(request);
        request_reply(request, reply);
    }
    if (parts != SESSION_PARTS)
        return false;
    request->streams = client->streams = true;
    request->is_events = !reply->has_length && event_stream_is(reply->fields); /* may be shorter */
    request->ends = ctx->leaving || ctx->draining;
    request->code = metric_code_of_answer(reply->status);
    if (UNLIKELY(request->mark != NULL))
        request->mark->status = (uint16_t)reply->status;
    if (put_part(request, reply->body) != 0) { /* it fits, but may not be compressed */
        request_cancel(request);
        request->code = metric_code_of_error(RPC_OVERLOADED);
        client_session(client)->break_off(request);
    } else if (may_end(request)) {
        end_events(request);
    }
    return true;
}

static enum rpc_error goes_on(struct call *call, struct span bytes)
{
    struct request *request = call->owner;
    enum rpc_error error = add_part(request, bytes);
    if (error == 0 && may_end(request))
        end_events(request);
    if (UNLIKELY(error == RPC_BAD_RESPONSE)) {
        const struct job *job = &call->job;
        call_log_bad_answer(
            &(struct outcome){.worker = job->worker, .method = job_method(job)}, too_long);
    }
    return error;
}

enum metric_code parts_end(struct request *request, const struct outcome *outcome)
{
    enum metric_code code = request->code;
    enum rpc_error error = outcome->error;
    if (error == 0)
        error = add_part(request, outcome->blob);
    const char *wrong = too_long;
    if (error == 0) {
        wrong = "shorter than its content-length";
        error = finish(request);
    }
    if (error == 0)
        return code;
    if (error == RPC_BAD_RESPONSE && outcome->error == 0)
        call_log_bad_answer(outcome, wrong);
    code = metric_code_of_error((int)error);
    request->code = code;
    client_session(request->client)->break_off(request);
    return code;
}

static void flush(struct client *client)
{
    list_for_each (node, &client->requests) {
        struct request *request = container_of(node, struct request, node);
        if (!request->streams || request->coding.coder == NULL || !request->coding.coder->gathers)
            continue;
        if (send_compressed(request, (struct span){0}, COMPRESS_FLUSH) != 0) {
            client_doom(client); /* no memory */
            return;
        }
    }
}

static void credit(struct client *client)
{
    const struct session_ops *session = client_session(client);
    list_for_each (node, &client->requests) {
        struct request *request = container_of(node, struct request, node);
        if (request->streams && !list_empty(&request->calls))
            call_credit(list_first(&request->calls, struct call, node), session->unsent(request));
    }
}

static void leave(struct client *client)
{
    list_for_each_safe (node, &client->requests) {
        struct request *request = container_of(node, struct request, node);
        if (!request->streams || list_empty(&request->calls))
            continue;
        request->ends = true;
        if (may_end(request)) {
            end_events(request);
            leave(client); /* others may have gone out behind it, and be gone */
            return;
        }
    }
}

static const struct call_parts_ops call_parts_ops = {
    .begins = begins,
    .goes_on = goes_on,
    .room = upload_on_room,
    .progress = progress_tell,
};

static const struct parts_ops parts_ops = {
    .flush = flush,
    .credit = credit,
    .leave = leave,
};

void parts_register(struct ctx *ctx)
{
    ctx->call_parts_ops = &call_parts_ops;
    ctx->parts_ops = &parts_ops;
}
