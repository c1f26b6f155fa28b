#pragma once

/*
 * Messages on their way to the members of a topic, over as many turns of the loop as it takes: each
 * turn brings them to some of the members, so that one message to very many does not hold up what
 * else is to be done. Messages that lie there together go to each member together, in one write.
 *
 * The stream that they came on waits meanwhile, since the frames after them take effect after them
 * (protocol section 9). Other streams go on; messages to one topic that came on two streams have no
 * order.
 *
 * The members at the time of the first message are sent all of them, unless they leave before. The
 * position of a shard (mesh_positions()) includes messages that are on their way. So they are
 * brought to their end (fanout_finish()) before a connection is frozen to be sent with such a
 * position, and before one that comes back is given what the journal has.
 */

#include "frontd/shard/client/client.h"
#include "frontd/shard/net/framed.h"
#include "frontd/shard/push/topics.h"

enum {
    FANOUT_AT_ONCE = 16,       /* members: a message to so few goes out at once */
    FANOUT_MESSAGES = 64,      /* that go together, as many as one write has room for */
    FANOUT_BYTES = 256 * 1024, /* in all of them: past it no more join */
};

struct fanout {
    struct list node; /* in ctx->fanouts */
    struct ctx *ctx;
    struct stream *stream; /* that waits for it; NULL: the stream has ended */
    struct topic_walk walk;
    size_t bytes;
    unsigned count;
    struct shared messages[FANOUT_MESSAGES];
    struct message *copies[FANOUT_MESSAGES]; /* of their payloads */
};

/* Lets go of what is encoded. */
void shared_deinit(struct shared *shared);

/*
 * Takes a message up, from within the frame that brought it: a copy is made. Returns false where it
 * is to be delivered at once, since no stream could wait, or there is no memory; the messages ahead
 * of it have been delivered then.
 */
bool fanout_add(
    struct ctx *ctx, uint64_t realm, struct span topic, struct span payload, bool binary);

/* Goes on with one, up to so many units of work: it is at the end of ctx->fanouts then, or gone. */
void fanout_go_on(struct fanout *fanout, uint64_t work);

/* Brings all of them to their end. Not from within a frame. */
void fanout_finish(struct ctx *ctx);
