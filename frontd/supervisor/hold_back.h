#pragma once

/* Shards are told what an operator holds back (holds.h), by the memory that they share. */

#include "frontd/supervisor/front.h"

/*
 * Writes it into the memory of all generations, and wakes their shards to look. To be called after
 * each change of front->holds, and where a generation has come, whose pools may have other rows.
 */
void hold_back(const struct front *front);
