#pragma once

/* What shards have counted, as text for Prometheus or in OpenMetrics. Pure: it only reads. */

#include "common/buf.h"
#include "frontd/config/config.h"
#include "frontd/ipc/shm.h"

struct metrics_source {
    const struct share *share;
    const struct conf *conf;
};

struct metrics_query {
    bool openmetrics;
    struct span prefix; /* only metrics whose name begins so; n == 0: all */
};

/* Appends the text. Returns 0 or -ENOMEM. */
int metrics_text(
    const struct metrics_source *source, const struct metrics_query *query, struct buf *out);
