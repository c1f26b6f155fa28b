#pragma once

/* The authority of a request, as a target or Host has it: RFC 3986 section 3.2. Pure. */

#include "common/base.h"

/*
 * Whether it is host [ ":" port ], without userinfo. An IPv6 address has no zone (RFC 6874), a port
 * is at most 65535. *ret_port is 0 where there is none; scratch on failure.
 */
bool authority_parse(struct span authority, unsigned *ret_port);
