#pragma once

/*
 * What an operator is told of requests that are refused and of clients that are closed, none of
 * which is worth a line of its own: each kind is counted, the first is logged at once, and then
 * there is a line every LOG_LIMIT_MS with how many there were.
 */

#include "frontd/shard/client/client.h"
#include "frontd/shard/tls/tls_failure.h"
#include "proto/errors.h"

enum refusal {
    REFUSED_NOT_JSON,
    REFUSED_NOT_RPC,
    REFUSED_METHOD, /* no pool of the route takes it */
    REFUSED_TOO_LARGE,
    REFUSED_OVERLOADED,
    REFUSED_TOO_LATE,    /* no answer in time */
    REFUSED_NO_ROUTE,    /* 404 */
    REFUSED_VERB,        /* 405 */
    REFUSED_FORBIDDEN,   /* 403, -32009 */
    REFUSED_UPGRADE,     /* 426 */
    REFUSED_HTTP,        /* 400 and the like: the HTTP itself is wrong */
    REFUSED_BUSY,        /* 503 */
    REFUSED_WEBSOCKET,   /* the client breaks its protocol */
    REFUSED_HTTP2,       /* the same, over HTTP/2 */
    REFUSED_HTTP2_FLOOD, /* more than HTTP/2 has a use for: see codec/h2_conn.h */
    REFUSED_STREAMS,     /* limits.streams */
    REFUSED_BINARY,      /* a binary message where texts are wanted */
    REFUSED_PEER_LIMIT,  /* limits.connections_per_peer */
    REFUSED_ADDRESS,     /* allow, deny of the listener */
    REFUSED_TOKEN,       /* auth: no token, or one that is not taken */
    CLOSED_TOKEN_ENDED,  /* auth, expires: close: the token of a WebSocket has ended */
    CLOSED_SLOW_READER,  /* does not take what waits for it */
    CLOSED_SLOW_PUSH,    /* slow: close */
    CLOSED_SLOW_SENDER,  /* a request or message that does not come on */
    CLOSED_NO_BYTE,      /* limits.first_byte_timeout */
    CLOSED_SILENT,       /* no sign of life */
    CLOSED_HANDSHAKE,    /* TLS: handshake_timeout, or it does not come on and others wait */
    REFUSED_NOT_TLS,     /* what comes is no TLS */
    REFUSED_NOT_SHARED,  /* TLS: nothing that both sides know: a version, a cipher, ALPN */
    REFUSED_CERTIFICATE, /* TLS: the client's, or that there is none */
    REFUSED_BY_CLIENT,   /* TLS: it gives up */
    REFUSED_TLS,         /* TLS: it breaks the protocol */
    FAILED_TLS,          /* TLS: our own fault */
    REFUSED_NO_PROXY,    /* proxy_protocol: not from one of trusted_proxies */
    REFUSED_HEADER,      /* the same, from one of them: no PROXY header, or a wrong one */
    CLOSED_NO_HEADER,    /* the same: none in limits.first_byte_timeout */
    REFUSALS
};

/* Counts one more of that kind, of that client, whose connection ends but for REFUSED_STREAMS. */
void refusal_note(struct client *client, enum refusal kind);

/* The same for REFUSED_METHOD, with the method. peer: of the request. */
void refusal_note_method(const struct client *client, const struct peer *peer, struct span method);

/* The same for those of TLS, by why it has ended. */
void refusal_note_tls(struct client *client, const struct tls_failure *failure);
/* The same with what it is in particular: a static text. */
void refusal_note_what(struct client *client, enum refusal kind, const char *what);

/* The same for REFUSED_TOKEN of a request, with why: a static text. peer: of the request. */
void refusal_note_token(const struct client *client, const struct peer *peer, const char *why);

/* The same of a peer, where there is no client yet, or it is another one's. */
void refusal_note_peer(struct ctx *ctx, const struct conf_listener *listener,
    const struct peer *peer, enum refusal kind);

/* Counts an answer that the front makes by itself, by its error or status; some are not counted. */
void refusal_note_error(const struct client *client, const struct peer *peer, enum rpc_error error);
void refusal_note_status(const struct client *client, const struct peer *peer, unsigned status);

/* To be called now and then: logs how many of a kind there were since its last line, where none has
 * come since. */
void refusal_tell(uint64_t now);
