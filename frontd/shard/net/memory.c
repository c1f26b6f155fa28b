#include "frontd/shard/net/memory.h"

enum {
    LITTLE_TIGHT = 64 * 1024, /* bytes */
    LITTLE_SHORT = 4 * 1024,
    FALL_MIN = 1 << 20, /* bytes: a smaller fall is not worth a walk over the heap */
};

/* In percent of the limit: where each level begins and ends. */
static const struct {
    unsigned up;
    unsigned down;
} bounds[] = {
    [MEMORY_EASY] = {0, 0},
    [MEMORY_TIGHT] = {75, 70},
    [MEMORY_SHORT] = {90, 85},
    [MEMORY_OUT] = {100, 90},
};

static uint64_t part_of(uint64_t limit, unsigned percent)
{
    return limit / 100 * percent + limit % 100 * percent / 100;
}

/* With how many bytes the next level begins. */
static uint64_t next_of(enum memory_level level, uint64_t limit)
{
    return limit == 0 || level == MEMORY_OUT ? UINT64_MAX : part_of(limit, bounds[level + 1].up);
}

void memory_init(struct memory *memory, uint64_t limit)
{
    *memory = (struct memory){.limit = limit, .next = next_of(MEMORY_EASY, limit)};
}

enum memory_level memory_step(enum memory_level level, uint64_t used, uint64_t limit)
{
    if (limit == 0)
        return MEMORY_EASY;
    while (level < MEMORY_OUT && used >= part_of(limit, bounds[level + 1].up))
        level++;
    while (level > MEMORY_EASY && used < part_of(limit, bounds[level].down))
        level--;
    return level;
}

static void set_level(struct memory *memory, enum memory_level level)
{
    memory->level = level;
    memory->next = next_of(level, memory->limit);
}

enum memory_level memory_raise(struct memory *memory, uint64_t used)
{
    if (UNLIKELY(used >= memory->next))
        set_level(memory, memory_step(memory->level, used, memory->limit));
    return memory->level;
}

bool memory_settle(struct memory *memory, uint64_t used)
{
    enum memory_level before = memory->level;
    enum memory_level level = memory_step(before, used, memory->limit);
    if (UNLIKELY(level != before))
        set_level(memory, level);
    return level < before;
}

bool memory_is_stuck(struct memory *memory, uint64_t now)
{
    bool is_short = memory->level >= MEMORY_SHORT;
    uint64_t passed = MIN(now - memory->noted_at, (uint64_t)MEMORY_SHORT_MS);
    if (UNLIKELY(memory->was_short))
        memory->short_ms = MIN(memory->short_ms + (uint32_t)passed, (uint32_t)MEMORY_SHORT_MS);
    else
        memory->short_ms -= MIN(memory->short_ms, (uint32_t)passed);
    memory->noted_at = now;
    memory->was_short = is_short;
    return is_short && memory->short_ms == MEMORY_SHORT_MS;
}

size_t memory_growth(const struct memory *memory, uint64_t used)
{
    if (memory->limit == 0)
        return SIZE_MAX;
    return used >= memory->limit ? 0 : (size_t)(memory->limit - used) / 2;
}

size_t memory_little(enum memory_level level)
{
    switch (level) {
    case MEMORY_EASY: break;
    case MEMORY_TIGHT: return LITTLE_TIGHT;
    case MEMORY_SHORT: return LITTLE_SHORT;
    case MEMORY_OUT: return 0;
    }
    return SIZE_MAX;
}

bool memory_fallen(struct memory *memory, uint64_t used)
{
    memory->peak = MAX(memory->peak, used);
    return memory->peak - used >= MAX((uint64_t)FALL_MIN, memory->peak / 4);
}
