#pragma once

/*
 * The opening handshake of WebSocket, the server's side (RFC 6455 section 4.2). Pure, but for what
 * libcrypto allocates while it computes SHA-1.
 */

#include "frontd/codec/http_head.h"

enum {
    WS_ACCEPT_SIZE = 29, /* the value of Sec-WebSocket-Accept and NUL */
};

/*
 * Whether a request asks for WebSocket: an extended CONNECT (RFC 8441); or for an upgrade to it:
 * GET, HTTP/1.1 or later, `websocket` among the tokens of Upgrade and `upgrade` among those of
 * Connection (all case-insensitive).
 */
bool ws_wanted(const struct http_head *head);

/*
 * Checks the rest of the handshake.
 *
 * origins: what may stand in Origin, compared as ASCII without case; "*" allows all. norigins 0:
 * all are allowed. A client that sends no Origin (no browser) is let in; when there are several
 * fields Origin, each has to be allowed. protocols: what the server speaks, the preferred one
 * first, compared with case. The first one that the client lists is chosen.
 *
 * An extended CONNECT has no key, and *ret_accept is empty then.
 *
 * Returns 0 with *ret_accept and *ret_protocol (index into protocols, -1: none), or the HTTP
 * status to refuse with:
 * - 400: Sec-WebSocket-Key missing, repeated or not 16 bytes in base64; Sec-WebSocket-Protocol
 *   malformed
 * - 403: Origin
 * - 426: Sec-WebSocket-Version missing, repeated or not 13: the answer has to say
 *   Sec-WebSocket-Version: 13
 * - 500: libcrypto has no memory or no SHA-1
 */
int ws_handshake(const struct http_head *head, char *const *origins, size_t norigins,
    char *const *protocols, size_t nprotocols, char ret_accept[static WS_ACCEPT_SIZE],
    int *ret_protocol);
