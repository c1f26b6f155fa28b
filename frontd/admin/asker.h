#pragma once

/*
 * Questions to the supervisor, over the socket that it serves for this process (docs/control.md).
 * It answers in its own time; a question that it has not answered in ASKER_WAIT_MS is given up.
 */

#include <uv.h>

#include "common/buf.h"
#include "common/list.h"

enum {
    ASKER_WAIT_MS = 2000,
    ASKER_QUESTIONS_MAX = 64, /* in progress */
    ASKER_OUT_MAX = 64 *
                    1024, /* bytes of questions that a supervisor which is stopped has not read */
};

/*
 * result: the JSON value, valid until this returns; n == 0: there is none, and `why` is a word for
 * a client.
 */
typedef void ask_done(void *data, struct span result, const char *why);

struct ask {
    struct list node;
    uint64_t number;
    uint64_t due; /* ms */
    ask_done *done;
    void *data;
};

struct asker {
    uv_loop_t *loop;
    void (*lost)(void *data); /* the supervisor has closed the socket */
    void *data;
    uv_poll_t poll;
    uv_timer_t timer;
    uint64_t wait; /* ms, of a question: ASKER_WAIT_MS */
    int fd;        /* -1: lost, or never opened */
    struct buf in;
    struct buf out;
    struct list asks;
    unsigned nasks;
    uint64_t numbers;
};

/* fd: consumed, also on failure. lost: called once, by the loop. Returns 0 or -errno. */
int asker_open(struct asker *asker, uv_loop_t *loop, int fd, void (*lost)(void *data), void *data);

/*
 * Asks for a method without params. done: called by the loop, once, unless it is cancelled.
 * Returns NULL where it cannot be asked: then `done` is not called.
 */
struct ask *asker_ask(struct asker *asker, const char *method, ask_done *done, void *data);

/* Its answer is not wanted any more. */
void asker_cancel(struct asker *asker, struct ask *ask);

/* Closes all; nobody is told. Accepts one that could not be opened. */
void asker_close(struct asker *asker);
