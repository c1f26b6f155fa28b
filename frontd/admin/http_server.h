#pragma once

/*
 * The HTTP/1.1 server of the admin process: few connections, one request after the other on each,
 * no bodies of requests. What a request is answered with is the business of http_server_ops.
 */

#include <uv.h>

#include "frontd/codec/http1.h"

enum {
    HTTP_CONNS_MAX = 64,     /* beyond it one that is idle is closed, or the new one is refused */
    HTTP_LISTENING_MAX = 32, /* sockets */
    HTTP_REQUEST_HEAD_MAX = 8192, /* bytes of a request's head */
    HTTP_REQUEST_FIELDS_MAX = 64,
};

/* How long a client may take, ms. */
struct http_times {
    uint64_t head;   /* for the whole head of a request, from its first byte */
    uint64_t idle;   /* between two requests */
    uint64_t stall;  /* without a byte of an answer taken */
    uint64_t write;  /* for one whole answer */
    uint64_t linger; /* to see an answer before the connection is closed */
};

struct http_conn;
struct http_server;

/* What a request is answered with. */
struct http_answer {
    unsigned status;
    const char *content_type; /* NULL: no body */
    struct span fields; /* further fields, each ending in CRLF; borrowed until the call ends */
    struct span body;   /* borrowed for good, where `owned` is empty */
    struct buf owned;   /* the body, consumed */
};

struct http_server_ops {
    /*
     * A request. head: valid until this returns. Either http_conn_answer() is called now, or
     * `conn->waits` is set, and it is called later, or `cancel` is.
     */
    void (*request)(struct http_conn *conn, const struct http1_head *head);
    /* The connection ends while it waits: conn->waits is not needed any more. */
    void (*cancel)(struct http_conn *conn);
    /* After http_server_finish(): no connection is left. */
    void (*finished)(struct http_server *server);
};

enum http_conn_state {
    HTTP_CONN_FREE,
    HTTP_CONN_READING, /* a request; or there is none yet */
    HTTP_CONN_WAITING, /* until it is known what to answer */
    HTTP_CONN_WRITING,
    HTTP_CONN_LINGERING, /* what still comes is thrown away */
    HTTP_CONN_CLOSING,   /* until libuv lets go of it */
};

struct http_conn {
    struct http_server *server;
    void *waits; /* of http_server_ops: for what it waits */
    uv_poll_t poll;
    uv_timer_t deadline;
    int fd;
    enum http_conn_state state;
    uint8_t handles; /* that libuv has */
    bool busy;       /* its state is being worked on: calls do not nest */
    bool fresh;      /* no request has come yet */
    bool local;      /* TCP, at a loopback address */
    bool keep_alive; /* another request may follow */
    bool head_only;  /* HEAD: no body is sent */
    unsigned minor;  /* of the request's version */
    uint64_t since; /* ms: when the request's first byte came, or its answer began; 0: it has not */
    size_t lingered; /* bytes thrown away */
    struct http1 parser;
    struct buf in;
    struct buf out; /* the head of the answer */
    struct span body;
    struct buf owned; /* the memory of `body`, where it is not borrowed */
};

struct http_listening {
    struct http_server *server;
    uv_poll_t poll;
    int fd;
    bool local; /* TCP, at a loopback address */
};

struct http_server {
    uv_loop_t *loop;
    const struct http_server_ops *ops;
    void *data; /* of whoever uses it */
    struct http_conn conns[HTTP_CONNS_MAX];
    struct http_listening listening[HTTP_LISTENING_MAX];
    uint32_t nlistening;
    uv_timer_t pause; /* where no descriptors are left */
    struct http_times times;
    bool finishing;
    struct http1_head head; /* scratch */
};

/* Serves nothing yet. server: zeroed. */
void http_server_init(
    struct http_server *server, uv_loop_t *loop, const struct http_server_ops *ops);

/* Accepts at a listening socket. fd: consumed by http_server_close(). Returns 0 or -errno. */
int http_server_listen(struct http_server *server, int fd);

/*
 * Accepts no more, closes what is idle, and finishes the requests that it has; `finished` is told,
 * perhaps before this returns.
 */
void http_server_finish(struct http_server *server);

/* How many connections there are. */
unsigned http_server_count(const struct http_server *server);

/* For http_conn.c and those who answer */

/* Begins with a connection that was accepted; fd: consumed. conn: a free one. */
void http_conn_open(struct http_conn *conn, struct http_server *server, int fd, bool local);

/* Sends the answer to its request. answer->owned: consumed. */
void http_conn_answer(struct http_conn *conn, struct http_answer *answer);

/* No request follows the one in progress; one that is idle is closed. */
void http_conn_finish(struct http_conn *conn);

/* Ends it at once. */
void http_conn_close(struct http_conn *conn);

/* libuv has let go of a connection. */
void http_server_freed(struct http_server *server);
