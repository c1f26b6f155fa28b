#pragma once

/*
 * What a connection's bytes mean: one table of functions for each protocol that clients speak. A
 * client has the number of its session (client->session); the tables are in ctx->sessions.
 */

#include "common/pack.h"
#include "frontd/codec/framing.h"
#include "frontd/codec/ws_frame.h"
#include "frontd/shard/net/ctx.h"
#include "frontd/shard/net/outqueue.h"

struct client;
struct outcome;
struct pending;
struct reply;
struct request;
struct subscription;

/* What a codec has to remember of an incomplete request or message; zeroed at its beginning. */
union codec_state {
    struct http1 http1;
    struct ws ws;
    size_t scanned; /* line: bytes known to hold no line end */
};

/*
 * A message for clients of several sessions: encoded once for each. Zeroed but for payload and
 * binary at first.
 */
struct shared {
    struct span payload;
    bool binary;
    bool refused; /* it cannot be sent in a session that it was for */
    struct message *encoded[SESSIONS];
};

struct session_ops {
    const char *name;
    size_t size; /* bytes of what a connection has for it besides struct client */

    /*
     * Answers go out as they are there, in any order, and workers push: such connections are in
     * ctx->conns. Else answers go out in the order of the requests.
     */
    bool duplex;
    bool ends_at_once; /* never shuts one side only: where the client's has ended, so has all */

    /* A listener of this protocol has accepted it. Returns 0 or -ENOMEM. NULL: nothing to do. */
    int (*open)(struct client *client);
    /*
     * Uses what is complete of the `n` bytes at `p`, for as long as client_takes() says so or the
     * session changes. Returns how many bytes at *ret_rest, within the given ones, are left.
     */
    size_t (*take)(
        struct client *client, union codec_state *codec, char *p, size_t n, char **ret_rest);
    /*
     * Nothing of the `n` bytes at `p` may be taken up now: answers what need not wait with them,
     * and takes it out. Returns how many are left at `p`. NULL: nothing is read meanwhile.
     */
    size_t (*ahead)(struct client *client, union codec_state *codec, char *p, size_t n);
    /* Whether something is incomplete of which no byte is left: it is in `codec` alone. NULL: not.
     */
    bool (*midway)(const union codec_state *codec, const struct client *client);
    /* The rest has been put aside in client->pending. NULL: nothing to do. */
    void (*waiting)(struct client *client);
    /* Bytes of an incomplete message: what does not add to them is no progress. NULL: all do. */
    size_t (*gathered)(const struct pending *pending);
    /* The client sends no more. Returns false where that ends everything at once. */
    bool (*input_ended)(struct client *client);
    /* When the session's own timeouts are due, in ms; UINT64_MAX: never. */
    uint64_t (*due)(const struct client *client);
    void (*expire)(struct client *client);
    /* It is read again: what was not heard meanwhile is not held against it. NULL: nothing to do.
     */
    void (*resumed)(struct client *client);
    /* A turn ends, and something is held (client->held) that may go on now. NULL: nothing is. */
    void (*go_on)(struct client *client);
    /* The front is about to stop. */
    void (*drain)(struct client *client);
    /* A request has its answer; it is gone afterwards. */
    void (*reply)(struct request *request, const struct reply *reply);
    /* The worker that was asked whether it may stay has answered, or nobody will. */
    void (*asked)(struct request *request, const struct outcome *outcome);
    /* The connection is being closed. */
    void (*gone)(struct client *client);

    /* Of duplex sessions; NULL in others: */

    /* The route of all that comes on it. */
    const struct conf_route *(*route)(const struct client *client);
    /* JSON object of the header fields that the route asks for; n == 0: none. */
    struct span (*headers)(const struct client *client);
    /* Where its subscriptions begin. */
    struct subscription **(*subscriptions)(struct client *client);
    /* Sends what a worker pushes. It may be turned away by it: it has another session then. */
    void (*deliver)(struct client *client, struct shared *shared);
    /* An answer has no room: where the route says so pushes that wait go before it. */
    void (*yield)(struct client *client);
    /* Closes it with that WebSocket close code and reason, where there is such a thing. */
    void (*close)(struct client *client, unsigned code, struct span reason);
    /* Why it is about to end, if nothing else was before. */
    void (*set_code)(struct client *client, unsigned code);
    /* Bytes that it has for itself, whatever is sent. */
    size_t (*holds)(const struct client *client);

    /* For another process (handover/client_state.c); it is known there by its client's protocol: */

    /* NULL: there is nothing to carry. */
    void (*save)(const struct client *client, struct pack *pack);
    /*
     * Makes a client, which has none, one of this session. Returns 0, -ENOTSUP (its route is not in
     * this config, or serves something else there), -EBADMSG or -ENOMEM: it is as it was then.
     */
    int (*restore)(struct client *client, struct unpack *unpack);
    /* It lives on elsewhere: nothing is told or logged when this one ends. */
    void (*forget)(struct client *client);
    /* Of the incomplete message; the version is that of the section. */
    unsigned (*codec_version)(const union codec_state *codec);
    void (*save_codec)(const union codec_state *codec, struct pack *pack);
    int (*restore_codec)(
        struct span bytes, union codec_state *ret_codec, struct unpack *unpack, unsigned version);
};
