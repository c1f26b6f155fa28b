/* What a request is answered with: a route's reply, a status, or an error of the front. */

#include "frontd/shard/client/refusal.h"
#include "frontd/shard/request/account.h"
#include "frontd/shard/request/progress.h"
#include "frontd/shard/request/request.h"
#include "frontd/shard/request/route_ops.h"

void request_reply(struct request *request, const struct reply *reply)
{
    if (request->code == METRIC_CODE_CANCELLED) /* else it is known better already */
        request->code = request->route != NULL && route_ops_of(request)->is_json
                            ? METRIC_CODE_OK
                            : metric_code_of_answer(reply->status);
    request->bytes_out = (uint32_t)reply->body.n;
    if (UNLIKELY(request->streams)) {
        progress_end(request, reply->body);
        return;
    }
    if (UNLIKELY(request->mark != NULL))
        request->mark->status = (uint16_t)reply->status;
    client_session(request->client)->reply(request, reply);
}

void request_reply_coded(struct request *request, const struct reply *reply)
{
    const struct conf_compress *conf = request->route->compress;
    struct reply coded;
    if (UNLIKELY(conf != NULL)) {
        compress_whole_answer(&request->coding, request->client->ctx, conf, reply, &coded);
        reply = &coded;
    }
    request_reply(request, reply);
}

void request_status(struct request *request, unsigned status, struct span fields)
{
    char text[64];
    struct peer peer = request_peer(request);
    refusal_note_status(request->client, &peer, status);
    if (request->code == METRIC_CODE_CANCELLED)
        request->code = metric_code_of_status(status);
    int n = snprintf(text, sizeof(text), "%u %s\n", status, http1_reason(status));
    struct reply reply = {
        .status = status,
        .content_type = "text/plain",
        .fields = fields,
        .body = {text, (size_t)n},
    };
    request_reply(request, &reply);
}

/* RFC 6750 section 3.1: a request without a token is not told of an error. */
static struct span challenge_of(const struct request *request)
{
    if (request->page != NULL) /* a page sees only the fields that are exposed to it */
        return request->token_wrong ? SPAN("WWW-Authenticate: Bearer error=\"invalid_token\"\r\n"
                                           "Access-Control-Expose-Headers: WWW-Authenticate\r\n")
                                    : SPAN("WWW-Authenticate: Bearer\r\n"
                                           "Access-Control-Expose-Headers: WWW-Authenticate\r\n");
    return request->token_wrong ? SPAN("WWW-Authenticate: Bearer error=\"invalid_token\"\r\n")
                                : SPAN("WWW-Authenticate: Bearer\r\n");
}

/* Valid until it is called again. */
static struct span fields_of_error(const struct request *request, enum rpc_error error)
{
    static char fields[100];
    if (error == RPC_UNAUTHORIZED)
        return challenge_of(request);
    if (error != RPC_OVERLOADED && error != RPC_RATE_LIMITED)
        return (struct span){0};
    /* A page sees only the fields that are exposed to it. */
    int n = snprintf(fields, sizeof(fields), "Retry-After: %u\r\n%s", MAX(request->retry_after, 1U),
        request->page == NULL ? "" : "Access-Control-Expose-Headers: Retry-After\r\n");
    return (struct span){fields, (size_t)n};
}

void request_error_status(struct request *request, enum rpc_error error)
{
    request->code = metric_code_of_error((int)error);
    request_status(request, rpc_error_status(error), fields_of_error(request, error));
}

void request_error(struct request *request, enum rpc_error error, struct span id)
{
    struct reply reply = {
        .status = rpc_error_status(error),
        .content_type = "application/json",
        .fields = fields_of_error(request, error),
    };
    struct buf text = {0};
    struct peer peer = request_peer(request);
    refusal_note_error(request->client, &peer, error);
    request->code = metric_code_of_error((int)error);
    bool json = route_ops_of(request)->is_json;
    if (json && rpc_error_write(&text, error, id) == 0)
        reply.body = (struct span){buf_data(&text), buf_len(&text)};
    char plain[64];
    if (!json) {
        int n = snprintf(plain, sizeof(plain), "%s\n", rpc_error_message(error));
        reply.body = (struct span){plain, (size_t)n};
        reply.content_type = "text/plain";
    }
    request_reply(request, &reply);
    buf_deinit(&text);
}
