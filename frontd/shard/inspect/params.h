#pragma once

/* The members of a question's JSON object. */

#include "frontd/shard/inspect/question.h"

/*
 * Reads a member that is a number from 0 to `max` into *ret; left as it is where there is none.
 * Returns 0, or -EINVAL with question->problem.
 */
int params_number(
    struct question *question, struct span params, const char *key, uint64_t max, uint64_t *ret);

/* The same for a text, which the caller gives back with mem_free(); *ret has to be NULL before.
 * Returns 0, -EINVAL or -ENOMEM. */
int params_text(struct question *question, struct span params, const char *key, char **ret);

/* The same for one of `n` words: *ret becomes its index. */
int params_word(struct question *question, struct span params, const char *key,
    const char *const *words, size_t n, unsigned *ret);

/* The same for a connection's id, which is a text of decimal digits. */
int params_conn(struct question *question, struct span params, const char *key, uint64_t *ret);

/* Whether the member is there, and true. */
bool params_flag(struct span params, const char *key);
