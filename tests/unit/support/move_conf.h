#pragma once

/*
 * The config of tests of clients that move: all kinds of connection, and workers that never come.
 */

#define MOVE_CONF_LIMITS(limits) "limits: {" limits "}\n"

/* What has to be told to workers, which never come, is forgotten at once with queue 0. */
#define MOVE_CONF_REST MOVE_CONF_WITH_QUEUE("10000")

#define MOVE_CONF_WITH_QUEUE(queue)                                                                \
    "listeners:\n"                                                                                 \
    "  - name: web\n"                                                                              \
    "    address: 127.0.0.1:8080\n"                                                                \
    "    routes:\n"                                                                                \
    "      - {path: /rpc, kind: jsonrpc, pool: app, timeout: 1h}\n"                                \
    "      - {path: /ws, kind: websocket, pool: app, headers: [x-who], compression: true}\n"       \
    "      - {path: /ws, host: events.test, kind: websocket, pool: app, events: true, timeout: "   \
    "1h}\n"                                                                                        \
    "  - name: h2c\n"                                                                              \
    "    address: 127.0.0.1:8083\n"                                                                \
    "    h2c: true\n"                                                                              \
    "    h2_websocket: true\n"                                                                     \
    "    routes:\n"                                                                                \
    "      - {path: /rpc, kind: jsonrpc, pool: app, timeout: 1h}\n"                                \
    "      - {path: /ws, kind: websocket, pool: app}\n"                                            \
    "  - {name: lines, address: 127.0.0.1:8081, protocol: line, pool: app}\n"                      \
    "  - {name: frames, address: 127.0.0.1:8082, protocol: frame, pool: app, slow: drop}\n"        \
    "  - {name: proxied, address: 127.0.0.1:8085, proxy_protocol: true, trusted_proxies: "         \
    "[192.0.2.7], routes: [{path: /rpc, kind: jsonrpc, pool: app}]}\n"                             \
    "  - {name: proxied-lines, address: 127.0.0.1:8084, protocol: line, pool: app, "               \
    "proxy_protocol: true, trusted_proxies: [192.0.2.7]}\n"                                        \
    "pools:\n"                                                                                     \
    "  - {name: app, workers: [\"unix:/nonexistent/app.sock\"], wait_for_worker: 1h, "             \
    "queue: " queue "}\n"

#define MOVE_CONF MOVE_CONF_LIMITS("connections_per_peer: 32") MOVE_CONF_REST

#define HANDSHAKE(host)                                                                            \
    "GET /ws HTTP/1.1\r\nHost: " host "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"          \
    "X-Who: me\r\nSec-WebSocket-Version: 13\r\n"                                                   \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

#define HANDSHAKE_DEFLATE                                                                          \
    "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"                 \
    "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10\r\n"                  \
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

/* PROXY headers of a client, and of a proxy's own check. */
#define PROXY_LINE   "PROXY TCP4 203.0.113.5 192.0.2.1 51412 443\r\n"
#define PROXY_LOCAL  "\r\n\r\n\0\r\nQUIT\n\x20\x11\0\0"
#define PROXY_BINARY "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x05\xc0\0\2\1\xc8\xd4\1\xbb"

/* A client's frame with a mask of zero, so that its payload can be read. payload: a literal. */
#define WS_FRAME(first, length, payload) first length "\0\0\0\0" payload
