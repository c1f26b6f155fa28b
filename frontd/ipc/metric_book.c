#include "frontd/ipc/metric_book.h"

#include "frontd/ipc/shm_layout.h"

static uint64_t get(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_acquire);
}

static const struct listener_words *listener_of(
    const struct share *share, unsigned seat, unsigned row)
{
    return (const void *)metric_row_of(share, seat, METRIC_KIND_listener, row);
}

/* How many have moved from one seat to another. Either may not have counted the last ones yet. */
static uint64_t moved(const struct share *share, unsigned row, unsigned from, unsigned to)
{
    const struct listener_words *old = listener_of(share, from, row);
    const struct listener_words *new = listener_of(share, to, row);
    uint64_t departed = old == NULL ? 0 : get(&old->departed[to]);
    uint64_t arrived = new == NULL ? 0 : get(&new->arrived[from]);
    return MAX(departed, arrived);
}

static uint64_t sum(const _Atomic uint64_t *words, size_t n)
{
    uint64_t total = 0;
    for (size_t i = 0; i < n; i++)
        total += get(&words[i]);
    return total;
}

/* The same, but not less than 0 and without those whose fate others do not know yet. */
static uint64_t count_open(
    const struct share *share, unsigned seat, unsigned row, uint64_t *ret_unknown)
{
    const struct listener_words *words = listener_of(share, seat, row);
    uint64_t gone = 0;
    uint64_t come = 0;
    *ret_unknown = 0;
    if (words == NULL)
        return 0;
    for (unsigned other = 0; other < SHARE_SEATS; other++) {
        const struct listener_words *new = listener_of(share, other, row);
        /* First, since it is given up only after it was counted as arrived. */
        *ret_unknown += new == NULL ? 0 : get(&new->arriving[seat]);
        gone += moved(share, row, seat, other);
        come += moved(share, row, other, seat);
    }
    gone += sum(words->closed, ARRAY_LEN(words->closed));
    come += get(words->accepted);
    return come > gone ? come - gone : 0;
}

uint64_t metric_open(const struct share *share, unsigned seat, unsigned row)
{
    uint64_t unknown;
    return count_open(share, seat, row, &unknown);
}

/* What the two sides have said of moves becomes the same on the side that has ended. */
static void settle_moves(struct share *share, unsigned seat, unsigned row)
{
    struct listener_words *words = metric_row(share, seat, METRIC_KIND_listener, row);
    for (unsigned other = 0; other < SHARE_SEATS; other++) {
        share_set(&words->departed[other], moved(share, row, seat, other));
        share_set(&words->arrived[other], moved(share, row, other, seat));
        clear_64(&words->arriving[other]);
    }
}

/* Returns whether something is left. */
static bool book_listener(struct share *share, unsigned seat, unsigned row)
{
    struct listener_words *words = metric_row(share, seat, METRIC_KIND_listener, row);
    uint64_t unknown;
    for (unsigned other = 0; other < SHARE_SEATS; other++)
        clear_64(&words->arriving[other]); /* nothing becomes this one's any more */
    uint64_t open = count_open(share, seat, row, &unknown);
    settle_moves(share, seat, row);
    uint64_t left = open > unknown ? open - unknown : 0;
    for (unsigned p = METRIC_PROTOCOL_COUNT; p-- > 0;) {
        uint64_t n = p == METRIC_PROTOCOL_FIRST ? left : MIN(left, get(&words->speaking[p]));
        clear_64(&words->speaking[p]);
        if (n > 0)
            share_count(&words->closed[p * METRIC_REASON_COUNT + METRIC_REASON_CRASH], n);
        left -= n;
    }
    return unknown > 0 && open > 0;
}

/* begun: counted before the n words at `ended`. crash: where the rest is booked. */
static void book_rest(
    const _Atomic uint64_t *begun, const _Atomic uint64_t *ended, size_t n, _Atomic uint64_t *crash)
{
    uint64_t all = get(begun);
    uint64_t over = sum(ended, n);
    if (all > over)
        share_count(crash, all - over);
}

static void book_route(struct share *share, unsigned seat, unsigned row)
{
    struct route_words *words = metric_row(share, seat, METRIC_KIND_route, row);
    book_rest(words->received, words->ended, ARRAY_LEN(words->ended),
        &words->ended[METRIC_CLASS_OTHER * METRIC_CODE_COUNT + METRIC_CODE_CRASH]);
}

static void book_pair(struct share *share, unsigned seat, unsigned row)
{
    struct pair_words *words = metric_row(share, seat, METRIC_KIND_pair, row);
    book_rest(
        words->started, words->ended, ARRAY_LEN(words->ended), &words->ended[METRIC_CODE_CRASH]);
}

/* Sets the gauges of a row without a process to 0. */
static void clear_gauges(struct share *share, unsigned seat, enum metric_kind kind)
{
    size_t n;
    const struct metric *table = metric_table(kind, &n);
    if (metric_row_of(share, seat, kind, 0) == NULL)
        return;
    _Atomic uint64_t *words = metric_row(share, seat, kind, 0);
    for (size_t i = 0; i < n; i++) {
        for (unsigned k = 0; table[i].type == METRIC_GAUGE && k < table[i].n; k++)
            clear_64(&words[table[i].at + k]);
    }
}

static bool book_seat(struct share *share, unsigned seat)
{
    bool rest = false;
    for (unsigned row = 0; row < METRIC_ROWS_listener; row++) {
        if (listener_of(share, seat, row) != NULL)
            rest |= book_listener(share, seat, row);
    }
    for (unsigned row = 0; row < METRIC_ROWS_route; row++) {
        if (metric_row_of(share, seat, METRIC_KIND_route, row) != NULL)
            book_route(share, seat, row);
    }
    for (unsigned row = 0; row < METRIC_ROWS_pair; row++) {
        if (metric_row_of(share, seat, METRIC_KIND_pair, row) != NULL)
            book_pair(share, seat, row);
    }
    clear_gauges(share, seat, METRIC_KIND_front);
    clear_gauges(share, seat, METRIC_KIND_shard);
    if (metric_row_of(share, seat, METRIC_KIND_front, 0) != NULL)
        clear_64(share_front(share, seat)->incarnation);
    return rest;
}

bool metric_book(struct share *share, uint64_t alive)
{
    bool rest = false;
    for (unsigned seat = 0; seat <= SHARE_SEAT_LAST; seat++) {
        if (!(alive >> seat & 1))
            rest |= book_seat(share, seat);
    }
    return rest;
}
