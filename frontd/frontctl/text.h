#pragma once

/* Values of answers as texts for people. Whatever bytes are in them, they cannot steer a terminal.
 */

#include <stdio.h>

#include "common/base.h"

enum { TEXT_SIZE = 48 /* of what the functions with a size of their own write */ };

/*
 * The text of a JSON string, cut off to fit; control characters become '?'. Returns whether it is
 * one; else `out` stays as it is.
 */
bool text_of(struct span value, char *out, size_t size);

/* A JSON number. Returns whether it is one. */
bool text_number(struct span value, double *ret_number);

/*
 * Writes a JSON value, and escapes in it what JSON need not escape, but a terminal takes for
 * control characters: DEL and C1. Bytes below 0x20 stand in no string of valid JSON.
 */
void text_put_json(struct span json, FILE *to);

/* A number as it is, rounded to a whole one. */
void text_plain(double number, char out[static TEXT_SIZE]);

/* "12.3k", "4.5M": a count with three digits that matter. Whole below 10,000. */
void text_count(double count, char out[static TEXT_SIZE]);

/* "1.2 ms", "3.4 s", "5 min", "2 h 10 min", "3 d 4 h". seconds: not negative. */
void text_seconds(double seconds, char out[static TEXT_SIZE]);

/* "12.3 MiB". */
void text_bytes(double bytes, char out[static TEXT_SIZE]);
