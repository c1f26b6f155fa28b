#include "workerd/methods.h"

#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "proto/hello.h"

/* FNV-1a: the names in the table are the program's own, no peer chooses what collides. */
static size_t bucket_of(const char *name, size_t n)
{
    uint32_t hash = 2166136261U;
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ (unsigned char)name[i]) * 16777619U;
    return (hash ^ hash >> 16) & (METHODS_BUCKETS - 1);
}

int methods_add(struct methods *methods, const char *pattern, workerd_handler handler, void *data)
{
    size_t n = strlen(pattern);
    const char *star = strchr(pattern, '*');
    if (n == 0 || handler == NULL || (star != NULL && star[1] != '\0'))
        return -EINVAL;
    bool prefix = star != NULL;
    n -= prefix;

    struct method **link = prefix ? &methods->prefixes : &methods->buckets[bucket_of(pattern, n)];
    for (; *link != NULL; link = &(*link)->next) {
        if ((*link)->n == n && memcmp((*link)->pattern, pattern, n) == 0)
            return -EEXIST;
        if (prefix && (*link)->n < n)
            break;
    }
    if (methods->count == HELLO_METHODS_MAX)
        return -ENOSPC;
    struct method *method = mem_zalloc(sizeof(*method));
    if (method == NULL)
        return -ENOMEM;
    method->pattern = mem_strdup(pattern);
    if (method->pattern == NULL) {
        mem_free(method);
        return -ENOMEM;
    }
    method->handler = handler;
    method->data = data;
    method->n = n;
    method->prefix = prefix;
    method->next = *link;
    *link = method;
    methods->count++;
    return 0;
}

const struct method *methods_find(const struct methods *methods, struct span name)
{
    const struct method *method = methods->buckets[bucket_of(name.p, name.n)];
    for (; method != NULL; method = method->next) {
        if (method->n == name.n && memcmp(method->pattern, name.p, name.n) == 0)
            return method;
    }
    for (method = methods->prefixes; method != NULL; method = method->next) {
        if (method->n <= name.n && memcmp(method->pattern, name.p, method->n) == 0)
            return method;
    }
    return NULL;
}

static size_t put_patterns(const struct method *method, char **out, size_t at)
{
    for (; method != NULL; method = method->next)
        out[at++] = method->pattern;
    return at;
}

void methods_patterns(const struct methods *methods, char **out)
{
    size_t at = 0;
    for (size_t i = 0; i < METHODS_BUCKETS; i++)
        at = put_patterns(methods->buckets[i], out, at);
    at = put_patterns(methods->prefixes, out, at);
    CHECK(at == methods->count);
}

static void free_list(struct method *method)
{
    while (method != NULL) {
        struct method *next = method->next;
        mem_free(method->pattern);
        mem_free(method);
        method = next;
    }
}

void methods_deinit(struct methods *methods)
{
    for (size_t i = 0; i < METHODS_BUCKETS; i++)
        free_list(methods->buckets[i]);
    free_list(methods->prefixes);
    *methods = (struct methods){0};
}
