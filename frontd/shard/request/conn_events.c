/*
 * Events of duplex connections: each is written as JSON and becomes a call of the method
 * frontd.connect, frontd.disconnect, frontd.message or frontd.response, of the pool of the
 * connection's route that takes it.
 */

#include "frontd/shard/request/conn_events.h"

#include <errno.h>

#include "frontd/shard/client/affinity.h"
#include "frontd/shard/client/refusal.h"
#include "frontd/shard/request/account.h"
#include "frontd/shard/request/auth.h"
#include "frontd/shard/request/canary.h"
#include "frontd/shard/request/context.h"
#include "frontd/shard/request/request.h"
#include "frontd/shard/upstream/worker.h"
#include "proto/json_write.h"

static const struct span connect_method = {"frontd.connect", 14};
static const struct span disconnect_method = {"frontd.disconnect", 17};
static const struct span message_method = {"frontd.message", 14};
static const struct span rebound_method = {"frontd.rebound", 14};
static const struct span response_method = {"frontd.response", 15};

static const struct conf_route *route_of(const struct client *client)
{
    return client_session(client)->route(client);
}

/* Appends `,"peer":…}`, and before the end what else is known of the connection itself. */
static int put_params_end(struct buf *out, const struct client *client)
{
    char peer[PEER_TEXT_SIZE];
    client_peer_text(client, peer);
    int r = json_put_raw(out, ",\"peer\":");
    if (r == 0)
        r = json_put_latin1(out, (struct span){peer, strlen(peer)});
    struct span tls = meta_tls(route_of(client), client);
    if (r == 0 && tls.n > 0) {
        r = json_put_raw(out, ",\"tls\":");
        if (r == 0)
            r = buf_append(out, tls.p, tls.n);
    }
    const struct claims *claims = client_session(client)->claims(client);
    if (r == 0 && claims != NULL) {
        r = json_put_raw(out, ",\"auth\":");
        if (r == 0)
            r = buf_append(out, claims->text, claims->n);
    }
    return r == 0 ? json_put_raw(out, "}") : r;
}

static int put_connect_params(
    struct buf *out, const struct client *client, const struct http_head *head)
{
    struct span path = head == NULL ? SPAN("/") : head->path;
    int r = buf_printf(out, "{\"conn\":\"%llu\",\"path\":", (unsigned long long)client->conn.id);
    if (r == 0)
        r = json_put_latin1(out, path);
    if (r == 0)
        r = json_put_raw(out, ",\"query\":");
    if (r == 0)
        r = json_put_latin1(out, head == NULL ? (struct span){0} : head->query);
    if (r == 0)
        r = json_put_raw(out, ",\"headers\":{");
    if (r == 0 && head != NULL)
        r = meta_put_headers(out, route_of(client), head);
    if (r == 0)
        r = json_put_raw(out, "}");
    return r == 0 ? put_params_end(out, client) : r;
}

/* Appends `{"jsonrpc":"2.0",["id":…,]"method":"…"`. *ret_method_at: where the method is. */
static int put_beginning(struct buf *out, const struct client *client, struct span method, bool ask,
    size_t *ret_method_at)
{
    int r = json_put_raw(out, "{\"jsonrpc\":\"2.0\",");
    if (r == 0 && ask)
        r = buf_printf(out, "\"id\":\"%llu\",", (unsigned long long)client->conn.id);
    if (r == 0)
        r = json_put_raw(out, "\"method\":\"");
    *ret_method_at = buf_len(out);
    if (r == 0)
        r = buf_append(out, method.p, method.n);
    return r == 0 ? json_put_raw(out, "\"") : r;
}

/* Makes a call of a text. Returns the pool of the route that takes the method, or -1. */
static int fill_spec(struct call_spec *spec, const struct client *client, const struct buf *text,
    struct span method, size_t method_at)
{
    const struct conf *conf = client->ctx->conf;
    int pool = canary_pool(
        client->ctx, route_of(client), method, client_session(client)->canary(client));
    spec->body = (struct span){buf_data(text), buf_len(text)};
    spec->method = (struct span){buf_data(text) + method_at, method.n};
    spec->conn = spec->flow = client->conn.id;
    struct peer peer = client_peer(client);
    if (pool >= 0 && conf->pools[pool].hash != CONF_HASH_NONE) {
        spec->hash = meta_hash(&conf->pools[pool], client, &peer, NULL, (struct span){0});
        spec->home = affinity_home(client, (uint32_t)pool);
    }
    return pool;
}

/* The same; it is logged where no pool takes the method. */
static int fill_event(struct call_spec *spec, const struct client *client, const struct buf *text,
    struct span method, size_t method_at)
{
    int pool = fill_spec(spec, client, text, method, method_at);
    struct peer peer = client_peer(client);
    if (pool < 0)
        refusal_note_method(client, &peer, method);
    return pool;
}

/* Sends a notification that belongs to no request: it goes to a worker, whatever becomes of the
 * client. */
static void notify(
    struct client *client, struct span method, const struct buf *text, size_t method_at)
{
    struct call_spec spec = {.notify = true};
    int pool = fill_event(&spec, client, text, method, method_at);
    if (pool >= 0)
        request_notify(client->ctx, route_of(client), &spec, (uint32_t)pool);
}

bool event_connected(struct client *client, const struct http_head *head)
{
    struct buf text = {0};
    size_t method_at;
    bool told = false;
    if (put_beginning(&text, client, connect_method, false, &method_at) == 0 &&
        json_put_raw(&text, ",\"params\":") == 0 && put_connect_params(&text, client, head) == 0 &&
        json_put_raw(&text, "}") == 0) {
        told = true;
        notify(client, connect_method, &text, method_at);
    }
    buf_deinit(&text);
    return told;
}

void event_ask(struct request *request, struct client *client, const struct http_head *head)
{
    struct buf text = {0};
    size_t method_at;
    struct call_spec spec = {0};
    struct outcome outcome = {.error = RPC_OVERLOADED};
    request->asking = true;
    request_mark(request, head);
    if (put_beginning(&text, client, connect_method, true, &method_at) < 0 ||
        json_put_raw(&text, ",\"params\":") < 0 || put_connect_params(&text, client, head) < 0 ||
        json_put_raw(&text, "}") < 0) {
        client_session(client)->asked(request, &outcome);
    } else {
        int pool = fill_event(&spec, client, &text, connect_method, method_at);
        outcome.error = RPC_METHOD_NOT_FOUND;
        if (pool < 0)
            client_session(client)->asked(request, &outcome);
        else
            request_call(request, &spec, (uint32_t)pool);
    }
    buf_deinit(&text);
}

void event_disconnected(struct client *client, unsigned code)
{
    struct buf text = {0};
    size_t method_at;
    if (put_beginning(&text, client, disconnect_method, false, &method_at) == 0 &&
        buf_printf(&text, ",\"params\":{\"conn\":\"%llu\",\"code\":%u}}",
            (unsigned long long)client->conn.id, code == 0 ? (unsigned)WS_CODE_LOST : code) == 0)
        notify(client, disconnect_method, &text, method_at);
    buf_deinit(&text);
}

/* The head of the frame is filled in last, when it is known how long the text is. */
static int put_rebound(
    struct buf *out, const struct client *client, const struct affinity *affinity)
{
    size_t method_at;
    if (buf_room(out, FRAME_HEAD_SIZE) == NULL)
        return -ENOMEM;
    buf_added(out, FRAME_HEAD_SIZE);
    int r = put_beginning(out, client, rebound_method, false, &method_at);
    if (r == 0)
        r = buf_printf(out,
            ",\"params\":{\"conn\":\"%llu\",\"headers\":", (unsigned long long)client->conn.id);
    struct span headers = client_session(client)->headers(client);
    if (r == 0)
        r = headers.n == 0 ? json_put_raw(out, "{}") : buf_append(out, headers.p, headers.n);
    if (r == 0)
        r = put_params_end(out, client);
    if (r == 0)
        r = json_put_raw(out, "}");
    if (r == 0 && affinity->n > 0)
        r = buf_append(out, affinity->state, affinity->n);
    if (r < 0)
        return r;
    const struct frame_head head = {
        .type = FRAME_REQUEST,
        .flags = FRAME_F_NOTIFY,
        .conn = client->conn.id,
        .length = (uint32_t)(buf_len(out) - FRAME_HEAD_SIZE),
        .blob_len = affinity->n,
    };
    frame_head_write(&head, (uint8_t *)buf_data(out));
    return 0;
}

int event_rebound(
    const struct client *client, const struct affinity *affinity, struct worker *worker)
{
    struct buf frame = {0};
    if (!worker_takes(worker, rebound_method))
        return 0;
    int r = put_rebound(&frame, client, affinity);
    if (r == 0)
        r = worker_notify(worker, &frame);
    buf_deinit(&frame);
    return r;
}

void event_message(struct client *client, struct span payload, bool binary)
{
    struct buf text = {0};
    struct buf meta = {0};
    size_t method_at;
    struct call_spec spec = {.notify = true, .blob = payload, .binary = binary};
    struct request *request = request_add(client, route_of(client));
    if (request == NULL) {
        client_doom(client);
        return;
    }
    request->class = METRIC_CLASS_MESSAGE;
    account_begin(request);
    request->bytes_in = (uint32_t)payload.n;
    request_mark(request, NULL);
    int pool = -1;
    if (put_beginning(&text, client, message_method, false, &method_at) == 0 &&
        json_put_raw(&text, "}") == 0 &&
        meta_write(&meta, request, NULL, &spec.left_at, &spec.span_at) == 0)
        pool = fill_event(&spec, client, &text, message_method, method_at);
    spec.meta = (struct span){buf_data(&meta), buf_len(&meta)};
    if (pool >= 0)
        request_call(request, &spec, (uint32_t)pool);
    else {
        request->code = METRIC_CODE_OTHER_ERROR;
        request_free(request);
    }
    buf_deinit(&text);
    buf_deinit(&meta);
}

/*
 * Gives the call to the worker that has asked, else to the pool of the route. It may end from
 * within. text: its body. Returns NULL, or why it is not sent.
 */
static const char *send_response(struct request *request, struct call_spec *spec,
    const struct jsonrpc_request *response, const struct buf *text, size_t method_at)
{
    struct client *client = request->client;
    if (jsonrpc_validate(buf_data(text), buf_len(text)) != 0)
        return "it is nested too deep to be a member of params";
    int pool = fill_spec(spec, client, text, response_method, method_at);
    spec->notify = true;
    spec->to = request_asker(client->ctx, request->route, response->id, &pool);
    if (pool < 0)
        return "no pool of the route takes frontd.response";
    if (spec->to != NULL && !worker_usable(spec->to)) /* another one has not asked */
        return "the worker that has asked does not read";
    request_call(request, spec, (uint32_t)pool);
    return NULL;
}

const char *event_response(
    struct request *request, struct call_spec *spec, const struct jsonrpc_request *response)
{
    struct client *client = request->client;
    struct buf text = {0};
    size_t method_at;
    const char *why = "no memory";
    if (put_beginning(&text, client, response_method, false, &method_at) == 0 &&
        buf_printf(&text, ",\"params\":{\"conn\":\"%llu\",\"response\":",
            (unsigned long long)client->conn.id) == 0 &&
        buf_append(&text, response->text.p, response->text.n) == 0 &&
        json_put_raw(&text, "}}") == 0)
        why = send_response(request, spec, response, &text, method_at);
    buf_deinit(&text);
    return why;
}

bool event_is_response(const struct call *call)
{
    return call->job.notify && call->job.method_len == response_method.n &&
           memcmp(call->job.method, response_method.p, response_method.n) == 0;
}
