#include "frontd/shard/net/outqueue.h"

#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "common/siphash.h"

struct message *message_new(size_t len, bool push)
{
    size_t size;
    if (len > UINT32_MAX / 2)
        return NULL;
    struct message *message = mem_get(sizeof(*message) + len, &size);
    if (message == NULL)
        return NULL;
    message->refs = 1;
    message->len = (uint32_t)len;
    message->size = (uint32_t)size;
    message->push = push;
    return message;
}

void message_unref(struct message *message)
{
    if (message != NULL && --message->refs == 0)
        mem_put(message, message->size);
}

/* Makes room for one more at the end. */
static int make_room(struct message_queue **queue)
{
    struct message_queue *old = *queue;
    if (old != NULL && old->first + old->count < old->room)
        return 0;
    if (old != NULL && old->first >= old->room / 2) {
        memmove(old->items, old->items + old->first, old->count * sizeof(*old->items));
        old->first = 0;
        return 0;
    }
    size_t size;
    size_t want = old == NULL ? sizeof(*old) + 4 * sizeof(*old->items) : (size_t)old->size * 2;
    struct message_queue *grown = mem_get(want, &size);
    if (grown == NULL)
        return -ENOMEM;
    *grown = (struct message_queue){0};
    if (old != NULL) {
        *grown = *old;
        grown->first = 0;
        memcpy(grown->items, old->items + old->first, old->count * sizeof(*old->items));
        mem_put(old, old->size);
    }
    grown->size = (uint32_t)size;
    grown->room = (uint32_t)((size - sizeof(*grown)) / sizeof(*grown->items));
    *queue = grown;
    return 0;
}

int message_queue_add(struct message_queue **queue, struct message *message)
{
    if (*queue != NULL && (*queue)->bytes > UINT32_MAX - message->len)
        return -ENOMEM;
    if (make_room(queue) < 0)
        return -ENOMEM;
    struct message_queue *q = *queue;
    q->items[q->first + q->count++] = message_ref(message);
    q->bytes += message->len;
    return 0;
}

int message_queue_iov(const struct message_queue *queue, struct iovec *iov, int max)
{
    int n = 0;
    size_t skip = queue->written;
    for (; n < max && (uint32_t)n < queue->count; n++) {
        struct message *message = queue->items[queue->first + (uint32_t)n];
        iov[n] = (struct iovec){message->bytes + skip, message->len - skip};
        skip = 0;
    }
    return n;
}

void message_queue_written(struct message_queue **queue, size_t n)
{
    struct message_queue *q = *queue;
    q->bytes -= (uint32_t)n;
    n += q->written;
    while (q->count > 0 && n >= q->items[q->first]->len) {
        n -= q->items[q->first]->len;
        message_unref(q->items[q->first++]);
        q->count--;
        q->fixed -= q->fixed > 0;
    }
    q->written = (uint32_t)n;
    if (q->count == 0)
        message_queue_free(queue);
}

size_t message_queue_drop(struct message_queue **queue, size_t limit)
{
    struct message_queue *q = *queue;
    uint32_t at = q->first + q->fixed;
    uint32_t to = at;
    uint32_t end = q->first + q->count;
    for (; at < end && message_queue_cost(q) > limit; at++) {
        struct message *message = q->items[at];
        bool begun = at == q->first && q->written > 0;
        if (message->push && !begun) {
            q->bytes -= message->len;
            q->count--;
            message_unref(message);
        } else {
            q->items[to++] = message;
        }
    }
    /* What is kept of the part that was looked at moves up to the rest, which may be long. */
    uint32_t dropped = at - to;
    q->fixed = to - q->first;
    if (dropped > 0)
        memmove(q->items + q->first + dropped, q->items + q->first, q->fixed * sizeof(*q->items));
    q->first += dropped;
    if (q->count == 0)
        message_queue_free(queue);
    return dropped;
}

void message_queue_free(struct message_queue **queue)
{
    struct message_queue *q = *queue;
    if (q == NULL)
        return;
    for (uint32_t i = 0; i < q->count; i++)
        message_unref(q->items[q->first + i]);
    mem_put(q, q->size);
    *queue = NULL;
}

void message_queue_save(const struct message_queue *queue, struct pack *pack)
{
    pack_u32(pack, queue->count);
    pack_u32(pack, queue->written);
    for (uint32_t i = 0; i < queue->count; i++) {
        const struct message *message = queue->items[queue->first + i];
        pack_u8(pack, message->push);
        pack_bytes(pack, (struct span){message->bytes, message->len});
    }
}

enum {
    RESTORED_COUNT = 8192,   /* a power of two: places */
    RESTORED_MAX = 16 << 20, /* bytes of messages that are kept so, at most */
    SAMPLE = 32,             /* bytes at each end */
};

void message_forget_restored(struct restored_messages *restored)
{
    for (size_t i = 0; restored->places != NULL && i < RESTORED_COUNT; i++)
        message_unref(restored->places[i]);
    restored->places = mem_free(restored->places);
    restored->bytes = 0;
}

/* The place for a message of these bytes; NULL without memory for the table. */
static struct message **restored_place(struct restored_messages *restored, struct span bytes)
{
    static const struct hash_key key = {0x66726f6e74640002ULL, 0x7265737465640001ULL};
    char sample[2 * SAMPLE + sizeof(size_t)];
    size_t n = MIN(bytes.n, (size_t)SAMPLE);
    if (restored->places == NULL)
        restored->places = mem_zalloc(RESTORED_COUNT * sizeof(struct message *));
    if (restored->places == NULL)
        return NULL;
    memcpy(sample, bytes.p, n);
    memcpy(sample + n, bytes.p + bytes.n - n, n);
    memcpy(sample + 2 * n, &bytes.n, sizeof(size_t));
    return &restored
                ->places[hash_bytes(&key, sample, 2 * n + sizeof(size_t)) & (RESTORED_COUNT - 1)];
}

static bool is_same(const struct message *message, struct span bytes)
{
    return message->len == bytes.n && memcmp(message->bytes, bytes.p, bytes.n) == 0;
}

static void remember_restored(
    struct restored_messages *restored, struct message **place, struct message *message)
{
    if (restored->bytes + message->size > RESTORED_MAX) {
        message_forget_restored(restored);
        return; /* the table is made anew for the next one */
    }
    restored->bytes += message->size;
    if (*place != NULL)
        restored->bytes -= (*place)->size;
    message_unref(*place);
    *place = message_ref(message);
}

/* A reference to such a message; NULL without memory. */
static struct message *restored_message(
    struct restored_messages *restored, struct span bytes, bool push)
{
    struct message **place = push ? restored_place(restored, bytes) : NULL;
    if (place != NULL && *place != NULL && is_same(*place, bytes))
        return message_ref(*place);
    struct message *message = message_new(bytes.n, push);
    if (message == NULL)
        return NULL;
    memcpy(message->bytes, bytes.p, bytes.n);
    if (place != NULL)
        remember_restored(restored, place, message);
    return message;
}

static int restore_one(
    struct restored_messages *restored, struct message_queue **queue, struct unpack *unpack)
{
    bool push = unpack_flag(unpack);
    struct span bytes = unpack_bytes(unpack);
    if (unpack->bad || bytes.n == 0)
        return -EBADMSG;
    struct message *message = restored_message(restored, bytes, push);
    if (message == NULL)
        return -ENOMEM;
    int r = message_queue_add(queue, message);
    message_unref(message);
    return r;
}

int message_queue_restore(
    struct restored_messages *restored, struct message_queue **ret_queue, struct unpack *unpack)
{
    struct message_queue *queue = NULL;
    uint32_t count = unpack_u32(unpack);
    uint32_t written = unpack_u32(unpack);
    int r = count == 0 ? -EBADMSG : 0;
    for (uint32_t i = 0; r == 0 && i < count; i++)
        r = restore_one(restored, &queue, unpack);
    if (r == 0 && written >= queue->items[queue->first]->len)
        r = -EBADMSG;
    if (r < 0) {
        message_queue_free(&queue);
        return r;
    }
    queue->written = written;
    queue->bytes -= written;
    *ret_queue = queue;
    return 0;
}
