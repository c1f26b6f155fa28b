#pragma once

/*
 * What a connection's bytes mean: one table of functions for each protocol that clients speak. A
 * client has the number of its session (client->session); the tables are in ctx->sessions.
 */

#include "common/pack.h"
#include "frontd/codec/framing.h"
#include "frontd/codec/ws_deflate.h"
#include "frontd/codec/ws_frame.h"
#include "frontd/shard/net/ctx.h"
#include "frontd/shard/net/outqueue.h"

struct affinity;
struct client;
struct http_head;
struct outcome;
struct pending;
struct reply;
struct request;
struct subscription;

/* What a codec remembers of an incomplete request or message; zeroed at its beginning. */
union codec_state {
    struct http1 http1;
    struct ws ws;
    size_t scanned; /* line: bytes known to hold no line end */
};

/*
 * A message for clients of several sessions: encoded once for each session, and once more for each
 * size of window that connections with compression have agreed on. Zeroed but for payload and
 * binary at first.
 */
struct shared {
    struct span payload;
    bool binary;
    bool checked; /* it is binary, or UTF-8 as WebSockets need it */
    bool refused; /* it cannot be sent in a session that it was for */
    struct message *encoded[SESSIONS];
    struct message *deflated[WS_DEFLATE_WINDOWS]; /* from the smallest on; NULL: none yet */
};

enum session_parts {
    SESSION_PARTS,   /* the answer goes out part by part */
    SESSION_WHOLE,   /* it has to be whole when it goes out */
    SESSION_NO_BODY, /* it has no body: its head is all of it */
};

/*
 * The functions are called for a client of this session, unless they say something else. One that
 * may be NULL says what that means.
 */
struct session_ops {
    size_t size;         /* bytes that a connection has for it besides struct client */
    size_t request_size; /* bytes that it keeps with each request: request_of_session() */
    /* Neither side is ever shut alone: where the client's side has ended, the connection ends. */
    bool ends_at_once;

    /* A listener of this protocol has accepted the client. Returns 0 or -ENOMEM. NULL: nothing to
     * do. */
    int (*open)(struct client *client);

    /* Reading */

    /*
     * Uses what is complete of the `n` bytes at `p`, for as long as client_takes() says so or the
     * session changes. Returns how many bytes at *ret_rest, within the given ones, are left.
     */
    size_t (*take)(
        struct client *client, union codec_state *codec, char *p, size_t n, char **ret_rest);
    /*
     * No request may be started: answers what need not wait among the `n` bytes at `p`, and takes
     * it out. Returns how many are left at `p`. NULL: nothing is read meanwhile.
     */
    size_t (*ahead)(struct client *client, union codec_state *codec, char *p, size_t n);
    /*
     * Whether a message is incomplete of which no byte is left: it is in `codec` alone. NULL:
     * false.
     */
    bool (*midway)(const union codec_state *codec, const struct client *client);
    /* An incomplete request or message is in client->pending now. NULL: nothing to do. */
    void (*waiting)(struct client *client);
    /* Bytes of the incomplete message: only bytes that add to them are progress. NULL: all are. */
    size_t (*gathered)(const struct pending *pending);
    /* The client sends no more. Returns false where the connection ends at once. */
    bool (*input_ended)(struct client *client);
    /* The client is read again after a pause, which is not held against it. NULL: nothing to do. */
    void (*resumed)(struct client *client);

    /* Requests */

    /* The text of a request's head, and the head that such a text is, valid until the session takes
     * another one. */
    struct span (*head_text)(const struct http_head *head);
    const struct http_head *(*head_again)(struct span text);
    /* Bytes that it holds with a request, besides request_size. NULL: none. */
    size_t (*request_holds)(struct request *request);
    /* A request ends without an answer: frees what is held with it. NULL: nothing is. */
    void (*abandoned)(struct request *request);
    /* A request has its answer; it is freed. */
    void (*reply)(struct request *request, const struct reply *reply);
    /*
     * Answers whose body goes out part by part. begin() sends the head, unless it says that there
     * are no parts; part() sends one, and returns false where the body is longer than its head has
     * said. finish() ends the body, and returns false where it is shorter; break_off() ends what is
     * sent in such a way that the client can tell. Both end the request, which is freed, but not
     * where finish() returns false. unsent(): bytes of the parts that have not left. NULL: answers
     * go out whole.
     */
    enum session_parts (*begin)(struct request *request, const struct reply *reply);
    bool (*part)(struct request *request, struct span bytes);
    bool (*finish)(struct request *request);
    void (*break_off)(struct request *request);
    size_t (*unsent)(struct request *request);
    /* The worker of a request that `uploads` has room for more of its body. NULL: bodies are taken
     * whole. */
    void (*upload_room)(struct request *request);
    /* The worker that was asked whether the connection is let in has answered, or none can. Returns
     * what became of the call. NULL: the session asks none. */
    enum metric_code (*asked)(struct request *request, const struct outcome *outcome);
    /* The end of a turn of a client that is held (client->held). NULL: the session holds none, or
     * waits for asked(). */
    void (*go_on)(struct client *client);

    /*
     * The end of a turn, before what waits is written: puts more into client->out. Returns whether
     * there is still more, which has no room. Of SESSION_HTTP2 alone.
     */
    bool (*turn)(struct client *client);

    /*
     * Calls each() for every client that this one carries (client_carrier()), until it returns
     * false; it may free that client. Returns whether it never did. NULL: it carries none.
     */
    bool (*each_carried)(
        const struct client *client, bool (*each)(struct client *carried, void *arg), void *arg);

    /* Ending */

    /* When the earliest of the session's own timeouts is due, in ms; UINT64_MAX: never. */
    uint64_t (*due)(const struct client *client);
    /* One of them may be due. */
    void (*expire)(struct client *client);
    /* The process is about to stop: the connection is to end when nothing is in progress. */
    void (*drain)(struct client *client);
    /* The connection is being closed. */
    void (*gone)(struct client *client);

    /* Duplex sessions (NULL in others) */

    /* The route of all that comes on the connection. */
    const struct conf_route *(*route)(const struct client *client);
    /* A JSON object of the handshake's header fields that the route asks for; n == 0: none. */
    struct span (*headers)(const struct client *client);
    /* What the token of its handshake says; NULL: none was asked for. */
    const struct claims *(*claims)(const struct client *client);
    /* Whether it is one of its route's canary (request/canary.h). */
    bool (*canary)(const struct client *client);
    /* The head of the list of its subscriptions. */
    struct subscription **(*subscriptions)(struct client *client);
    /* The worker that it is bound to, and the state that workers keep with it. */
    struct affinity **(*affinity)(const struct client *client);
    /* Sends what a worker pushes. The client may be turned away: it has another session then. */
    void (*deliver)(struct client *client, struct shared *shared);
    /* An answer has no room: drops pushes that wait, where the route says so. */
    void (*yield)(struct client *client);
    /* Closes the connection; WebSocket: with that close code and reason; HTTP/2: with GOAWAY. */
    void (*close)(struct client *client, unsigned code, struct span reason);
    /* Notes why the connection is about to end, unless a reason is known already. */
    void (*set_code)(struct client *client, unsigned code);
    /* Bytes that the session holds for the client, besides what waits to be sent (SESSION_HTTP2
     * too). */
    size_t (*holds)(const struct client *client);
    /* Bytes of answers whose requests are over, and that wait in the session: they are a part of
     * client->held_back. Of SESSION_HTTP2 alone. */
    size_t (*holds_back)(const struct client *client);

    /* Moving to another process (handover/client_state.c) */

    /* NULL: there is nothing to carry, but the client's bytes. */
    void (*save)(const struct client *client, struct pack *pack);
    /*
     * Makes a client, which has HTTP/1's session so far, one of this session (duplex: of the one
     * that its listener's protocol has). Returns 0, -ENOTSUP (its route is not in this config, or
     * serves something else there), -EBADMSG or -ENOMEM: the client is as it was then.
     */
    int (*restore)(struct client *client, struct unpack *unpack);
    /* The connection lives on in another process: its end here is not told or logged. */
    void (*forget)(struct client *client);
    /* The version of what save_codec() would write: that of its section. NULL: 1. */
    unsigned (*codec_version)(const union codec_state *codec);
    /* What the codec has to remember of the incomplete message in client->pending. NULL: its bytes
     * are all. */
    void (*save_codec)(const union codec_state *codec, struct pack *pack);
    /* The same, read again; bytes: what is pending. Returns 0 or -EBADMSG. NULL: nothing follows,
     * of version 1. */
    int (*restore_codec)(
        struct span bytes, union codec_state *ret_codec, struct unpack *unpack, unsigned version);
};
