#pragma once

/* Which rows of metrics the listeners, routes and pools of a config have. */

#include "frontd/config/config.h"
#include "frontd/ipc/shm_names.h"

struct metric_rows {
    uint16_t listeners[CONF_LISTENERS_MAX]; /* in the order of the config */
    uint16_t none[CONF_LISTENERS_MAX];      /* of each listener: requests without a route */
    uint16_t *routes;                       /* by conf_route.number */
    uint16_t *pairs;                        /* by conf_route.pair and the place in its `pools` */
};

/*
 * Finds the rows, and takes those that are missing: the supervisor before it starts the shards of a
 * config, and each of them. Returns 0 or -ENOMEM.
 */
int metric_rows_init(struct metric_rows *rows, struct share *share, const struct conf *conf);

/* Accepts one that is zeroed. */
void metric_rows_deinit(struct metric_rows *rows);
