#pragma once

/* The check of `allow` and `deny`, of a listener or a route. */

#include "frontd/config/access.h"
#include "frontd/config/checker.h"
#include "frontd/config/schema.h"

/* parent: the path of what has the keys. ret_access->rules are the caller's, also after an error.
 */
void conf_check_access(struct checker *checker, const char *parent,
    const struct conf_raw_access *raw, struct conf_access *ret_access);
