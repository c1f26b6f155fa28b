#pragma once

/* Methods as a table, of `methods` and `top`. */

#include "common/base.h"

/*
 * Prints the member `methods` of the supervisor's answer, sorted by a member or by "rate". before:
 * that of an answer `seconds` earlier. most: rows. Returns an exit code.
 */
int method_table_print(
    struct span methods, struct span before, double seconds, const char *by, size_t most);
