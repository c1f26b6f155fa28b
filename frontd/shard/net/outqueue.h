#pragma once

/*
 * Encoded messages on their way to clients, shared by reference: a message for ten thousand
 * subscribers is in memory once. And the queue of such messages that a connection has while any
 * waits.
 */

#include <sys/uio.h>

#include "common/pack.h"

struct message {
    uint32_t refs;
    uint32_t len;  /* bytes */
    uint32_t size; /* of the whole block, for mem_put() */
    bool push;     /* a worker pushed it: it may be dropped for a slow client (`slow: drop`) */
    char bytes[];
};

/* A message with one reference, for the caller to write its bytes; NULL when there is no memory. */
struct message *message_new(size_t len, bool push);

static inline struct message *message_ref(struct message *message)
{
    message->refs++;
    return message;
}

/* Accepts NULL. */
void message_unref(struct message *message);

/* Messages in order. A client has a queue only while messages wait. */
struct message_queue {
    uint32_t size;  /* of the whole block */
    uint32_t room;  /* of items */
    uint32_t first; /* items[first .. first + count - 1], no wrap-around */
    uint32_t count;
    uint32_t written; /* bytes of the first one that are out already */
    uint32_t bytes;   /* of all messages that wait, without `written` */
    uint32_t fixed;   /* so many of the first ones may not be dropped, as has been seen before */
    struct message *items[];
};

/*
 * The pushes that a shard has restored last. A push that many connections wait for was in memory
 * once in the process that they come from, and is to be so here. Zeroed: none.
 */
struct restored_messages {
    struct message **places; /* by a hash of a few of their bytes; NULL: no table yet */
    size_t bytes;
};

/* Bytes that a message costs beyond its own: its block's head, rounding, a place in a queue. */
enum { MESSAGE_OVERHEAD = 64 };

/* The cost of what waits, in bytes, as limits count it: very many small messages cost more. */
static inline size_t message_queue_cost(const struct message_queue *queue)
{
    return queue->bytes + (size_t)queue->count * MESSAGE_OVERHEAD;
}

/*
 * Appends a message (the queue takes its own reference). *queue may be NULL; it is made or grown.
 * Returns 0 or -ENOMEM with the queue as it was.
 */
int message_queue_add(struct message_queue **queue, struct message *message);

/* Fills iov[] with what is to be written next, at most `max` pieces; returns how many. */
int message_queue_iov(const struct message_queue *queue, struct iovec *iov, int max);

/* `n` bytes were written; *queue is NULL when nothing is left. */
void message_queue_written(struct message_queue **queue, size_t n);

/*
 * Drops the oldest pushes of which nothing is written, until what waits costs at most `limit` bytes
 * or there are no more of them. Returns how many were dropped; *queue is NULL when nothing is left.
 * Takes time for what is dropped, not for what waits.
 */
size_t message_queue_drop(struct message_queue **queue, size_t limit);

/* Saves the messages that wait, and how much of the first is written. */
void message_queue_save(const struct message_queue *queue, struct pack *pack);

/*
 * Returns 0 with *ret_queue, -EBADMSG or -ENOMEM. A push that has been restored lately for another
 * connection is shared with it, as it was in the process that it comes from: until
 * message_forget_restored().
 */
int message_queue_restore(
    struct restored_messages *restored, struct message_queue **ret_queue, struct unpack *unpack);

/* Lets go of them, when no more connections come for now. */
void message_forget_restored(struct restored_messages *restored);

/* Drops everything; *queue is NULL then. */
void message_queue_free(struct message_queue **queue);
