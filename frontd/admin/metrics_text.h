#pragma once

/*
 * What shards and the supervisor have counted (ipc/metrics.h), as text for Prometheus (version
 * 0.0.4) or in OpenMetrics 1.0. Pure: it only reads. All metrics: docs/metrics.md.
 */

#include "common/buf.h"
#include "frontd/config/config.h"
#include "frontd/ipc/shm.h"

/* What the process has done with spans that shards have handed over, since it was started. */
struct metrics_spans {
    uint64_t exported;
    uint64_t dropped; /* for want of room, or refused by the collector */
    uint64_t waiting;
};

struct metrics_source {
    const struct share *share;         /* it may be mapped to be read only */
    const struct conf *conf;           /* of the shards that serve */
    uint64_t now;                      /* ms of CLOCK_MONOTONIC, for the age of what waits */
    const struct metrics_spans *spans; /* NULL: no calls are traced */
};

struct metrics_query {
    bool openmetrics;
    struct span prefix; /* only metrics whose name begins so; n == 0: all */
};

/* Appends the text. Returns 0 or -ENOMEM. */
int metrics_text(
    const struct metrics_source *source, const struct metrics_query *query, struct buf *out);
