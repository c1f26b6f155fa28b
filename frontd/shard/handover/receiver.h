#pragma once

/* The new generation's side of the hand-over: connections of old shards become this shard's. */

#include <uv.h>

#include "common/wheel.h"
#include "frontd/config/config.h"
#include "frontd/shard/handover/message.h"

struct acceptor;
struct ctx;
struct receiver;

/* An old shard. */
struct source {
    struct receiver *receiver;
    uv_poll_t poll;
    int fd;
    unsigned seat;
    bool used;
    bool open;
    bool greeted;           /* HELLO has been sent */
    bool waiting;           /* `batch` has come and is not answered */
    bool holding;           /* `batch` was taken, and waits for YOURS */
    bool refused;           /* its last batch was, for want of room */
    uint64_t since;         /* ms: siblings are waited for, until they are heard, since */
    uint64_t said_at;       /* ms: its last message */
    struct positions heard; /* what is not later has no connection to wait for */
    struct handover_message batch;
    int fds[FDPASS_FDS_MAX];
    struct client *clients[HANDOVER_BATCH_MAX]; /* holding: of the batch; NULL: one was not taken */
};

/* All zero before receiver_init(). */
struct receiver {
    struct ctx *ctx;
    struct acceptor *acceptor;
    struct wheel_timer timer; /* looks again while siblings are to be heard */
    struct source sources[CONF_SHARDS_MAX];
    size_t used; /* sources: none but during a hand-over */
};

/* acceptor: its clients are those that come; borrowed. */
void receiver_init(struct receiver *receiver, struct acceptor *acceptor);

/* A socket to the old shard on that seat. fd: consumed. 0 or -errno. */
int receiver_add(struct receiver *receiver, unsigned seat, int fd);

/* At the end of a turn: takes the batches that had to wait until siblings were heard. */
void receiver_turn(struct receiver *receiver);

/*
 * Whether channels that only push should not be read for now, since
 * - the journal keeps much for connections that are about to come, or
 * - such connections wait until what siblings have sent is carried out.
 */
bool receiver_overloaded(const struct receiver *receiver);

/* Whether a batch waits for siblings to be heard: look again when the turn ends. */
bool receiver_waiting(const struct receiver *receiver);

/* The timer kind TIMER_RECEIVER. */
void receiver_timeout(struct wheel_timer *timer);

/* Lets go of everything. Accepts one that receiver_init() was never called for. */
void receiver_shut(struct receiver *receiver);
