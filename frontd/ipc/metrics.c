#include "frontd/ipc/metrics.h"

#include "frontd/ipc/shm_layout.h"

const uint64_t metric_bounds[METRIC_BOUNDS] = {
    500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000, 10000000};

#define DESCRIBE(member, type, dim1, dim2, name, help)                                             \
    {#member, name, help, METRIC_##type, {METRIC_DIM_##dim1, METRIC_DIM_##dim2},                   \
        offsetof(WORDS, member) / sizeof(uint64_t), METRIC_SIZE_##dim1 * METRIC_SIZE_##dim2},

#define WORDS struct front_words
static const struct metric front_table[] = {FRONT_METRICS(DESCRIBE)};
#undef WORDS
#define WORDS struct shard_words
static const struct metric shard_table[] = {SHARD_METRICS(DESCRIBE)};
#undef WORDS
#define WORDS struct listener_words
static const struct metric listener_table[] = {LISTENER_METRICS(DESCRIBE)};
#undef WORDS
#define WORDS struct route_words
static const struct metric route_table[] = {ROUTE_METRICS(DESCRIBE)};
#undef WORDS
#define WORDS struct pair_words
static const struct metric pair_table[] = {PAIR_METRICS(DESCRIBE)};
#undef WORDS
#define WORDS struct method_words
static const struct metric method_table[] = {METHOD_METRICS(DESCRIBE)};
#undef WORDS

/* What is known of each kind of row. */
static const struct {
    const struct metric *table;
    size_t n;
    unsigned rows;
    size_t size; /* of a row, bytes */
    size_t at;   /* of row 0 in struct metric_seat */
} kinds[METRIC_KINDS] = {
#define KIND(kind, table, rows)                                                                    \
    {kind##_table, ARRAY_LEN(kind##_table), rows, sizeof(struct kind##_words),                     \
        offsetof(struct metric_seat, kind)},
    METRIC_ROWS(KIND)
#undef KIND
};

#define FITS(kind, table, rows)                                                                    \
    _Static_assert(rows <= METRIC_ROWS_MAX, "of " #kind);                                          \
    _Static_assert(sizeof(struct kind##_words) / 8 <= METRIC_WORDS_MAX + 8, "of " #kind);
METRIC_ROWS(FITS)
#undef FITS

const struct metric *metric_table(enum metric_kind kind, size_t *ret_n)
{
    *ret_n = kinds[kind].n;
    return kinds[kind].table;
}

unsigned metric_rows(enum metric_kind kind)
{
    return kinds[kind].rows;
}

size_t metric_words(enum metric_kind kind)
{
    const struct metric *last = &kinds[kind].table[kinds[kind].n - 1];
    return (size_t)last->at + last->n;
}

static const struct {
    const char *name;
    unsigned size;
    const char *const *labels; /* NULL: they have no names */
} dims[] = {
    [METRIC_DIM_NONE] = {"", 1, (const char *const[]){""}},
    [METRIC_DIM_BUCKET] = {"le", METRIC_SIZE_BUCKET, NULL},
    [METRIC_DIM_SEAT] = {"seat", METRIC_SIZE_SEAT, NULL},
#define LABEL(name, label) label,
#define DIM(dim, name, values)                                                                     \
    [METRIC_DIM_##dim] = {name, METRIC_SIZE_##dim, (const char *const[]){values(LABEL)}}
    DIM(PROTOCOL, "protocol", METRIC_PROTOCOLS),
    DIM(REASON, "reason", METRIC_REASONS),
    DIM(CLASS, "class", METRIC_CLASSES),
    DIM(CODE, "code", METRIC_CODES),
    DIM(VERSION, "version", METRIC_VERSIONS),
    DIM(HANDSHAKE, "outcome", METRIC_HANDSHAKES),
    DIM(PUSH, "type", METRIC_PUSHES),
    DIM(SLOW, "action", METRIC_SLOWS),
    DIM(REFUSAL, "reason", METRIC_REFUSALS),
    DIM(POOL_REFUSAL, "reason", METRIC_POOL_REFUSALS),
    DIM(RECYCLE, "reason", METRIC_RECYCLES),
    DIM(USE, "use", METRIC_USES),
    DIM(OUTCOME, "outcome", METRIC_OUTCOMES),
    DIM(PROGRAM, "kind", METRIC_PROGRAMS),
    DIM(RELOAD, "outcome", METRIC_RELOADS),
#undef DIM
#undef LABEL
};

const char *metric_dim_name(enum metric_dim dim)
{
    return dims[dim].name;
}

const char *metric_dim_label(enum metric_dim dim, unsigned i)
{
    return dims[dim].labels == NULL ? NULL : dims[dim].labels[i];
}

unsigned metric_dim_size(enum metric_dim dim)
{
    return dims[dim].size;
}

void *metric_row(struct share *share, unsigned seat, enum metric_kind kind, unsigned row)
{
    struct metric_seat *of = &share->memory->metrics[seat];
    CHECK(seat < SHARE_SEATS && row < kinds[kind].rows);
    _Atomic uint64_t *used = &of->used[kind][row / 64];
    uint64_t bit = UINT64_C(1) << row % 64;
    uint64_t before = atomic_load_explicit(used, memory_order_relaxed);
    if (!(before & bit))
        atomic_store_explicit(used, before | bit, memory_order_release);
    return (char *)of + kinds[kind].at + row * kinds[kind].size;
}

struct front_words *share_front(struct share *share, unsigned seat)
{
    return metric_row(share, seat, METRIC_KIND_front, 0);
}

struct shard_words *share_shard(struct share *share, unsigned seat)
{
    return metric_row(share, seat, METRIC_KIND_shard, 0);
}

const _Atomic uint64_t *metric_row_of(
    const struct share *share, unsigned seat, enum metric_kind kind, unsigned row)
{
    const struct metric_seat *of = &share->memory->metrics[seat];
    uint64_t used = atomic_load_explicit(&of->used[kind][row / 64], memory_order_acquire);
    if (!(used >> row % 64 & 1))
        return NULL;
    return (const void *)((const char *)of + kinds[kind].at + row * kinds[kind].size);
}
