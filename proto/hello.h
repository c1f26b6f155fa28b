#pragma once

/* HELLO and GOAWAY bodies (protocol sections 4 and 7). */

#include "common/buf.h"

enum {
    HELLO_VERSION = 1,
    HELLO_METHODS_MAX = 256,  /* patterns that a worker may announce */
    HELLO_RESPONSES_MAX = 64, /* bytes of `responses` */
    HELLO_E_INVALID = 1,      /* not a JSON object with the members that section 4 requires */
    HELLO_E_VERSION = 2,      /* no common protocol version */
};

struct hello_front {
    const char *instance; /* the front's name: the same for all its shards and generations */
    const char *pool;
    uint64_t generation;
    uint32_t shard;
    uint32_t shards;
    uint32_t max_frame; /* bytes */
    bool stream;        /* feature: answers in parts are relayed part by part (section 8) */
    uint32_t state;     /* bytes of a connection's state that are kept (section 9); 0: none are */
};

/* A worker's HELLO. Zeroed is empty; given back with hello_worker_deinit(). */
struct hello_worker {
    char *name;           /* NULL: absent */
    char *responses;      /* the prefix of the ids of its requests to clients; NULL: absent */
    char **methods;       /* exact names, or prefixes that end in '*' */
    size_t nmethods;      /* 0 with has_methods false: all methods */
    int64_t pid;          /* 0: absent */
    uint32_t concurrency; /* 1 where it is absent; 0: no limit */
    uint32_t max_frame;   /* bytes */
    bool has_methods;
    bool push;   /* feature: it may send frames about connections (section 9) */
    bool stream; /* feature: its answers in parts heed the window (section 8) */
};

/* Appends the front's HELLO body. Returns 0 or -ENOMEM. */
int hello_front_write(struct buf *out, const struct hello_front *hello);

/* Reads a worker's HELLO body. Returns 0, HELLO_E_INVALID, HELLO_E_VERSION or -ENOMEM. */
int hello_worker_read(struct span body, struct hello_worker *ret_hello);
void hello_worker_deinit(struct hello_worker *hello);

/* A front's HELLO, as a worker reads it. */
struct hello_peer {
    char front[64];
    char pool[64];
    char instance[64]; /* the same on each channel of one front */
    uint32_t shard;
    uint32_t max_frame; /* bytes */
    uint32_t state;     /* bytes that it keeps with a connection; 0: none */
};

/* Reads a front's HELLO body. Returns 0, HELLO_E_INVALID, HELLO_E_VERSION or -ENOMEM. */
int hello_front_read(struct span body, struct hello_peer *ret_peer);

/* Appends a worker's HELLO body. Returns 0 or -ENOMEM. */
int hello_worker_write(struct buf *out, const struct hello_worker *hello);

/* Appends a GOAWAY body; last_call is left out when negative. Returns 0 or -ENOMEM. */
int goaway_write(struct buf *out, const char *reason, int64_t last_call);

/*
 * Reads a GOAWAY body. Members that are missing or malformed are empty, and last_call UINT64_MAX:
 * all calls count as taken, since none may run twice.
 */
void goaway_read(struct span body, char *reason, size_t reason_size, uint64_t *ret_last_call);
