#pragma once

/* Chooses the route of a request, and the pool of a call. Pure. */

#include "frontd/config/config.h"

enum {
    ROUTER_E_PATH = 1, /* the path has no normal form, or the listener wants a stricter spelling */
};

/*
 * The route of a path (as sent), which is compared in its normal form (url_path.h): the longest
 * prefix on whole segments; routes with a host that fits come before those without. authority: host
 * and optional port, as sent; one dot at the end of the host does not count, nor do upper and lower
 * case.
 *
 * Returns 0 with *ret_route (NULL where none fits), ROUTER_E_PATH, or -ENOMEM. Memory is taken only
 * for a long path that is not in normal form.
 */
int router_route(const struct conf_listener *listener, struct span authority, struct span path,
    const struct conf_route **ret_route);

/*
 * The pool of a method (unescaped): of the route's pools the one whose pattern fits best, exact
 * before longest prefix before the first in order; not that of its canary. Returns its index, or -1
 * where none takes it.
 */
int router_pool(const struct conf *conf, const struct conf_route *route, struct span method);
