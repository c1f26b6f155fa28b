#pragma once

/*
 * Connections that go from an old shard to a new one (shard_pair.h) while a worker of each shard
 * pushes to them; for tests of the hand-over. A run opens them, hands them over, with something
 * going wrong where that is asked for, hands the rest over with another socket, and has all of them
 * say what they have not said yet. What each is sent besides pushes is what it is sent where it
 * stays (moving_refer()); pushes come once and in order.
 */

#include "common/base.h"
#include "tests/unit/support/shard_pair.h"

enum moving_framing {
    HTTP,
    WS,
    FRAMES,
    LINES,
    WS_H2, /* WebSocket on stream 1 of a connection of HTTP/2, which speaks moving_over_h2 */
};

/* What else there is to a connection. */
enum moving_how {
    USUAL,
    UNREAD,  /* much is pushed to it; it does not read until the hand-over is over */
    SHUT,    /* its side is shut after `before`, and nothing of that was read */
    ENDING,  /* its side is shut after `after` */
    LATE,    /* it comes during the hand-over */
    UPDATED, /* its keys are updated before and after */
};

/* What is said before the hand-over and after it. */
struct moving_kind {
    const char *name;
    const char *listener;
    struct span before;
    struct span after;
    enum moving_framing framing;
    enum moving_how how;
};

#define SAID(literal)                                                                              \
    {                                                                                              \
        literal, sizeof(literal) - 1                                                               \
    }

#define GET    "GET /none HTTP/1.1\r\nHost: h\r\n\r\n"
#define GET_4  GET GET GET GET
#define GET_56 GET_4 GET_4 GET_4 GET_4 GET_4 GET_4 GET_4 GET_4 GET_4 GET_4 GET_4 GET_4 GET_4 GET_4

enum {
    MOVING_OUT_MAX = 1 << 16,
    MOVING_PUSHES_MAX = 400, /* to one connection, of one worker */
    MOVING_MAX = 40,         /* connections */
};

struct moving_speech;

struct moving_conn {
    const struct moving_kind *kind;
    const struct moving_speech *speech;
    unsigned index;
    uint64_t id; /* 0: it is not there yet */
    int peer;
    bool lost; /* it was closed before it has said everything */
    size_t n;
    size_t nexpected[SIDES];
    unsigned expected[SIDES][MOVING_PUSHES_MAX]; /* numbers of the pushes of a side's worker */
    size_t nrest;
    char out[MOVING_OUT_MAX];  /* what it was sent */
    char rest[MOVING_OUT_MAX]; /* the same without pushes */
};

/* How a client speaks on its socket. */
struct moving_speech {
    /* Connects it to the old shard: conn->peer is the client's end. */
    struct client *(*open)(struct moving_conn *conn);
    /* Says `before`, and what else there is to be said before the hand-over. */
    void (*before)(struct moving_conn *conn);
    /* A turn of the hand-over is over. NULL: nothing is said then. */
    void (*meanwhile)(struct moving_conn *conn);
    /* Says the rest. */
    void (*after)(struct moving_conn *conn);
    /* Takes what has come, up to `n` bytes of it. */
    size_t (*listen)(struct moving_conn *conn, char *out, size_t n);
    /* The test is over: closes its end. */
    void (*close)(struct moving_conn *conn);
};

/* Bytes as they are. */
extern const struct moving_speech moving_plainly;

/*
 * A WebSocket on stream 1 (moving_h2.c): what is said are frames of HTTP/2, behind an extended
 * CONNECT; what has come is what that stream has, with "\r\n\r\n" for the answer to the handshake.
 */
extern const struct moving_speech moving_over_h2;

/* Writes bytes to the socket, which takes them. */
void moving_put(const struct moving_conn *conn, const void *p, size_t n);

/* Connections of a run. */
struct moving_plan {
    const struct moving_kind *kinds;
    size_t nkinds;
    const struct moving_kind *member; /* a kind of which there are `crowd` more */
    size_t crowd;
    /* How the n-th speaks; NULL: plainly. */
    const struct moving_speech *(*speech)(unsigned n);
    /* Before any connection is there: the shards are. NULL: nothing. */
    void (*begin)(void);
    bool keys; /* most connections have some */
};

/* What happens to a hand-over. */
struct moving_run {
    bool stays; /* there is none */
    enum cut cut;
    unsigned at;
    long fails; /* the allocation that fails; negative: none */
};

struct moving_result {
    bool cut;          /* it came to that message */
    bool failed;       /* or that allocation */
    unsigned messages; /* in all */
    size_t closed;     /* connections, when the hand-over was over or cut */
    size_t missed;     /* pushes, by the one connection that has missed the most */
};

/*
 * One run where all stay and speak plainly: what they are sent is what later runs are held to.
 * Stops the clock; moving_end() has it go on.
 */
void moving_refer(const struct moving_plan *plan);
void moving_end(void);

/* One run. Asserts that no descriptor and no memory is left. */
struct moving_result moving_run(const struct moving_plan *plan, const struct moving_run *run);

/*
 * Runs in which the hand-over is cut at each message in each way, until there is none of that
 * number: nothing is closed or missed. messages: how many there are at least.
 */
void moving_cut_everywhere(const struct moving_plan *plan, unsigned messages);

/*
 * Runs in which the n-th allocation fails, for each n. What one that fails may cost, as at any
 * other time: a connection to which a push could not be written is closed; or one push is missed,
 * which could not be encoded, kept for connections on their way, or passed on. least: allocations.
 */
void moving_fail_everywhere(const struct moving_plan *plan, long least);

/* For moving_run.c */

extern struct moving_conn moving_conns[MOVING_MAX];
extern size_t moving_count;

bool moving_takes_pushes(const struct moving_conn *conn);
void moving_open(struct moving_conn *conn);
void moving_subscribe(const struct moving_conn *conn);
void moving_listen(struct moving_conn *conn);

/* Pushes of a side's worker: to one, of `n` bytes at least; to all. crowded: also what is for none.
 */
void moving_push(unsigned side, struct moving_conn *only, size_t n);
void moving_push_to_all(unsigned side, bool crowded);
void moving_forget_pushes(void);

/*
 * Each push came once and in order, for each worker; what else came is in `rest`. Returns how many
 * are missing.
 */
size_t moving_check_pushes(struct moving_conn *conn);
bool moving_is_closed(const struct moving_conn *conn);
