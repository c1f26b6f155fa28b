#pragma once

/* What the dashboard shows: metrics, and what the supervisor says, of one moment. Pure. */

#include "common/buf.h"
#include "proto/json_write.h"

/* The methods of the supervisor that are asked, each without params. */
enum { OVERVIEW_QUESTIONS = 5 };
extern const char *const overview_questions[OVERVIEW_QUESTIONS];

/*
 * Writes {"at":…,"status":…,"pools":…,…,"metrics":"…"}, with a member for each question. at: ms
 * since 1970. results: a JSON value for each question; n == 0: there is none, and null is written.
 * metrics: as /metrics has them.
 */
void overview_write(uint64_t at, const struct span results[OVERVIEW_QUESTIONS], struct span metrics,
    struct json_writer *out);
