#include "frontd/shard/mesh/journal.h"

#include <errno.h>
#include <string.h>

#include "common/alloc.h"

struct entry {
    struct list node;
    struct position position;
    uint64_t realm;
    unsigned seat;
    size_t n; /* bytes: a whole frame */
    char bytes[];
};

void journal_init(struct journal *journal)
{
    *journal = (struct journal){0};
    list_init(&journal->entries);
}

static void drop(struct journal *journal, struct entry *entry)
{
    journal->size -= entry->n;
    list_remove(&entry->node);
    mem_free(entry);
}

void journal_deinit(struct journal *journal)
{
    list_for_each_safe (node, &journal->entries)
        drop(journal, container_of(node, struct entry, node));
}

void journal_record(struct journal *journal, enum journal_user user, bool on)
{
    journal->users = on ? journal->users | user : journal->users & ~(unsigned)user;
    if (journal->users == 0)
        journal_deinit(journal);
}

int journal_add(struct journal *journal, unsigned seat, struct position position, uint64_t realm,
    const struct frame *frame)
{
    if (LIKELY(journal->users == 0))
        return 0;
    size_t n = FRAME_HEAD_SIZE + (size_t)frame->head.length;
    while (journal->size + n > JOURNAL_MOST && !list_empty(&journal->entries)) {
        drop(journal, list_first(&journal->entries, struct entry, node));
        journal->dropped++;
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
    list_append(&journal->entries, &entry->node);
    journal->size += n;
    return 0;
}

static bool heard_already(const struct positions *heard, const struct entry *entry)
{
    return !position_before(heard->of[entry->seat], entry->position);
}

void journal_trim(struct journal *journal, const struct positions *heard)
{
    if (journal->users & JOURNAL_SENDER)
        return;
    list_for_each_safe (node, &journal->entries) {
        struct entry *entry = container_of(node, struct entry, node);
        if (heard_already(heard, entry))
            drop(journal, entry);
    }
}

uint64_t journal_dropped(struct journal *journal)
{
    uint64_t n = journal->dropped;
    journal->dropped = 0;
    return n;
}

void journal_replay(const struct journal *journal, const struct positions *heard,
    void (*replay)(struct ctx *ctx, uint64_t realm, const struct frame *frame), struct ctx *ctx)
{
    list_for_each (node, &journal->entries) {
        const struct entry *entry = container_of(node, struct entry, node);
        struct frame frame;
        size_t used;
        if (heard_already(heard, entry))
            continue;
        CHECK(frame_read(entry->bytes, entry->n, FRAME_MAX_DEFAULT, &frame, &used) == 0);
        replay(ctx, entry->realm, &frame);
    }
}
