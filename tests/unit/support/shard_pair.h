#pragma once

/*
 * An old and a new shard in one process, for tests of the hand-over: under a clock of their own,
 * with the sockets that the supervisor makes for them, and with a hand-over that can be cut at any
 * of its messages.
 */

#include "frontd/shard/client/acceptor.h"
#include "frontd/shard/upstream/worker.h"
#include "tests/unit/support/shardlet.h"

enum { OLD, NEW, SIDES };

struct side {
    struct shardlet shardlet;
    struct acceptor acceptor; /* of the new one: for connections of the other shard */
    struct list *clients;     /* all of the shard's, as at the end of a turn */
    struct worker worker;     /* no more of it than what a push is asked for */
};

extern struct side sides[SIDES];

/* In which way the hand-over is cut at a message. Its sender and its receiver are either side. */
enum cut {
    CUT_NEVER,
    CUT_NOT_SENT,        /* it cannot be sent: the connection between the two is broken */
    CUT_SENT,            /* the connection is broken behind it */
    CUT_RECEIVER_UNREAD, /* its receiver ends the hand-over before it has read it */
    CUT_RECEIVER_READ,   /* its receiver ends the hand-over when it has read it */
    CUT_SENDER,          /* its sender ends the hand-over */
    CUTS,
};

/* From here on the clock of this process, CLOCK_MONOTONIC, stands still but for turns. */
void pair_stop_clock(void);
void pair_start_clock(void);

/* Makes the two shards, which know each other as siblings. */
void pair_open(const char *conf);

/* Ends both; CHECKs that nothing is left. */
void pair_close(void);

/* A socket for the hand-over, to both, as with CTL_TAKE and CTL_GIVE. */
void pair_connect(void);

/* The old shard leaves, as with CTL_LEAVE. */
void pair_leave(void);

/* Whether it has connections that are not at the new shard yet. */
bool pair_is_leaving(void);

/* The hand-over is cut at this message, counting from 1 and from here on. */
void pair_cut_at(enum cut cut, unsigned message);

/* Whether it has been. */
bool pair_was_cut(void);

/*
 * Whether CUT_NOT_SENT and CUT_SENT have the message's receiver end the hand-over at once, so that
 * its end of the socket is closed. Else the socket itself is shut, which in truth no third party
 * can do: with keys its end would say what is not so.
 */
void pair_ends_when_cut(bool on);

/* How many messages were sent (with CUT_RECEIVER_READ: read) since pair_cut_at(). */
unsigned pair_messages(void);

/* A turn of both loops, some ms later. */
void pair_turn(void);

/* Turns, until nothing that was pushed is on its way to the other shard, or to a connection. */
void pair_settle(void);
