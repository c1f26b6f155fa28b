#pragma once

/*
 * Questions to shards (CTL_ASK): asks_start() sends one to all shards of the generations that serve
 * and leave → each answers (CTL_TELL) → done() has what they have told. A shard that has not
 * answered when the time is over is told of as silent, and so is one that cannot be asked, since an
 * older program has started it, or that does not read. What shards tell is a text of theirs: it is
 * looked at as JSON that goes into an answer, and believed nothing.
 */

#include <uv.h>

#include "common/list.h"
#include "frontd/ipc/control.h"
#include "frontd/supervisor/shard_process.h"
#include "proto/json_write.h"

struct front;

enum {
    ASKS_MAX = 32,              /* at the same time */
    ASKS_LIMIT_MS = 1000,       /* for an answer, beyond what the question itself takes */
    ASKS_RESULT_MAX = 12 << 20, /* bytes of all answers to one question */
    ASKS_DEPTH = 8,             /* arrays and objects that an answer is in, when it is passed on */
};

struct asks {
    struct front *front;
    uv_timer_t timer;
    struct list all;
    unsigned count;
    uint64_t last; /* the id of the last question; those of a program before are never the same */
    bool open;
};

struct ask;

struct ask_ops {
    /* A shard has told a part of its answer, a valid JSON object, borrowed. NULL: none is wanted.
     * The question may be ended from within. */
    void (*part)(
        struct ask *ask, void *data, const struct shard_process *process, struct span part);
    /*
     * All have answered, or the time is over: {"shards": [{"shard", "generation", "pid",
     * "answer"}], "silent": [{"shard", "generation", "pid"}], "lost": parts that were not passed
     * on. result: consumed; the object is the callee's to end. The question is gone.
     */
    void (*done)(void *data, struct json_writer *result);
};

void asks_init(struct asks *asks, struct front *front);
void asks_close(struct asks *asks);

/*
 * Asks. params: a JSON object. limit_ms: for the answer. one: only a shard that serves is asked.
 * Returns 0 with *ret_ask, -EBUSY (ASKS_MAX) or -ENOMEM.
 */
int asks_start(struct asks *asks, enum ctl_question question, struct span params, uint64_t limit_ms,
    bool one, const struct ask_ops *ops, void *data, struct ask **ret_ask);

/* A part could not be passed on: the result says how many. */
void asks_note_lost(struct ask *ask);

/* No answer is wanted any more: shards are told, and done() does not come. */
void asks_stop(struct ask *ask);

/* A shard has told something: a valid JSON object, borrowed. */
void asks_told(struct asks *asks, struct shard_process *process, const struct ctl_tell *tell,
    struct span text);
