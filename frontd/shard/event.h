#pragma once

/* What workers are told of connections that stay, as calls (protocol section 9). */

#include "frontd/shard/stay.h"

/* frontd.connect as a notification. head: of the handshake; NULL where there is none. */
void event_connected(struct client *client, const struct http1_head *head);

/* frontd.connect as a request, whose answer goes to stay_asked(). It may come from within. */
void event_ask(struct request *request, struct client *client, const struct http1_head *head);

/* frontd.disconnect. */
void event_disconnected(struct client *client);

/* frontd.message: a message of a route with `messages: raw`. */
void event_message(struct client *client, struct span payload, bool binary);
