#pragma once

/* Methods as a table, of `methods` and `top`. */

#include "common/base.h"

/* Two answers of the supervisor to `methods`, one after the other. */
struct method_looks {
    struct span before;
    struct span now;
    double seconds; /* that have passed between them */
    bool between;   /* all columns are of that time; else all but the rate are since the start */
};

/* Prints a table, sorted by a member or by "rate". most: rows. Returns an exit code. */
int method_table_print(const struct method_looks *looks, const char *by, size_t most);
