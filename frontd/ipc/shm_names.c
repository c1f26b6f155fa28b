#include "frontd/ipc/shm_names.h"

#include <string.h>

#include "frontd/ipc/shm_layout.h"

_Static_assert((int)SHARE_NAME_MAX == (int)NAME_SIZE, "as in the memory");
_Static_assert(sizeof(struct name_row) == 128, "two cache lines");

enum { HASH_DIGITS = 8, TEXT_MAX = 4096 /* bytes of a name that count */ };

static uint64_t key_of(
    const struct share *share, enum metric_kind kind, unsigned ref, struct span text)
{
    uint8_t bytes[TEXT_MAX + 4]; /* not all of it zeroed: this is on the way of some calls */
    const uint8_t head[4] = {(uint8_t)kind, 0, (uint8_t)ref, (uint8_t)(ref >> 8)};
    size_t n = MIN(text.n, (size_t)TEXT_MAX);
    memcpy(bytes, head, sizeof(head));
    if (n > 0)
        memcpy(bytes + sizeof(head), text.p, n);
    return hash_bytes(&share->table.key, bytes, sizeof(head) + n) | 1;
}

/* All that write it write the same. */
static void write_name(struct name_row *row, uint64_t key, unsigned ref, struct span text)
{
    size_t n = MIN(text.n, (size_t)NAME_SIZE);
    memcpy(row->text, text.p, n);
    if (n < text.n) {
        char digits[HASH_DIGITS + 2];
        snprintf(digits, sizeof(digits), "~%0*llx", HASH_DIGITS, (unsigned long long)key >> 32);
        memcpy(row->text + NAME_SIZE - HASH_DIGITS - 1, digits, HASH_DIGITS + 1);
    }
    atomic_store_explicit(&row->ref, ref, memory_order_relaxed);
    atomic_store_explicit(&row->len, (uint32_t)n, memory_order_release);
}

/*
 * Rows are taken from the first on, so that two that take one for the same name meet at the same
 * row. One whose process has died before it wrote the name is written by the next that finds it.
 */
unsigned share_name_claim(
    struct share *share, enum metric_kind kind, unsigned ref, struct span text)
{
    struct name_row *rows = share->memory->names[kind];
    uint64_t key = key_of(share, kind, ref, text);
    for (unsigned i = 1; i < metric_rows(kind); i++) {
        uint64_t found = atomic_load_explicit(&rows[i].key, memory_order_acquire);
        if (found == 0 && atomic_compare_exchange_strong(&rows[i].key, &found, key))
            found = key;
        if (found != key)
            continue;
        if (atomic_load_explicit(&rows[i].len, memory_order_relaxed) == 0)
            write_name(&rows[i], key, ref, text);
        return i;
    }
    return 0;
}

unsigned share_name_find(
    const struct share *share, enum metric_kind kind, unsigned ref, struct span text)
{
    const struct name_row *rows = share->memory->names[kind];
    uint64_t key = key_of(share, kind, ref, text);
    for (unsigned i = 1; i < metric_rows(kind); i++) {
        uint64_t found = atomic_load_explicit(&rows[i].key, memory_order_acquire);
        if (found == key)
            return i;
        if (found == 0)
            break;
    }
    return 0;
}

bool share_name_of(
    const struct share *share, enum metric_kind kind, unsigned row, struct share_name *ret_name)
{
    const struct name_row *of = &share->memory->names[kind][row];
    if (row == 0) {
        *ret_name = (struct share_name){.n = 5, .text = "other"};
        return true;
    }
    if (atomic_load_explicit(&of->key, memory_order_acquire) == 0)
        return false;
    uint32_t n = atomic_load_explicit(&of->len, memory_order_acquire);
    ret_name->ref = atomic_load_explicit(&of->ref, memory_order_relaxed) & 0xffff;
    ret_name->n = MIN(n, (uint32_t)NAME_SIZE);
    memcpy(ret_name->text, of->text, ret_name->n);
    return true;
}
