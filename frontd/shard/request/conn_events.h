#pragma once

/* What workers are told of duplex connections, as calls (protocol section 9). */

#include "frontd/shard/client/client.h"

struct affinity;
struct call;
struct call_spec;
struct jsonrpc_request;
struct request;
struct worker;

/*
 * frontd.connect as a notification. head: of the handshake; NULL where there is none. Returns
 * whether workers may know of the connection now.
 */
bool event_connected(struct client *client, const struct http_head *head);

/* frontd.connect as a request, whose answer goes to session->asked(), perhaps from within. */
void event_ask(struct request *request, struct client *client, const struct http_head *head);

/* frontd.disconnect. code: WebSocket close code; 0: none is known. */
void event_disconnected(struct client *client, unsigned code);

/*
 * frontd.rebound: the worker gets a connection that another one had, with the state that is kept
 * with it. A worker that does not take this method is not told. Returns 0, or as worker_notify().
 */
int event_rebound(
    const struct client *client, const struct affinity *affinity, struct worker *worker);

/* frontd.message: a message of a route with `messages: raw`. */
void event_message(struct client *client, struct span payload, bool binary);

/*
 * frontd.response: what a client has answered to a request that a worker has pushed. The call is
 * one of the request's, which may end from within. spec: has the context, and the timeout where it
 * is not the route's. response: a valid one. Returns NULL, or why no worker is told of it; static
 * text.
 */
const char *event_response(
    struct request *request, struct call_spec *spec, const struct jsonrpc_request *response);

/* Whether a call is one of event_response(). */
bool event_is_response(const struct call *call);
