#pragma once

/*
 * The rotation of the keys of session tickets: a timer makes a new one when it is due, and all
 * shards are told.
 */

#include <uv.h>

#include "frontd/supervisor/front.h"

struct rotation {
    uv_timer_t timer;
    struct front *front;
};

/* front: borrowed, with its loop. */
void rotation_init(struct rotation *rotation, struct front *front);

/*
 * To be called when there is a generation more or less, before its shards are started: their
 * configs say how long tickets live. all: every shard is told, whether the keys have changed or
 * not.
 */
void rotation_renew(struct rotation *rotation, bool all);

/* Closes the timer, and gives the keys back. */
void rotation_close(struct rotation *rotation);
