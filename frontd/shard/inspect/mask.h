#pragma once

/*
 * Secrets in what an operator is shown: each of their bytes becomes '*', so that all other bytes
 * stay where they were. It is done by names, and by guess: what is shown may be cut off, or wrong.
 * Pure.
 */

#include "common/base.h"

/* Whether a name (of a header field, a parameter, a member) is of something secret. */
bool mask_is_secret(struct span name);

/*
 * The beginning of an HTTP/1 request: values of fields with secret names, of parameters in its
 * first line, and of members in a body of JSON. Also what follows "Bearer " and the like.
 */
void mask_http(char *text, size_t n);

/* JSON: values of members with secret names, whatever they are. */
void mask_json(char *text, size_t n);
