#pragma once

/* Requests over HTTP, for the load programs of `scripts/bench fairness`. */

#include <stddef.h>

struct flood_text {
    char *p;
    size_t n;
};

/* A connection to HOST:PORT; ends the program where there is none. Closing it sends a reset. */
int flood_connect(const char *address);

/* The POST of a JSON-RPC call: `batch` times in one batch, or once as it is where that is 1. Its
 * memory is the caller's, for the rest of the program. */
void flood_request(struct flood_text *text, const char *path, const char *call, size_t batch);

/* The same bytes over and over, until there are at least so many. */
void flood_repeat(struct flood_text *text, size_t least);
