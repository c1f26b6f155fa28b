#pragma once

/* The old generation's side of the hand-over: this shard's connections go to the new shards. */

#include <uv.h>

#include "common/wheel.h"
#include "frontd/config/config.h"
#include "frontd/ipc/shm_beats.h"
#include "frontd/shard/handover/message.h"

struct client;
struct ctx;
struct sender;

/* A new shard. */
struct target {
    struct sender *sender;
    uv_poll_t poll;
    int fd;
    unsigned seat;
    bool used;
    bool open;
    bool greeted;             /* its HELLO has come */
    bool ready;               /* and this shard has heard every push that HELLO names */
    bool takes_keys;          /* it knows YOURS: connections with keys may go to it */
    bool sent;                /* a batch is on its way */
    bool has_keys;            /* a connection of the batch does: it is acknowledged twice */
    bool answered;            /* TAKEN has come, and YOURS is still to be said */
    bool for_good;            /* answered: no target will take those that were not taken */
    uint64_t greeted_at;      /* ms */
    struct share_pulse pulse; /* of its seat */
    uint64_t asked_at;   /* ms: its answer is due since: its socket came, or the last batch went */
    uint64_t full_until; /* ms: it has no room, and is left out */
    uint64_t given;      /* clients that it has taken */
    uint64_t load;       /* of its connections when the round began, those that count: see UNEVEN */
    uint32_t batch;      /* number of the last one */
    uint32_t count;      /* clients in it */
    size_t bytes;        /* of their states, about */
    int states;          /* has_keys: the memfd with their states; -1: there is none */
    uint8_t taken[HANDOVER_BITS]; /* answered: those that are the target's */
    struct positions at; /* greeted: what it has heard; sent: what was heard here at the freeze */
    struct client *clients[HANDOVER_BATCH_MAX];
};

/* All zero before sender_init(). */
struct sender {
    struct ctx *ctx;
    struct list *all;
    struct target targets[CONF_SHARDS_MAX];
    struct wheel_timer timer;
    struct list kept;       /* clients that no new shard takes, not closed yet */
    uint64_t close_until;   /* ms: the last of them is to be closed by then */
    bool has_targets;       /* there may be new shards that take connections */
    unsigned first;         /* index of the target that is asked first in the next round */
    uint64_t crowded_until; /* ms: too many descriptors are on their way */
    unsigned ticks;         /* of the timer */
    size_t given;           /* clients that were taken, in all */
    uint64_t started;       /* ms: sender_start() */
};

void sender_init(struct sender *sender, struct ctx *ctx);

/* A socket to the new shard on that seat. fd: consumed. 0 or -errno. */
int sender_add(struct sender *sender, unsigned seat, int fd);

/*
 * From now on connections go, each as soon as it is idle.
 *
 * all: the list of the shard's clients. drain_ms: until then clients that no new shard takes are
 * closed, a few at a time. has_targets: false where there is no new shard that could take any.
 */
void sender_start(struct sender *sender, struct list *all, uint64_t drain_ms, bool has_targets);

/* At the end of a turn, before anything is flushed: what is published has to be with the clients
 * that are about to be sent. */
void sender_prepare(struct sender *sender);

/* At the end of a turn: sends the clients that have become idle. */
void sender_turn(struct sender *sender);

/* The timer kind TIMER_SENDER. */
void sender_timeout(struct wheel_timer *timer);

/* Whether a new shard is behind with what is pushed, so that connections wait on their way to it,
 * or so much is kept for them, that channels which only push are better not read for now. */
bool sender_overloaded(struct sender *sender);

/* Whether there are clients that are on their way, or about to be: they are not in the list of the
 * shard's clients. */
bool sender_has_clients(const struct sender *sender);

/* Ends it: clients that are on their way count as not taken, unless the answer has come. */
void sender_shut(struct sender *sender);
