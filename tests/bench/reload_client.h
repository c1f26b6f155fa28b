#pragma once

/*
 * The clients of `scripts/bench reload`: connections of one kind that stay. Each is opened and
 * makes one call (a WebSocket subscribes to its topic); then it is open. From then on it makes the
 * calls that it is told to, one at a time, and gets what is published to its topic. A connection
 * that the server closes is counted, and opened again at once, as a client would do.
 */

#include <stdbool.h>

#include "tests/bench/reload_wire.h"

struct clients_config {
    const char *address; /* HOST:PORT */
    const char *path;    /* of calls, and of the upgrade */
    enum wire_kind kind;
    size_t count;
    uint32_t topics; /* client i subscribes to topic i % topics */
    const char *ca;  /* the server's certificate, a file; NULL: no TLS */
};

/* From the beginning on, but for what is open, and the three times. */
struct clients_stats {
    size_t open;    /* now */
    uint64_t calls; /* answered as they should be */
    uint64_t
        failed; /* answered otherwise, closed meanwhile, unanswered, or not to be made at all */
    uint64_t closed;  /* open connections that the server closed */
    uint64_t refused; /* attempts to open one that came to nothing */
    uint64_t pushes;  /* messages that came for the first time */
    int64_t lost;     /* numbers left out; what comes late is taken off again */
    uint64_t doubled; /* messages that came again */
    uint64_t late;    /* messages that came after one with a higher number, the doubled included */
    uint64_t strange; /* messages of another topic, answers that were not asked for */
    /* ns, since clients_restart_clocks() */
    uint64_t call_longest; /* from when a call was due to its answer */
    uint64_t call_sum;
    uint64_t push_longest; /* from PUBLISH to the subscriber */
};

/* Makes the clients; they are opened by clients_tick(). Ends the program on failure. */
void clients_init(const struct clients_config *config);

/* What epoll_wait() is to look at. */
int clients_epoll(void);

/* An event of clients_epoll() with that data. */
void clients_event(void *data, uint32_t events);

/*
 * Opens the connections that are due, and gives up what has taken too long. Often, every ms or so.
 */
void clients_tick(uint64_t now);

/*
 * Has the next client that makes no call make one, which was due at that time (ns). Returns false
 * where each makes one: it is to be asked again; a call that comes too late by that has failed.
 */
bool clients_call(uint64_t due);

/* Whether all are open, and wait for nothing. */
bool clients_all_quiet(void);

/* How many of the `published` messages have not come yet; with `count` they are lost. */
uint64_t clients_missing(uint64_t published, bool count);

const struct clients_stats *clients_stats(void);
/* ns, since clients_restart_clocks(), rounded up by an eighth at most: of the calls answered 99 %
 * took no longer. */
uint64_t clients_call_p99(void);

void clients_restart_clocks(void);
