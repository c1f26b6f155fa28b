#include "frontd/shard/mesh/journal.h"

#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "common/list.h"

struct entry {
    struct list node;
    struct position position;
    uint64_t realm;
    unsigned seat;
    size_t n; /* bytes: a whole frame */
    char bytes[];
};

static struct list entries = {&entries, &entries};
static size_t size;
static uint64_t dropped; /* since somebody asked */
static unsigned users;   /* enum journal_user, ored */

static void drop(struct entry *entry)
{
    size -= entry->n;
    list_remove(&entry->node);
    mem_free(entry);
}

void journal_record(enum journal_user user, bool on)
{
    users = on ? users | user : users & ~(unsigned)user;
    if (users != 0)
        return;
    list_for_each_safe (node, &entries)
        drop(container_of(node, struct entry, node));
}

int journal_add(unsigned seat, struct position position, uint64_t realm, const struct frame *frame)
{
    if (LIKELY(users == 0))
        return 0;
    size_t n = FRAME_HEAD_SIZE + (size_t)frame->head.length;
    while (size + n > JOURNAL_MOST && !list_empty(&entries)) {
        drop(list_first(&entries, struct entry, node));
        dropped++;
    }
    struct entry *entry = mem_zalloc(sizeof(*entry) + n);
    if (entry == NULL)
        return -ENOMEM;
    entry->position = position;
    entry->realm = realm;
    entry->seat = seat;
    entry->n = n;
    frame_head_write(&frame->head, (uint8_t *)entry->bytes);
    if (frame->head.length > 0)
        memcpy(entry->bytes + FRAME_HEAD_SIZE, frame->meta.p, frame->head.length);
    list_append(&entries, &entry->node);
    size += n;
    return 0;
}

static bool heard_already(const struct positions *heard, const struct entry *entry)
{
    return !position_before(heard->of[entry->seat], entry->position);
}

void journal_trim(const struct positions *heard)
{
    if (users & JOURNAL_GIVE)
        return;
    list_for_each_safe (node, &entries) {
        struct entry *entry = container_of(node, struct entry, node);
        if (heard_already(heard, entry))
            drop(entry);
    }
}

uint64_t journal_dropped(void)
{
    uint64_t n = dropped;
    dropped = 0;
    return n;
}

size_t journal_size(void)
{
    return size;
}

void journal_replay(const struct positions *heard,
    void (*replay)(struct ctx *ctx, uint64_t realm, const struct frame *frame), struct ctx *ctx)
{
    list_for_each (node, &entries) {
        const struct entry *entry = container_of(node, struct entry, node);
        struct frame frame;
        size_t used;
        if (heard_already(heard, entry))
            continue;
        CHECK(frame_read(entry->bytes, entry->n, FRAME_MAX_DEFAULT, &frame, &used) == 0);
        replay(ctx, entry->realm, &frame);
    }
}
