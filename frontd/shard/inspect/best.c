#include "frontd/shard/inspect/best.h"

#include <errno.h>
#include <string.h>

#include "common/alloc.h"

enum { ROOM_FIRST = 16 };

void best_init(struct best *best, size_t row_size, uint32_t limit,
    int (*order)(const void *a, const void *b, const void *by), const void *by)
{
    *best = (struct best){.row_size = row_size, .limit = limit, .order = order, .by = by};
}

void best_deinit(struct best *best)
{
    mem_free(best->rows);
    mem_free(best->heap);
    *best = (struct best){0};
}

static void *row_of(const struct best *best, uint32_t at)
{
    return best->rows + best->heap[at] * best->row_size;
}

static bool is_worse(const struct best *best, uint32_t a, uint32_t b)
{
    return best->order(row_of(best, a), row_of(best, b), best->by) > 0;
}

static void swap(struct best *best, uint32_t a, uint32_t b)
{
    uint32_t place = best->heap[a];
    best->heap[a] = best->heap[b];
    best->heap[b] = place;
}

static void rise(struct best *best, uint32_t at)
{
    while (at > 0 && is_worse(best, at, (at - 1) / 2)) {
        swap(best, at, (at - 1) / 2);
        at = (at - 1) / 2;
    }
}

static void sink(struct best *best, uint32_t at)
{
    for (;;) {
        uint32_t worst = at;
        for (uint32_t child = 2 * at + 1; child <= 2 * at + 2 && child < best->count; child++) {
            if (is_worse(best, child, worst))
                worst = child;
        }
        if (worst == at)
            return;
        swap(best, at, worst);
        at = worst;
    }
}

static int widen(struct best *best)
{
    uint32_t room = MIN(MAX(best->room * 2, (uint32_t)ROOM_FIRST), best->limit);
    char *rows = mem_widen(best->rows, best->room, room, best->row_size);
    if (rows == NULL)
        return -ENOMEM;
    best->rows = rows;
    uint32_t *heap = mem_widen(best->heap, best->room, room, sizeof(*heap));
    if (heap == NULL)
        return -ENOMEM; /* `rows` is larger than `room` says, which does not matter */
    best->heap = heap;
    best->room = room;
    return 0;
}

int best_offer(struct best *best, const void *row, void **ret_row)
{
    *ret_row = NULL;
    if (best->count == best->limit) {
        if (best->order(row, row_of(best, 0), best->by) >= 0)
            return 0;
        *ret_row = memcpy(row_of(best, 0), row, best->row_size);
        sink(best, 0);
        return 0;
    }
    if (best->count == best->room && widen(best) < 0)
        return -ENOMEM;
    best->heap[best->count] = best->count;
    *ret_row = memcpy(row_of(best, best->count), row, best->row_size);
    rise(best, best->count++);
    return 0;
}

void best_sort(struct best *best)
{
    uint32_t count = best->count;
    while (best->count > 1) {
        swap(best, 0, --best->count); /* the worst of those that are left goes behind them */
        sink(best, 0);
    }
    best->count = count;
}

const void *best_row(const struct best *best, uint32_t i)
{
    CHECK(i < best->count);
    return row_of(best, i);
}
