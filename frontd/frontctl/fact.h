#pragma once

/* Lines "name   value" for people; none where there is no such value. */

#include "common/base.h"

void fact_put(const char *name, const char *text);
void fact_text(const char *name, struct span value);
void fact_plain(const char *name, struct span value); /* a number, with all its digits */
void fact_count(const char *name, struct span value);
void fact_seconds(const char *name, struct span value);
void fact_bytes(const char *name, struct span value);
