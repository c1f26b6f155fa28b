#pragma once

/* The check of `auth`, of a listener or a route. */

#include "frontd/config/checker.h"
#include "frontd/config/config.h"
#include "frontd/config/schema.h"

/*
 * parent: the path of what has the key. raw: NULL where it is not there. inherited: what holds
 * then. Returns what tokens have to be like: one of conf->jwts, or NULL: none are asked for, or
 * there was an error.
 */
const struct conf_jwt *conf_check_auth(struct checker *checker, const char *parent,
    const struct conf_raw_auth *raw, const struct conf_jwt *inherited, struct conf *conf);

/*
 * Warns of a route that takes tokens in a cookie from pages of any site. parent: its path. To be
 * called when all else of the route has been checked.
 */
void conf_check_cookie(struct checker *checker, const char *parent, const struct conf_route *route);
