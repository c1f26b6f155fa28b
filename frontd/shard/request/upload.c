#include "frontd/shard/request/upload.h"

#include "frontd/shard/request/account.h"
#include "frontd/shard/request/route_ops.h"

uint64_t upload_most(const struct client *client, const struct http_head *head)
{
    const struct conf_route *route;
    if (request_judge(client->ctx, client_listener(client), head, &route) != 0 || route == NULL ||
        route->kind != CONF_HTTP)
        return 0;
    if (UNLIKELY(head->content_coded) && route->gunzip)
        return 0; /* it is inflated in one piece */
    return route->stream_body;
}

void upload_begin(struct request *request, uint64_t most)
{
    request->uploads = true;
    request->upload_left = most;
}

static struct call *call_of(const struct request *request)
{
    if (list_empty(&request->calls))
        return NULL;
    return list_first(&request->calls, struct call, node);
}

size_t upload_room(const struct request *request)
{
    const struct call *call = call_of(request);
    return call == NULL ? 0 : call_part_room(call);
}

void upload_part(struct request *request, struct span bytes, bool last)
{
    if (bytes.n > request->upload_left) {
        upload_fail(request, 413);
        return;
    }
    request->upload_left -= bytes.n;
    request->bytes_in = (uint32_t)MIN((uint64_t)request->bytes_in + bytes.n, UINT32_MAX);
    if (last)
        request->uploads = request->client->uploads = request->client->upload_waits = false;
    if (bytes.n > 0 || last)
        call_send_part(call_of(request), bytes, !last);
}

void upload_fail(struct request *request, unsigned status)
{
    request_cancel(request);
    if (!request->streams) {
        request_status(request, status, (struct span){0});
        return;
    }
    request->code = metric_code_of_status(status);
    client_session(request->client)->break_off(request);
}

void upload_on_room(struct call *call)
{
    struct request *request = call->owner;
    if (request->uploads)
        client_session(request->client)->upload_room(request);
}
