#pragma once

/*
 * Requests whose tokens wait to be verified, since the turn has had its share of that
 * (WORK_VERIFY_TURN): a flood of tokens that are wrong holds up nobody whose token is known, or
 * who needs none. They go on in the order that they came in, and nothing is read from a client of
 * which one is there, so that each client has one place.
 */

#include "frontd/codec/http_head.h"
#include "frontd/shard/client/client.h"

struct parked {
    struct list node; /* in auth->parked */
    struct client *client;
    struct request *request;
    struct buf head; /* its text: session->head_again() */
    struct buf body;
};

/*
 * Copies what has come of a request of the client, and puts it last. Returns what is to be freed
 * when the request ends; NULL: there is no memory.
 */
struct parked *parked_new(
    struct client *client, struct request *request, const struct http_head *head, struct span body);

/* The request ends. Accepts NULL; returns NULL. */
struct parked *parked_free(struct parked *parked);

/* Bytes that are held for it. Accepts NULL. */
size_t parked_holds(const struct parked *parked);

/* The end of a turn: the first ones go on (requests_ops.unpark), as far as the turn's share goes.
 */
void parked_turn(struct ctx *ctx);

/* Whether some are left for the next turn. */
bool parked_unfinished(const struct ctx *ctx);
