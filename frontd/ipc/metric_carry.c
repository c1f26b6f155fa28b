/*
 * {"counts": [{"kind": "route", "of": [["web", 0]], "name": "/rpc", "words": {"received": 5,
 * "ended.call.ok": 4}}, …]}: a row without a name is row 0; `seat` is that of a shard's. `of` has
 * the names that the row's name refers to, the listener first, each with what that refers to.
 */

#include "frontd/ipc/metric_carry.h"

#include <string.h>

#include "frontd/ipc/metric_sums.h"
#include "frontd/ipc/shm_names.h"
#include "proto/json_read.h"
#include "proto/json_scan.h"

enum { KEY_MAX = 64 };

static const char *const kind_names[METRIC_KINDS] = {
#define NAME(kind, table, rows) #kind,
    METRIC_ROWS(NAME)
#undef NAME
};

/* The name of a word: that of its member, and the labels of its values. */
static void name_word(const struct metric *metric, unsigned i, char out[static KEY_MAX])
{
    unsigned inner = metric_dim_size(metric->dims[1]);
    const unsigned at[] = {i / inner, i % inner};
    int n = snprintf(out, KEY_MAX, "%s", metric->member);
    for (unsigned d = 0; d < 2 && n < KEY_MAX; d++) {
        const char *label = metric_dim_label(metric->dims[d], at[d]);
        if (metric->dims[d] == METRIC_DIM_NONE)
            continue;
        n += label == NULL ? snprintf(out + n, (size_t)(KEY_MAX - n), ".%u", at[d])
                           : snprintf(out + n, (size_t)(KEY_MAX - n), ".%s", label);
    }
}

static bool is_carried(const struct metric *metric)
{
    return metric->type != METRIC_HIDDEN && metric->type != METRIC_GAUGE;
}

static void save_words(
    enum metric_kind kind, const struct metric_sums *sums, struct json_writer *out)
{
    char key[KEY_MAX];
    size_t n;
    const struct metric *table = metric_table(kind, &n);
    json_begin(out, "words", '{');
    for (size_t i = 0; i < n; i++) {
        for (unsigned k = 0; is_carried(&table[i]) && k < table[i].n; k++) {
            uint64_t value = sums->words[table[i].at + k];
            name_word(&table[i], k, key);
            if (value > 0)
                json_add_number(out, key, value);
        }
    }
    json_end(out, '}');
}

/* Writes a name and, before it, those that it refers to. */
static void save_ref(
    const struct share *share, enum metric_kind kind, unsigned row, struct json_writer *out)
{
    struct share_name name;
    if (row >= metric_rows(kind) || !share_name_of(share, kind, row, &name) || row == 0)
        name = (struct share_name){0};
    if (kind == METRIC_KIND_route)
        save_ref(share, METRIC_KIND_listener, name.ref, out);
    json_begin(out, NULL, '[');
    json_add_span(out, NULL, (struct span){name.text, name.n});
    json_add_number(out, NULL, name.ref);
    json_end(out, ']');
}

static void save_row(const struct share *share, enum metric_kind kind, unsigned row,
    const struct metric_sums *sums, struct json_writer *out)
{
    struct share_name name = {0};
    bool named = kind != METRIC_KIND_front && kind != METRIC_KIND_shard && row != 0 &&
                 share_name_of(share, kind, row, &name);
    json_begin(out, NULL, '{');
    json_add_text(out, "kind", kind_names[kind]);
    if (kind == METRIC_KIND_shard)
        json_add_number(out, "seat", row);
    if (named)
        json_add_span(out, "name", (struct span){name.text, name.n});
    if (named && kind == METRIC_KIND_listener)
        json_add_number(out, "protocol", name.ref);
    if (named && (kind == METRIC_KIND_route || kind == METRIC_KIND_pair)) {
        json_begin(out, "of", '[');
        save_ref(share, kind == METRIC_KIND_route ? METRIC_KIND_listener : METRIC_KIND_route,
            name.ref, out);
        json_end(out, ']');
    }
    save_words(kind, sums, out);
    json_end(out, '}');
}

void metric_carry_save(const struct share *share, struct json_writer *out)
{
    struct metric_sums sums;
    json_begin(out, "counts", '[');
    for (unsigned kind = 0; kind < METRIC_KINDS; kind++) {
        bool seats = kind == METRIC_KIND_shard;
        unsigned most = seats ? SHARE_SEATS : metric_rows((enum metric_kind)kind);
        for (unsigned row = 0; row < most; row++) {
            bool used = seats ? metric_sum_seat(share, row, METRIC_KIND_shard, 0, &sums)
                              : metric_sum(share, (enum metric_kind)kind, row, &sums);
            if (used)
                save_row(share, (enum metric_kind)kind, row, &sums, out);
        }
    }
    json_end(out, ']');
}

/* ---- Reading ------------------------------------------------------------------------------------
 */

/* A text as it was written, in `out`, cut where it is longer. */
static struct span text_of(struct span value, char *out, size_t size)
{
    if (!json_is_string(value) || value.n - 2 > size)
        return (struct span){out, 0};
    return (struct span){out, json_scan_unescape((struct span){value.p + 1, value.n - 2}, out)};
}

static bool find_kind(struct span value, enum metric_kind *ret_kind)
{
    char name[32];
    struct span text = text_of(value, name, sizeof(name));
    for (unsigned i = 0; i < METRIC_KINDS; i++) {
        if (strlen(kind_names[i]) == text.n && memcmp(kind_names[i], text.p, text.n) == 0) {
            *ret_kind = (enum metric_kind)i;
            return true;
        }
    }
    return false;
}

/* The row of the names in `of`: a listener's, or that of a route of it. */
static unsigned claim_ref(struct share *share, struct span of)
{
    static const enum metric_kind kinds[] = {METRIC_KIND_listener, METRIC_KIND_route};
    char room[SHARE_NAME_MAX * 6];
    struct span entry;
    struct span part;
    unsigned row = 0;
    size_t depth = 0;
    for (size_t at = 0; depth < ARRAY_LEN(kinds) && json_read_next(of, &at, &entry); depth++) {
        size_t in = 0;
        struct span name = {0};
        uint64_t ref = 0;
        if (json_is_array(entry) && json_read_next(entry, &in, &part)) {
            name = text_of(part, room, sizeof(room));
            if (json_read_next(entry, &in, &part))
                ref = json_read_number(part, UINT16_MAX, 0);
        }
        unsigned refers = depth == 0 ? (unsigned)ref : row;
        row = name.n == 0 ? 0 : share_name_claim(share, kinds[depth], refers, name);
    }
    return row;
}

static unsigned claim_row(struct share *share, enum metric_kind kind, struct span object)
{
    char room[SHARE_NAME_MAX * 6];
    struct span name = text_of(json_read_member(object, "name"), room, sizeof(room));
    if (name.n == 0 || kind == METRIC_KIND_front || kind == METRIC_KIND_shard)
        return 0;
    unsigned ref = 0;
    if (kind == METRIC_KIND_listener)
        ref = (unsigned)json_read_number(json_read_member(object, "protocol"), UINT16_MAX, 0);
    else if (kind != METRIC_KIND_method)
        ref = claim_ref(share, json_read_member(object, "of"));
    return share_name_claim(share, kind, ref, name);
}

static void restore_words(enum metric_kind kind, struct span words, _Atomic uint64_t *row)
{
    char key[KEY_MAX];
    size_t n;
    const struct metric *table = metric_table(kind, &n);
    for (size_t i = 0; i < n; i++) {
        for (unsigned k = 0; is_carried(&table[i]) && k < table[i].n; k++) {
            name_word(&table[i], k, key);
            uint64_t value = json_read_number(json_read_member(words, key), UINT64_MAX, 0);
            if (value > 0)
                share_count(&row[table[i].at + k], value);
        }
    }
}

/* What was open or in progress has come to its end here. */
static void close_books(enum metric_kind kind, void *row)
{
    struct listener_words *listener = row;
    struct route_words *route = row;
    struct pair_words *pair = row;
    uint64_t over = 0;
    switch (kind) {
    case METRIC_KIND_listener:
        for (size_t i = 0; i < ARRAY_LEN(listener->closed); i++)
            over += listener->closed[i];
        if (*listener->accepted > over)
            share_count(&listener->closed[METRIC_REASON_RECOUNTED], *listener->accepted - over);
        break;
    case METRIC_KIND_route:
        for (size_t i = 0; i < ARRAY_LEN(route->ended); i++)
            over += route->ended[i];
        if (*route->received > over)
            share_count(&route->ended[METRIC_CLASS_OTHER * METRIC_CODE_COUNT + METRIC_CODE_CRASH],
                *route->received - over);
        break;
    case METRIC_KIND_pair:
        for (size_t i = 0; i < ARRAY_LEN(pair->ended); i++)
            over += pair->ended[i];
        if (*pair->started > over)
            share_count(&pair->ended[METRIC_CODE_CRASH], *pair->started - over);
        break;
    default: break;
    }
}

void metric_carry_restore(struct share *share, struct span counts)
{
    struct span object;
    enum metric_kind kind;
    for (size_t at = 0; json_is_array(counts) && json_read_next(counts, &at, &object);) {
        if (!find_kind(json_read_member(object, "kind"), &kind))
            continue;
        unsigned row = claim_row(share, kind, object);
        unsigned seat = SHARE_SEAT_SUPERVISOR;
        if (kind == METRIC_KIND_shard)
            seat = (unsigned)json_read_number(
                json_read_member(object, "seat"), SHARE_SEATS - 1, SHARE_SEAT_SUPERVISOR);
        void *words = metric_row(share, seat, kind, row);
        restore_words(kind, json_read_member(object, "words"), words);
        close_books(kind, words);
    }
}
