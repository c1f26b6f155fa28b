#pragma once

/*
 * What is counted, in words of the shared memory: one table for each kind of row, from which the
 * words, the sums and the text of metrics (admin/metrics_text.h) are made.
 *
 * Each seat has rows of its own, in which its process alone writes; rows of one name have the same
 * number on all seats (shm_names.h). Sums over all seats include those whose processes have ended.
 */

#include <stdatomic.h>

#include "frontd/ipc/metric_labels.h"
#include "frontd/ipc/shm.h"

enum metric_type {
    METRIC_COUNTER,   /* it only grows, and keeps its value when the seat's process ends */
    METRIC_TIME,      /* the same, in us; shown in seconds */
    METRIC_HISTOGRAM, /* the sum of events' us, and METRIC_BOUNDS + 1 numbers of events */
    METRIC_GAUGE,     /* 0 when the seat's process has ended */
    METRIC_HIDDEN,    /* not shown by itself */
};

/* The upper bounds of a histogram's buckets, in us; beyond them there is one bucket more. */
enum { METRIC_BOUNDS = 13, METRIC_SUM = 0 /* the word of a histogram's sum; buckets follow */ };
extern const uint64_t metric_bounds[METRIC_BOUNDS];

/* A label whose values are in words that follow each other; see metric_dim_label(). */
enum metric_dim {
    METRIC_DIM_NONE,
    METRIC_DIM_BUCKET, /* of METRIC_HISTOGRAM: its words */
    METRIC_DIM_PROTOCOL,
    METRIC_DIM_REASON,
    METRIC_DIM_CLASS,
    METRIC_DIM_CODE,
    METRIC_DIM_SEAT,
    METRIC_DIM_VERSION,
    METRIC_DIM_HANDSHAKE,
    METRIC_DIM_PUSH,
    METRIC_DIM_SLOW,
    METRIC_DIM_REFUSAL,
    METRIC_DIM_POOL_REFUSAL,
    METRIC_DIM_RECYCLE,
    METRIC_DIM_USE,
    METRIC_DIM_OUTCOME,
    METRIC_DIM_PROGRAM,
    METRIC_DIM_RELOAD,
};

/* How many values each has. */
enum {
    METRIC_SIZE_NONE = 1,
    METRIC_SIZE_BUCKET = METRIC_BOUNDS + 2,
    METRIC_SIZE_PROTOCOL = METRIC_PROTOCOL_COUNT,
    METRIC_SIZE_REASON = METRIC_REASON_COUNT,
    METRIC_SIZE_CLASS = METRIC_CLASS_COUNT,
    METRIC_SIZE_CODE = METRIC_CODE_COUNT,
    METRIC_SIZE_SEAT = SHARE_SEATS,
    METRIC_SIZE_VERSION = METRIC_VERSION_COUNT,
    METRIC_SIZE_HANDSHAKE = METRIC_HANDSHAKE_COUNT,
    METRIC_SIZE_PUSH = METRIC_PUSH_COUNT,
    METRIC_SIZE_SLOW = METRIC_SLOW_COUNT,
    METRIC_SIZE_REFUSAL = METRIC_REFUSAL_COUNT,
    METRIC_SIZE_POOL_REFUSAL = METRIC_POOL_REFUSAL_COUNT,
    METRIC_SIZE_RECYCLE = METRIC_RECYCLE_COUNT,
    METRIC_SIZE_USE = METRIC_USE_COUNT,
    METRIC_SIZE_OUTCOME = METRIC_OUTCOME_COUNT,
    METRIC_SIZE_PROGRAM = METRIC_PROGRAM_COUNT,
    METRIC_SIZE_RELOAD = METRIC_RELOAD_COUNT,
};

/*
 * X(member, type, first dim, second dim, name, help): one line for each metric. The order is that
 * of the words, and a change is one of SHARE_LAYOUT. What a table begins with is read last when
 * sums are made: so it is never less than what the others say of the same things.
 */

/* Of the whole front, without a row. */
#define FRONT_METRICS(X)                                                                           \
    X(beats, HIDDEN, NONE, NONE, "", "signs of life of the event loop")                            \
    X(incarnation, HIDDEN, NONE, NONE, "", "of the process on the seat; 0: it counts elsewhere")   \
    X(handshakes, COUNTER, VERSION, HANDSHAKE, "frontd_tls_handshakes_total",                      \
        "TLS handshakes of clients by version and outcome.")                                       \
    X(pushes, COUNTER, PUSH, NONE, "frontd_pushes_total",                                          \
        "Frames of workers for connections, by what they do.")                                     \
    X(deliveries, COUNTER, NONE, NONE, "frontd_push_deliveries_total",                             \
        "Messages of workers that were put on the way to a connection.")                           \
    X(dropped, COUNTER, NONE, NONE, "frontd_push_dropped_total",                                   \
        "Messages of workers that were dropped for clients that read too slowly.")                 \
    X(slow, COUNTER, SLOW, NONE, "frontd_push_slow_clients_total",                                 \
        "Connections that read too slowly what is pushed, by what became of them.")                \
    X(unheard, COUNTER, NONE, NONE, "frontd_push_lost_total",                                      \
        "Frames of workers that shards which did not keep up have missed.")                        \
    X(refusals, COUNTER, REFUSAL, NONE, "frontd_refusals_total",                                   \
        "Requests that were refused and clients that were closed, by why.")                        \
    X(log_dropped, COUNTER, NONE, NONE, "frontd_log_lines_dropped_total",                          \
        "Log lines that were left out, since there were too many or the log was blocked.")         \
    X(access_lost, COUNTER, NONE, NONE, "frontd_access_log_lines_dropped_total",                   \
        "Lines of the access log that were lost.")                                                 \
    X(spans_lost, COUNTER, NONE, NONE, "frontd_spans_dropped_total",                               \
        "Spans of calls that were lost before they could be exported.")                            \
    X(ejected, COUNTER, NONE, NONE, "frontd_workers_ejected_total",                                \
        "Times that a worker was left out, since it has failed repeatedly.")                       \
    X(recycled, COUNTER, RECYCLE, NONE, "frontd_workers_recycled_total",                           \
        "Times that a worker was to be replaced, by the limit of its pool that it had reached.")   \
    X(reloads, COUNTER, PROGRAM, RELOAD, "frontd_reloads_total",                                   \
        "Reloads of the config and replacements of the program, by outcome.")                      \
    X(started_at, GAUGE, NONE, NONE, "frontd_start_time_seconds",                                  \
        "When counting began, in seconds of UNIX time.")                                           \
    X(config_at, GAUGE, NONE, NONE, "frontd_config_loaded_timestamp_seconds",                      \
        "When the config that serves was loaded, in seconds of UNIX time.")

/* Of each seat by itself. */
#define SHARD_METRICS(X)                                                                           \
    X(turns, COUNTER, NONE, NONE, "frontd_loop_turns_total", "Turns of a shard's event loop.")     \
    X(busy, TIME, NONE, NONE, "frontd_loop_busy_seconds_total",                                    \
        "Time that a shard's event loop has not waited for events.")                               \
    X(lag, HISTOGRAM, BUCKET, NONE, "frontd_loop_lag_seconds",                                     \
        "How long a turn of a shard's event loop took: what comes meanwhile waits for so long.")   \
    X(memory, GAUGE, USE, NONE, "frontd_memory_bytes", "What a shard holds, by use.")

#define LISTENER_METRICS(X)                                                                        \
    X(accepted, COUNTER, NONE, NONE, "frontd_connections_accepted_total", "Connections accepted.") \
    X(received, COUNTER, NONE, NONE, "frontd_client_received_bytes_total",                         \
        "Bytes received from clients, without TLS.")                                               \
    X(sent, COUNTER, NONE, NONE, "frontd_client_sent_bytes_total",                                 \
        "Bytes sent to clients, without TLS.")                                                     \
    X(closed, COUNTER, PROTOCOL, REASON, "frontd_connections_closed_total",                        \
        "Connections closed, by what they spoke and why.")                                         \
    X(handed_over, COUNTER, NONE, NONE, "frontd_connections_handed_over_total",                    \
        "Connections that went from a shard to another one, and live on there.")                   \
    X(left_behind, COUNTER, NONE, NONE, "frontd_connections_left_behind_total",                    \
        "Connections that no new shard could take, so that they are closed in the drain time.")    \
    X(speaking, HIDDEN, PROTOCOL, NONE, "", "those that speak not what they began with")           \
    X(arrived, HIDDEN, SEAT, NONE, "", "those that were taken over from each seat")                \
    X(arriving, HIDDEN, SEAT, NONE, "", "those of which it is not known yet whose they are")       \
    X(departed, HIDDEN, SEAT, NONE, "", "those that each seat has taken over")

#define ROUTE_METRICS(X)                                                                           \
    X(received, COUNTER, NONE, NONE, "frontd_requests_received_total",                             \
        "Requests received: of HTTP, and messages of other connections.")                          \
    X(bytes_in, COUNTER, NONE, NONE, "frontd_request_body_bytes_total",                            \
        "Bytes of the bodies of requests.")                                                        \
    X(bytes_out, COUNTER, NONE, NONE, "frontd_response_body_bytes_total",                          \
        "Bytes of the bodies of answers.")                                                         \
    X(ended, COUNTER, CLASS, CODE, "frontd_requests_total",                                        \
        "Requests that have ended, by what they were and what became of them.")

/* Of a pool of a route. */
#define PAIR_METRICS(X)                                                                            \
    X(started, COUNTER, NONE, NONE, "frontd_calls_started_total", "Calls given to a pool.")        \
    X(ended, COUNTER, CODE, NONE, "frontd_calls_total",                                            \
        "Calls that have ended, by what became of them.")                                          \
    X(whole, HISTOGRAM, BUCKET, NONE, "frontd_call_duration_seconds",                              \
        "How long calls took, from when they came until they ended.")                              \
    X(queued, HISTOGRAM, BUCKET, NONE, "frontd_call_queue_duration_seconds",                       \
        "How long calls waited for a worker.")                                                     \
    X(worked, HISTOGRAM, BUCKET, NONE, "frontd_call_worker_duration_seconds",                      \
        "How long workers had the calls that they were given.")                                    \
    X(refused, COUNTER, POOL_REFUSAL, NONE, "frontd_calls_refused_total",                          \
        "Calls that were refused since their pool was busy, by why.")

#define METHOD_METRICS(X)                                                                          \
    X(ended, COUNTER, OUTCOME, NONE, "frontd_method_calls_total",                                  \
        "Calls of a method that have ended: ok, an error of the worker's (app), or of the front.") \
    X(whole, HISTOGRAM, BUCKET, NONE, "frontd_method_duration_seconds",                            \
        "How long calls of a method took, from when they came until they ended.")                  \
    X(slowest, HIDDEN, NONE, NONE, "", "us of the slowest call so far")

/* Z(kind of row, its table, how many rows each seat has). Row 0 is what has no row of its own. */
#define METRIC_ROWS(Z)                                                                             \
    Z(front, FRONT_METRICS, 1)                                                                     \
    Z(shard, SHARD_METRICS, 1)                                                                     \
    Z(listener, LISTENER_METRICS, 128)                                                             \
    Z(route, ROUTE_METRICS, 512)                                                                   \
    Z(pair, PAIR_METRICS, 512)                                                                     \
    Z(method, METHOD_METRICS, 128)

enum metric_kind {
#define METRIC_KIND(kind, table, rows) METRIC_KIND_##kind,
    METRIC_ROWS(METRIC_KIND)
#undef METRIC_KIND
        METRIC_KINDS
};

enum {
#define METRIC_ROWS_OF(kind, table, rows) METRIC_ROWS_##kind = (rows),
    METRIC_ROWS(METRIC_ROWS_OF)
#undef METRIC_ROWS_OF
        METRIC_ROWS_MAX = 512,
    METRIC_METHODS_MAX = 100, /* that have rows of their own */
};

/*
 * The words of a row, struct front_words and so on: no cache line has two writers. What most calls
 * count is in few of them: a table begins with it, and a histogram has its sum and its first
 * buckets in one.
 */
#define METRIC_ALIGN_COUNTER   8
#define METRIC_ALIGN_TIME      8
#define METRIC_ALIGN_GAUGE     8
#define METRIC_ALIGN_HIDDEN    8
#define METRIC_ALIGN_HISTOGRAM 64
#define METRIC_WORD(member, type, dim1, dim2, name, help)                                          \
    _Alignas(METRIC_ALIGN_##type) _Atomic uint64_t member[METRIC_SIZE_##dim1 * METRIC_SIZE_##dim2];
#define METRIC_WORDS(kind, table, rows)                                                            \
    struct kind##_words {                                                                          \
        _Alignas(64) struct {                                                                      \
            table(METRIC_WORD)                                                                     \
        };                                                                                         \
    };
METRIC_ROWS(METRIC_WORDS)
#undef METRIC_WORDS
#undef METRIC_WORD

/* One metric of a table. */
struct metric {
    const char *member;
    const char *name;
    const char *help;
    enum metric_type type;
    enum metric_dim dims[2];
    uint16_t at; /* its first word in the row */
    uint16_t n;  /* words */
};

/* The table of a kind of row; *ret_n metrics. */
const struct metric *metric_table(enum metric_kind kind, size_t *ret_n);

/* How many rows of that kind each seat has, and how many words each of them has. */
unsigned metric_rows(enum metric_kind kind);
size_t metric_words(enum metric_kind kind);

enum { METRIC_WORDS_MAX = METRIC_CLASS_COUNT * METRIC_CODE_COUNT + 8 };

/* The name of a label; "" for METRIC_DIM_NONE. Static text. */
const char *metric_dim_name(enum metric_dim dim);
/* Its i-th value; NULL where it has no name (METRIC_DIM_SEAT). Static text. */
const char *metric_dim_label(enum metric_dim dim, unsigned i);
unsigned metric_dim_size(enum metric_dim dim);

/*
 * The row of a seat, for the one process that writes there; valid as long as the memory is mapped.
 * From now on the row is read.
 */
void *metric_row(struct share *share, unsigned seat, enum metric_kind kind, unsigned row);

/* The front's own words of a seat. */
struct front_words *share_front(struct share *share, unsigned seat);
struct shard_words *share_shard(struct share *share, unsigned seat);

/*
 * Adds n to a word of the process's own seat. There is one writer: this need not be one
 * instruction. What was counted before is seen by all that see this.
 */
static inline void share_count(_Atomic uint64_t *counter, uint64_t n)
{
    uint64_t count = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, count + n, memory_order_release);
}

static inline void share_set(_Atomic uint64_t *gauge, uint64_t value)
{
    atomic_store_explicit(gauge, value, memory_order_relaxed);
}

/* The bucket of a time in us. */
static inline unsigned metric_bucket(uint64_t us)
{
    /* By the highest bit; the bounds at and above 512 us are about a power of two apart. */
    unsigned i = 0;
    while (i < METRIC_BOUNDS && us > metric_bounds[i])
        i++;
    return i;
}

/* Adds a time in us to a histogram. */
static inline void metric_observe(_Atomic uint64_t *histogram, uint64_t us)
{
    share_count(&histogram[METRIC_SUM], us);
    share_count(&histogram[1 + metric_bucket(us)], 1);
}
