#pragma once

/* What the files of a connection's codec (h2_conn*.c) have in common. */

#include "frontd/codec/h2_conn.h"

/* What is being looked at. */
struct feed {
    struct h2_conn *conn;
    const struct h2_config *config;
    uint64_t now;
    char *p; /* of the frame */
    size_t n;
    size_t used;
    struct h2_frame frame;
    struct h2_event *event;
};

/* h2_conn_limits.c: each counts one more, and returns H2_OK or that it is one too many. */

enum h2_fault h2_count_glitch(struct h2_conn *conn, uint64_t now);
/* A frame that a client sends now and then, and that has little use. */
enum h2_fault h2_count_spare(struct h2_conn *conn, uint64_t now);
/* The one place where resets are counted, whichever side they are of. */
enum h2_fault h2_count_reset(struct h2_conn *conn, uint64_t now);
/* An answer that the client has to read. */
enum h2_fault h2_count_queued(struct h2_conn *conn);

/* The client may send some more of what h2_count_spare() counts. */
void h2_earn_spare(struct h2_conn *conn);

/* How long it is until then, in ms; most_ms: the most that it can be. */
uint32_t h2_time_left(uint32_t until, uint64_t now, uint32_t most_ms);

/* h2_conn_settings.c */

enum h2_fault h2_feed_settings(struct feed *feed);

/* h2_conn.c: changes a window. Returns false where it would be over its maximum. */
bool h2_widen(int32_t *window, int64_t by);
