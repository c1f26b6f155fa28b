#pragma once

/*
 * What an operator may ask of a shard: one table of functions for each question of enum
 * ctl_question. The tables are in shard_parts.c. The answer is one JSON object, or several parts.
 *
 * Nothing here may hold the shard up: a question is answered in steps, each of which is at most
 * QUESTION_STEP places of a walk or rows of an answer.
 */

#include "frontd/ipc/control.h"
#include "frontd/shard/net/ctx.h"
#include "proto/json_write.h"

enum {
    QUESTION_STEP = 64,        /* places or rows in one step */
    QUESTION_WALK_MS = 800,    /* for a walk: what it has by then is the answer */
    QUESTION_ROWS_MAX = 1000,  /* in one answer of one shard */
    QUESTION_ROWS = 100,       /* the same, unless the question says how many */
    QUESTION_TEXT_MAX = 900000 /* bytes of an answer, after which no further row is added */
};
_Static_assert(QUESTION_TEXT_MAX < CTL_TELL_MAX - 16384, "a row more fits, and the end");

struct question_ops;

/* A question that is being answered. */
struct question {
    struct list node; /* of those of the shard */
    struct ctx *ctx;
    uint64_t id; /* the supervisor's */
    const struct question_ops *ops;
    const char *problem; /* what is wrong with the question: static text; NULL: nothing */
    uint64_t at;         /* ms: when step() is to be called; 0: in each turn */
    uint64_t asked;      /* ms */
    struct json_writer answer;
    uint64_t lost; /* parts that could not be told */
    bool answered; /* the answer is complete, and may have to wait until it can be sent */
    _Alignas(max_align_t) char own[]; /* the struct of the question's file; zeroed at first */
};

enum question_step {
    QUESTION_MORE,  /* to be called again, in this turn or the next */
    QUESTION_WAITS, /* to be called when question->at has come */
    QUESTION_PART,  /* what is in `answer` is sent, and step() called when question->at has come */
    QUESTION_ANSWERED, /* `answer` is complete */
};

struct question_ops {
    size_t size; /* of the struct in question->own */
    /*
     * Reads what is asked: params is a JSON text that is valid, borrowed until it returns. Returns
     * 0, -EINVAL with question->problem, or -ENOMEM.
     */
    int (*begin)(struct question *question, struct span params);
    enum question_step (*step)(struct question *question);
    /* Frees what it has; also after a begin() that has failed. NULL: nothing. */
    void (*end)(struct question *question);
};

/* A question's own struct. */
static inline void *question_own(struct question *question)
{
    return question->own;
}

extern const struct question_ops conns_question;
extern const struct question_ops topics_question;
extern const struct question_ops kick_question;
extern const struct question_ops errors_question;
extern const struct question_ops tap_question;
extern const struct question_ops explain_question;
extern const struct question_ops profile_question;
