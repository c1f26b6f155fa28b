#pragma once

/* The dashboard, as dashboard/embed.py writes it of dashboard/dashboard.html. */

#include "common/base.h"

extern const struct span dashboard_page;
extern const struct span dashboard_fields; /* of the answer, each ending in CRLF */
