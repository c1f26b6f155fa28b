#pragma once

/* Which handler takes a method: exact names in a hash table, then the longest prefix. */

#include "common/base.h"
#include "workerd/workerd.h"

struct method {
    workerd_handler handler;
    workerd_part part; /* of bodies; NULL: they are wanted whole */
    void *data;
};

/* Zeroed is empty. */
struct methods {
    struct method_entry *exact;    /* hash table */
    struct method_entry *prefixes; /* list, the longest first */
    size_t count;
};

/* As workerd_method_parts(); part: NULL for workerd_method(). */
int methods_add(struct methods *methods, const char *pattern, workerd_handler handler,
    workerd_part part, void *data);

/* Returns the method that takes `name`, or NULL. */
const struct method *methods_find(const struct methods *methods, struct span name);

/*
 * Fills `out`, which has room for methods->count, with the patterns as they were registered;
 * borrowed until methods_deinit().
 */
void methods_patterns(const struct methods *methods, char **out);

void methods_deinit(struct methods *methods);
