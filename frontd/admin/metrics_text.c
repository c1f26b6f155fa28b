/*
 * For each kind of row: all rows that are used are summed up, then each metric of the table is
 * written, row by row. What follows from them (what is open, what is in progress) is made of the
 * same sums, so that it agrees with them. Of a label with several values those are left out that
 * have counted nothing.
 */

#include "frontd/admin/metrics_text.h"

#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/admin/metrics_line.h"
#include "frontd/ipc/metric_sums.h"
#include "frontd/ipc/shm_names.h"
#include "frontd/ipc/shm_queues.h"

struct row {
    char labels[METRICS_LABELS_MAX];
    const char *first; /* METRIC_PROTOCOL_FIRST is this */
    uint64_t *words;
};

struct rows {
    enum metric_kind kind;
    struct row *all;
    uint64_t *words; /* of all */
    size_t n;
};

static const char *first_protocol(unsigned ref)
{
    switch ((enum conf_protocol)ref) {
    case CONF_PROTOCOL_FRAME: return "frame";
    case CONF_PROTOCOL_LINE: return "line";
    default: return "http1";
    }
}

/* Appends a label whose value is the name of a row. Returns what the name refers to. */
static unsigned put_name(struct metrics_line *line, const char *label, const struct share *share,
    enum metric_kind kind, unsigned row)
{
    struct share_name name;
    if (row >= metric_rows(kind) || !share_name_of(share, kind, row, &name))
        share_name_of(share, kind, 0, &name);
    metrics_line_label(line, label, (struct span){name.text, name.n});
    return row == 0 ? 0 : name.ref;
}

/* Which listener a route's row is of, and which route a pair's: what their names refer to. */
static unsigned ref_of(const struct share *share, enum metric_kind kind, unsigned row)
{
    struct share_name name = {0};
    return share_name_of(share, kind, row, &name) && row != 0 ? name.ref : 0;
}

static void name_row(struct row *row, const struct share *share, enum metric_kind kind, unsigned at)
{
    struct metrics_line line = {.text = row->labels, .size = sizeof(row->labels)};
    char seat[16];
    unsigned route;
    row->first = "";
    switch (kind) {
    case METRIC_KIND_front:
    case METRIC_KINDS: break;
    case METRIC_KIND_shard:
        snprintf(seat, sizeof(seat), "%u", at);
        metrics_line_label(&line, "seat", (struct span){seat, strlen(seat)});
        break;
    case METRIC_KIND_listener:
        row->first = first_protocol(put_name(&line, "listener", share, kind, at));
        break;
    case METRIC_KIND_route:
        put_name(&line, "listener", share, METRIC_KIND_listener, ref_of(share, kind, at));
        put_name(&line, "route", share, kind, at);
        break;
    case METRIC_KIND_pair:
        route = ref_of(share, kind, at);
        put_name(&line, "listener", share, METRIC_KIND_listener,
            route < METRIC_ROWS_route ? ref_of(share, METRIC_KIND_route, route) : 0);
        put_name(&line, "route", share, METRIC_KIND_route, route);
        put_name(&line, "pool", share, kind, at);
        break;
    case METRIC_KIND_method: put_name(&line, "method", share, kind, at); break;
    }
}

static bool sum_up(
    const struct share *share, enum metric_kind kind, unsigned at, struct metric_sums *sums)
{
    if (kind == METRIC_KIND_shard)
        return metric_sum_seat(share, at, kind, 0, sums);
    return metric_sum(share, kind, at, sums);
}

static void free_rows(struct rows *rows)
{
    rows->all = mem_free(rows->all);
    rows->words = mem_free(rows->words);
}

static unsigned rows_most(enum metric_kind kind)
{
    return kind == METRIC_KIND_shard ? SHARE_SEATS : metric_rows(kind);
}

/* Sums up the rows of a kind, if they are `used` at most. Returns 0, -EAGAIN or -ENOMEM. */
static int read_so_many(
    struct rows *rows, const struct share *share, enum metric_kind kind, unsigned used)
{
    unsigned most = rows_most(kind);
    size_t words = metric_words(kind);
    struct metric_sums sums;
    *rows = (struct rows){.kind = kind};
    rows->all = mem_zalloc((used + 1) * sizeof(*rows->all));
    rows->words = mem_zalloc((used + 1) * words * sizeof(*rows->words));
    if (rows->all == NULL || rows->words == NULL) {
        free_rows(rows);
        return -ENOMEM;
    }
    for (unsigned at = 0; at < most; at++) {
        if (!sum_up(share, kind, at, &sums))
            continue;
        if (rows->n == used) {
            free_rows(rows);
            return -EAGAIN;
        }
        struct row *row = &rows->all[rows->n];
        row->words = &rows->words[rows->n++ * words];
        memcpy(row->words, sums.words, words * sizeof(*row->words));
        name_row(row, share, kind, at);
    }
    return 0;
}

/* The same, of all: another row may come into use while they are read. */
static int read_rows(struct rows *rows, const struct share *share, enum metric_kind kind)
{
    int r = read_so_many(rows, share, kind, metric_rows_used(share, kind));
    if (r == -EAGAIN)
        r = read_so_many(rows, share, kind, rows_most(kind));
    return r;
}

/* The labels of the i-th word of a metric, after those of its row. */
static void put_dims(
    struct metrics_line *line, const struct metric *metric, const struct row *row, unsigned i)
{
    unsigned inner = metric_dim_size(metric->dims[1]);
    const unsigned at[] = {i / inner, i % inner};
    for (unsigned d = 0; d < 2; d++) {
        if (metric->dims[d] == METRIC_DIM_NONE)
            continue;
        const char *value = metric_dim_label(metric->dims[d], at[d]);
        if (metric->dims[d] == METRIC_DIM_PROTOCOL && at[d] == METRIC_PROTOCOL_FIRST)
            value = row->first;
        metrics_line_label(
            line, metric_dim_name(metric->dims[d]), (struct span){value, strlen(value)});
    }
}

static void put_histogram(
    struct metrics_out *out, const struct metric *metric, const struct row *row)
{
    static const char *const bounds[METRIC_BOUNDS + 1] = {"0.0005", "0.001", "0.0025", "0.005",
        "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "10.0", "+Inf"};
    const uint64_t *words = &row->words[metric->at];
    uint64_t count = 0;
    for (unsigned i = 0; i <= METRIC_BOUNDS; i++) {
        count += words[1 + i];
        metrics_sample(out, metric->name, "_bucket", row->labels, "le", bounds[i], count);
    }
    metrics_sample_us(out, metric->name, "_sum", row->labels, words[0]);
    metrics_sample(out, metric->name, "_count", row->labels, NULL, NULL, count);
}

static void put_words(
    struct metrics_out *out, const struct metric *metric, const struct row *row, bool all)
{
    for (unsigned i = 0; i < metric->n; i++) {
        uint64_t value = row->words[metric->at + i];
        if (value == 0 && !all)
            continue;
        char labels[METRICS_LABELS_MAX + 128];
        struct metrics_line line = metrics_line_from(labels, sizeof(labels), row->labels);
        put_dims(&line, metric, row, i);
        if (row->first[0] != '\0' && metric->at == 0) /* what is accepted speaks that at first */
            metrics_line_label(&line, "protocol", (struct span){row->first, strlen(row->first)});
        if (metric->type == METRIC_TIME)
            metrics_sample_us(out, metric->name, "", labels, value);
        else
            metrics_sample(out, metric->name, "", labels, NULL, NULL, value);
    }
}

static enum metrics_type type_of(const struct metric *metric)
{
    switch (metric->type) {
    case METRIC_HISTOGRAM: return METRICS_HISTOGRAM;
    case METRIC_GAUGE: return METRICS_GAUGE;
    default: return METRICS_COUNTER;
    }
}

static void put_metric(
    struct metrics_out *out, const struct metric *metric, const struct rows *rows)
{
    if (metric->type == METRIC_HIDDEN ||
        !metrics_family(out, type_of(metric), metric->name, metric->help))
        return;
    for (size_t i = 0; i < rows->n; i++) {
        if (metric->type == METRIC_HISTOGRAM)
            put_histogram(out, metric, &rows->all[i]);
        else
            put_words(out, metric, &rows->all[i], metric->n == 1 || metric->type == METRIC_GAUGE);
    }
}

/* ---- What follows from the sums ---------------------------------------------------------------
 */

/* The sum of words, less that of others; not less than 0, which a hostile shard could make it. */
static uint64_t rest(uint64_t begun, const uint64_t *words, size_t n)
{
    for (size_t i = 0; i < n; i++)
        begun -= MIN(begun, words[i]);
    return begun;
}

#define AT(kind, member)    (offsetof(struct kind##_words, member) / sizeof(uint64_t))
#define COUNT(kind, member) (sizeof(((struct kind##_words *)0)->member) / sizeof(uint64_t))

/* The protocols that a connection changes to are counted by themselves; the others are the rest. */
static void put_open(struct metrics_out *out, const struct row *row)
{
    uint64_t left = rest(row->words[AT(listener, accepted)], &row->words[AT(listener, closed)],
        COUNT(listener, closed));
    for (unsigned p = METRIC_PROTOCOL_COUNT; p-- > 0;) {
        uint64_t n = MIN(left, row->words[AT(listener, speaking) + p]);
        if (p == METRIC_PROTOCOL_FIRST)
            n = left;
        left -= n;
        const char *protocol = p == METRIC_PROTOCOL_FIRST
                                   ? row->first
                                   : metric_dim_label(METRIC_DIM_PROTOCOL, p);
        if (n > 0 || p == METRIC_PROTOCOL_FIRST)
            metrics_sample(
                out, "frontd_connections_open", "", row->labels, "protocol", protocol, n);
    }
}

static void put_derived(struct metrics_out *out, const struct rows *rows)
{
    if (rows->kind == METRIC_KIND_listener &&
        metrics_family(out, METRICS_GAUGE, "frontd_connections_open",
            "Connections that are open, by what they speak: those accepted that are not closed.")) {
        for (size_t i = 0; i < rows->n; i++)
            put_open(out, &rows->all[i]);
    }
    if (rows->kind == METRIC_KIND_route &&
        metrics_family(out, METRICS_GAUGE, "frontd_requests_in_progress",
            "Requests received that have not ended.")) {
        for (size_t i = 0; i < rows->n; i++) {
            const uint64_t *words = rows->all[i].words;
            metrics_sample(out, "frontd_requests_in_progress", "", rows->all[i].labels, NULL, NULL,
                rest(words[AT(route, received)], &words[AT(route, ended)], COUNT(route, ended)));
        }
    }
    if (rows->kind == METRIC_KIND_pair &&
        metrics_family(out, METRICS_GAUGE, "frontd_calls_in_progress",
            "Calls given to a pool that have not ended: they wait for a worker, or have one.")) {
        for (size_t i = 0; i < rows->n; i++) {
            const uint64_t *words = rows->all[i].words;
            metrics_sample(out, "frontd_calls_in_progress", "", rows->all[i].labels, NULL, NULL,
                rest(words[AT(pair, started)], &words[AT(pair, ended)], COUNT(pair, ended)));
        }
    }
}

/* Whether anything of a kind is wanted: what follows from its sums has a name of its own. */
static bool wants_kind(const struct metrics_out *out, enum metric_kind kind)
{
    static const char *const derived[METRIC_KINDS] = {
        [METRIC_KIND_listener] = "frontd_connections_open",
        [METRIC_KIND_route] = "frontd_requests_in_progress",
        [METRIC_KIND_pair] = "frontd_calls_in_progress",
    };
    size_t n;
    const struct metric *table = metric_table(kind, &n);
    for (size_t i = 0; i < n; i++) {
        if (table[i].type != METRIC_HIDDEN && metrics_wanted(out, table[i].name))
            return true;
    }
    return derived[kind] != NULL && metrics_wanted(out, derived[kind]);
}

static int put_kind(struct metrics_out *out, const struct share *share, enum metric_kind kind)
{
    struct rows rows;
    size_t n;
    const struct metric *table = metric_table(kind, &n);
    if (!wants_kind(out, kind))
        return 0;
    int r = read_rows(&rows, share, kind);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++)
        put_metric(out, &table[i], &rows);
    put_derived(out, &rows);
    free_rows(&rows);
    return 0;
}

/* ---- What is not counted, but is as it is now ---------------------------------------------------
 */

enum pool_gauge {
    POOL_QUEUE_LENGTH,
    POOL_QUEUE_OLDEST,
    POOL_QUEUE_LIMIT,
    POOL_WORKERS_READY,
    POOL_WORKERS,
    POOL_WORKERS_HUNG,
    POOL_WORKERS_DRAINED,
    POOL_WORKERS_EJECTED,
    POOL_SLOTS,
    POOL_GAUGES
};

static const struct {
    const char *name;
    const char *help;
} pool_gauges[POOL_GAUGES] = {
    [POOL_QUEUE_LENGTH] = {"frontd_pool_queue_length", "Calls that wait for a worker of the pool."},
    [POOL_QUEUE_OLDEST] = {"frontd_pool_queue_oldest_seconds",
        "How long the call with the next turn has waited; 0: none waits."},
    [POOL_QUEUE_LIMIT] = {"frontd_pool_queue_limit", "Calls that may wait, by the config."},
    [POOL_WORKERS_READY] = {"frontd_pool_workers_ready",
        "Workers that take calls, as the shard sees it that reaches most."},
    [POOL_WORKERS] = {"frontd_pool_workers",
        "Workers that are known, whether they take calls or not, as the same shard sees it."},
    [POOL_WORKERS_HUNG] = {"frontd_pool_workers_hung",
        "Workers that were given up and have not answered since, as the same shard sees it."},
    [POOL_WORKERS_DRAINED] = {"frontd_pool_workers_drained",
        "Workers that an operator has drained, as the same shard sees it."},
    [POOL_WORKERS_EJECTED] = {"frontd_pool_workers_ejected",
        "Workers that are left out, since they have failed repeatedly, as the same shard sees it."},
    [POOL_SLOTS] = {"frontd_pool_concurrency",
        "Calls that the workers which take calls may have at the same time; those without a limit "
        "count none."},
};

static void put_pool(struct metrics_out *out, const struct metrics_source *source,
    enum pool_gauge gauge, const struct conf_pool *pool)
{
    char labels[METRICS_LABELS_MAX];
    const struct share *share = source->share;
    struct metrics_line line = {.text = labels, .size = sizeof(labels)};
    int row = share_pool(share, pool->name);
    unsigned seat;
    uint64_t since;
    if (row < 0)
        return;
    struct share_pool_workers workers = share_pool_workers(share, (unsigned)row);
    metrics_line_label(&line, "pool", (struct span){pool->name, strlen(pool->name)});
    const char *name = pool_gauges[gauge].name;
    uint64_t values[POOL_GAUGES] = {
        [POOL_QUEUE_LENGTH] = share_queue_waiting(share, (unsigned)row),
        [POOL_QUEUE_LIMIT] = pool->queue,
        [POOL_WORKERS_READY] = workers.ready,
        [POOL_WORKERS] = workers.known,
        [POOL_WORKERS_HUNG] = workers.hung,
        [POOL_WORKERS_DRAINED] = workers.drained,
        [POOL_WORKERS_EJECTED] = workers.ejected,
        [POOL_SLOTS] = workers.slots,
    };
    if (gauge != POOL_QUEUE_OLDEST) {
        metrics_sample(out, name, "", labels, NULL, NULL, values[gauge]);
        return;
    }
    bool waits = share_queue_oldest_but(share, 0, (unsigned)row, &seat, &since);
    uint64_t age = waits && since < source->now ? source->now - since : 0;
    metrics_sample_us(out, name, "", labels, age * 1000);
}

static void put_pools(struct metrics_out *out, const struct metrics_source *source)
{
    for (unsigned g = 0; g < POOL_GAUGES; g++) {
        if (!metrics_family(out, METRICS_GAUGE, pool_gauges[g].name, pool_gauges[g].help))
            continue;
        for (uint32_t i = 0; i < source->conf->npools; i++)
            put_pool(out, source, (enum pool_gauge)g, &source->conf->pools[i]);
    }
}

static void put_one(struct metrics_out *out, enum metrics_type type, const char *name,
    const char *help, uint64_t value)
{
    if (metrics_family(out, type, name, help))
        metrics_sample(out, name, "", "", NULL, NULL, value);
}

static void put_config(struct metrics_out *out, const struct metrics_source *source)
{
    const struct conf *conf = source->conf;
    put_one(out, METRICS_GAUGE, "frontd_connections_limit",
        "Connections that may be open, by the config.", conf->limits.connections);
    put_one(out, METRICS_GAUGE, "frontd_shards", "Shards that the config asks for.", conf->shards);
    put_one(out, METRICS_GAUGE, "frontd_shards_running",
        "Shards that count here, those that leave among them.", metric_shards(source->share));
    put_one(out, METRICS_GAUGE, "frontd_memory_limit_bytes",
        "What each shard may hold, by the config; 0: no limit.", conf->limits.memory);
    if (metrics_family(out, METRICS_INFO, "frontd_build_info", "The version of the program."))
        metrics_sample(out, "frontd_build_info", "", "", "version", FRONTD_VERSION, 1);
}

static void put_spans(struct metrics_out *out, const struct metrics_spans *spans)
{
    if (spans == NULL)
        return;
    put_one(out, METRICS_COUNTER, "frontd_spans_exported_total",
        "Spans that the collector has taken, since this config was loaded.", spans->exported);
    put_one(out, METRICS_COUNTER, "frontd_spans_rejected_total",
        "Spans that the collector was too slow for, or has refused, since this config was loaded.",
        spans->dropped);
    put_one(out, METRICS_GAUGE, "frontd_spans_waiting", "Spans that wait for the collector.",
        spans->waiting);
}

int metrics_text(
    const struct metrics_source *source, const struct metrics_query *query, struct buf *out)
{
    struct metrics_out to = {
        .out = out, .openmetrics = query->openmetrics, .prefix = query->prefix};
    int r = 0;
    for (unsigned kind = 0; r == 0 && kind < METRIC_KINDS; kind++)
        r = put_kind(&to, source->share, (enum metric_kind)kind);
    put_pools(&to, source);
    put_config(&to, source);
    put_spans(&to, source->spans);
    if (query->openmetrics)
        metrics_end(&to);
    return to.failed ? -ENOMEM : r;
}
