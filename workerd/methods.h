#pragma once

/* Which handler takes a method: exact names in a hash table, then the longest prefix. */

#include "common/base.h"
#include "workerd/workerd.h"

struct method {
    struct method *next; /* of the same bucket, or the next shorter prefix */
    workerd_handler handler;
    void *data;
    char *pattern; /* as registered */
    size_t n;      /* bytes to compare: without the '*' */
    bool prefix;
};

enum { METHODS_BUCKETS = 64 };

/* Zeroed is empty. */
struct methods {
    struct method *buckets[METHODS_BUCKETS];
    struct method *prefixes; /* longest first */
    size_t count;
};

/* As workerd_method(). */
int methods_add(struct methods *methods, const char *pattern, workerd_handler handler, void *data);

/* The method that takes `name`, or NULL. */
const struct method *methods_find(const struct methods *methods, struct span name);

/* Fills `out`, which has room for methods->count, with the patterns; borrowed. */
void methods_patterns(const struct methods *methods, char **out);

void methods_deinit(struct methods *methods);
