#pragma once

/* Pools as a table, of `pools` and `top`. */

#include "common/base.h"

/* Prints the member `pools` of the supervisor's answer. Returns an exit code. */
int pool_table_print(struct span pools);
