#pragma once

/* Where a text stops being the beginning of what it should be, for an operator. Pure. */

#include "common/base.h"
#include "frontd/codec/http1_head.h"

/*
 * The offset of the first byte that cannot stand there, or text.n where the text may only be
 * incomplete. Right for what json_scan_value() and http1_head_parse() refuse; of others it is
 * text.n.
 */
size_t fault_at_json(struct span text);
size_t fault_at_http1(struct span text, const struct http1_limits *limits);
