#include "frontd/shard/request/progress.h"

#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/codec/event_stream.h"
#include "frontd/shard/push/fanout.h"

bool progress_wanted(const struct request *request, const struct http_head *head)
{
    if (LIKELY(!request->route->progress))
        return false;
    return client_is_duplex(request->client) || (head != NULL && event_stream_accepted(head));
}

/* Begins the answer: its status says only that the call has been taken. */
static bool open_stream(struct request *request)
{
    const struct reply reply = {.status = 200,
        .fields = SPAN("Content-Type: text/event-stream\r\nCache-Control: no-store\r\n")};
    struct client *client = request->client;
    if (client_session(client)->begin(request, &reply) != SESSION_PARTS)
        return false;
    request->streams = client->streams = true;
    return true;
}

/* Sends an event. A JSON text has line ends between its members only, where spaces mean the same.
 */
static int put_event(struct request *request, struct span text)
{
    const struct span begin = SPAN("data: "), end = SPAN("\n\n");
    struct buf event = {0};
    char *room = buf_room(&event, begin.n + text.n + end.n);
    if (room == NULL)
        return -ENOMEM;
    memcpy(room, begin.p, begin.n);
    for (size_t i = 0; i < text.n; i++)
        room[begin.n + i] = text.p[i] == '\n' || text.p[i] == '\r' ? ' ' : text.p[i];
    memcpy(room + begin.n + text.n, end.p, end.n);
    buf_added(&event, begin.n + text.n + end.n);
    struct span bytes = {buf_data(&event), buf_len(&event)};
    request->bytes_out = (uint32_t)MIN((uint64_t)request->bytes_out + bytes.n, UINT32_MAX);
    client_session(request->client)->part(request, bytes);
    buf_deinit(&event);
    return 0;
}

/* Whether what has been told before has gone out, but for as much as may wait for any client. */
static bool has_room(struct request *request, size_t n)
{
    struct client *client = request->client;
    struct ctx *ctx = client->ctx;
    if (ctx_memory(ctx) >= MEMORY_SHORT || client->state >= CLIENT_ENDING)
        return false;
    size_t unsent = request->streams ? client_session(client)->unsent(request)
                                     : client_waiting(client);
    return unsent + n <= ctx->conf->limits.write_buffer;
}

const char *progress_tell(struct call *call, struct span text, bool binary)
{
    struct request *request = call->owner;
    struct client *client = request->client;
    if (!request->progress)
        return "the client has not asked for progress";
    if (client_is_duplex(client)) {
        struct shared shared = {.payload = text, .binary = binary};
        client_session(client)->deliver(client, &shared);
        shared_deinit(&shared);
        return NULL;
    }
    if (binary)
        return "a binary message cannot be sent over HTTP";
    if (has_room(request, text.n) && (request->streams || open_stream(request)))
        put_event(request, text); /* without memory it is dropped as well */
    return NULL;
}

void progress_end(struct request *request, struct span body)
{
    const struct session_ops *session = client_session(request->client);
    if (request->client->state >= CLIENT_ENDING || put_event(request, body) < 0)
        session->break_off(request);
    else
        session->finish(request);
}
