#pragma once

/*
 * What shards count. Each seat has words of its own in the shared memory; sums over all seats
 * include those whose processes have ended.
 */

#include <stdatomic.h>

#include "frontd/ipc/shm.h"

/*
 * X(name, kind, help): one line for each metric, from which the words of a seat and the sums are
 * made. The order is that of the words, so a new line comes last and changes SHARE_LAYOUT.
 *
 * counter: it only grows, and keeps its value when the seat's process ends.
 */
#define METRICS(X)                                                                                 \
    X(accepted, counter, "connections accepted")                                                   \
    X(closed, counter, "connections closed; one that moves to another seat is not")                \
    X(requests, counter, "requests received")                                                      \
    X(calls, counter, "calls sent to workers")                                                     \
    X(dropped, counter, "pushes dropped for consumers that were too slow")                         \
    X(moved, counter, "connections moved to another seat")                                         \
    X(beats, counter, "signs of life of the event loop")                                           \
    X(unheard, counter, "frames of workers that shards which did not keep up have missed")         \
    X(tls_handshakes, counter, "TLS handshakes that have succeeded")                               \
    X(tls_resumed, counter, "those of them that have resumed a session")                           \
    X(tls_failed, counter, "TLS handshakes that have begun and not succeeded")                     \
    X(access_lost, counter, "lines of the access log that were lost")                              \
    X(spans_lost, counter, "spans of calls that were lost before they could be exported")

/* The words of one seat, written by its process alone. */
struct share_counters {
#define METRIC_WORD(name, kind, help) _Atomic uint64_t name;
    METRICS(METRIC_WORD)
#undef METRIC_WORD
};

/*
 * Adds n to a word of the process's own seat. There is one writer: this need not be one
 * instruction.
 */
static inline void share_count(_Atomic uint64_t *counter, uint64_t n)
{
    uint64_t count = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, count + n, memory_order_relaxed);
}

/* The words of a seat; valid as long as the memory is mapped. */
struct share_counters *share_counters(struct share *share, unsigned seat);

/* The sums over all seats. */
struct share_sums {
#define METRIC_SUM(name, kind, help) uint64_t name;
    METRICS(METRIC_SUM)
#undef METRIC_SUM
};

struct share_sums share_sums(const struct share *share);
