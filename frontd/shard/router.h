#pragma once

/* Which route a request takes, and which pool a call. Pure. */

#include "frontd/conf.h"

/*
 * The route of a path (as sent): the longest prefix on whole segments; routes with a host that fits
 * come before those without. authority: host and optional port. NULL where there is none.
 */
const struct conf_route *router_route(
    const struct conf_listener *listener, struct span authority, struct span path);

/*
 * The pool of a method (unescaped): of the route's pools the one whose pattern fits best, exact
 * before longest prefix before the first in order. Returns its index, or -1 where none takes it.
 */
int router_pool(const struct conf *conf, const struct conf_route *route, struct span method);
