#pragma once

/* A channel: one accepted connection, which comes from a shard of a front (protocol section 1). */

#include "common/idmap.h"
#include "common/list.h"
#include "proto/frame.h"
#include "workerd/framed.h"

struct workerd;

enum channel_state {
    CHANNEL_HELLO,  /* nothing heard yet */
    CHANNEL_OPEN,   /* calls come */
    CHANNEL_LINGER, /* our direction is closed; the end of the front's is waited for, see holds() */
    CHANNEL_CLOSED,
};

struct channel {
    struct framed framed;
    struct list node;     /* worker->channels */
    struct list dirty;    /* worker->dirty */
    struct list of_front; /* front->channels */
    struct front *front;  /* NULL unless the channel is open */
    struct workerd *worker;
    uint64_t serial; /* never the same twice in this process */
    enum channel_state state;
    bool going;       /* GOAWAY was sent or came: ends when its calls have ended */
    bool goaway_sent; /* calls above last_call are the front's to give to others (section 7) */
    bool pinged;      /* PING sent, and nothing heard since */
    uint32_t shard;
    uint32_t peer_max_frame; /* bytes: what the front announced */
    uint32_t peer_state;     /* bytes that it keeps with a connection; 0: none */
    uint64_t last_call;      /* highest call taken */
    uint64_t told;           /* ms: when the front said GOAWAY; 0: it has not */
    uint64_t heard;          /* ms: when something came last, or it was accepted */
    uint64_t since;          /* ms: when the PING or our end was sent, or the front ended */
    struct idmap pending;    /* calls that are not answered yet, by number */
    struct list calls;       /* the same, in order */
    struct list waiting;     /* streams of those that wait for the front to read */
    size_t ncalls;           /* the same, with that of the handler that runs */
    size_t nnotes;           /* those in the list that are notifications */
};

/* Takes a connected descriptor (consumed). Returns 0 or -errno. */
int channel_open(struct workerd *worker, int fd);

/* Closes a channel at once; its calls are cancelled and go on without it. */
void channel_close(struct channel *channel);

/* Says GOAWAY, takes nothing new, and closes when its calls have ended (protocol section 7). */
void channel_go(struct channel *channel, const char *reason);

/* Something is to be written, or the last call has ended: seen to at the end of the turn. */
void channel_touch(struct channel *channel);

/* Writes what waits; then reads on where reading was paused, or closes where it was waited for. */
void channel_flush(struct channel *channel);

/*
 * Does what is due by now: timeouts, PING. Returns when it is to be called next, in ms; UINT64_MAX:
 * not at all.
 */
uint64_t channel_tick(struct channel *channel, uint64_t now);

/*
 * Writes the header of a frame, and returns room for its payload of head->length bytes, which is to
 * be filled at once; or NULL when there is no memory, and then the channel is closed.
 */
char *channel_frame(struct channel *channel, const struct frame_head *head);

/*
 * Whether there is room for a frame that is no answer. Where there is none, it writes first what
 * can be written.
 */
bool channel_has_room(struct channel *channel);

/*
 * Ends a channel because its front breaks the protocol (sections 2 and 7). reason: what GOAWAY
 * says.
 */
void channel_fail(struct channel *channel, const char *reason);
