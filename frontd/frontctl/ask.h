#pragma once

/* One question to the supervisor, for the commands that ask no more. */

#include <time.h>

#include "frontd/frontctl/frontctl.h"
#include "frontd/frontctl/link.h"

/*
 * Connects, with the first question, calls a method, and says on standard error what goes wrong.
 * params: consumed; NULL: none. Returns 0 with *ret_result, a JSON value that stays until the next
 * question; or an exit code.
 */
int ask(const struct frontctl *frontctl, const char *method, struct json_writer *params,
    struct span *ret_result);

/*
 * The same, twice and `between` apart, for what changes meanwhile; without params. Returns 0 with
 * *ret_before, the first result (mem_free(); NULL: there was no memory for it), and *ret_now, as
 * ask() gives it; or an exit code.
 */
int ask_twice(const struct frontctl *frontctl, const char *method, const struct timespec *between,
    char **ret_before, struct span *ret_now);

/*
 * Says what has gone wrong with a call, if something has. Returns 0 where there is a result, or an
 * exit code.
 */
int ask_judge(const struct link *link, const char *method, enum link_outcome outcome,
    const struct link_answer *answer);

/* Prints a JSON value as a line. Returns FRONTCTL_DONE. */
int ask_print_json(struct span value);
