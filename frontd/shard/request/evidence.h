#pragma once

/* What an operator is shown of a request that is refused though it is well formed. */

#include "frontd/codec/http_head.h"
#include "frontd/shard/net/incident.h"

/* The first line and the host of a request, until incident_hide(). */
void evidence_show_head(struct ctx *ctx, const struct http_head *head);
