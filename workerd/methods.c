#include "workerd/methods.h"

#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "proto/hello.h"

/* The names in the table are the program's own, no peer chooses what collides: no keyed hash. */
#define HASH_FUNCTION            HASH_FNV
#define HASH_NONFATAL_OOM        1
#define uthash_malloc(size)      mem_zalloc(size)
#define uthash_free(block, size) mem_free(block)
#include <uthash.h>

struct method_entry {
    UT_hash_handle hh;         /* of an exact name */
    struct method_entry *next; /* of a prefix: the next shorter one */
    struct method method;
    size_t n; /* bytes to compare: without the '*' */
    char pattern[];
};

static struct method_entry *find_exact(const struct methods *methods, const char *name, size_t n)
{
    struct method_entry *entry;
    HASH_FIND(hh, methods->exact, name, n, entry);
    return entry;
}

/*
 * Finds the place of a prefix in the list: before the first shorter one. Returns false where it is
 * there already.
 */
static bool find_place(
    struct methods *methods, const char *prefix, size_t n, struct method_entry ***ret_link)
{
    struct method_entry **link = &methods->prefixes;
    for (; *link != NULL && (*link)->n >= n; link = &(*link)->next) {
        if ((*link)->n == n && memcmp((*link)->pattern, prefix, n) == 0)
            return false;
    }
    *ret_link = link;
    return true;
}

int methods_add(struct methods *methods, const char *pattern, workerd_handler handler,
    workerd_part part, void *data)
{
    size_t size = strlen(pattern);
    const char *star = strchr(pattern, '*');
    if (size == 0 || handler == NULL || (star != NULL && star[1] != '\0'))
        return -EINVAL;
    size_t n = star != NULL ? size - 1 : size;
    struct method_entry **link = NULL;
    if (star != NULL ? !find_place(methods, pattern, n, &link)
                     : find_exact(methods, pattern, n) != NULL)
        return -EEXIST;
    if (methods->count == HELLO_METHODS_MAX)
        return -ENOSPC;
    struct method_entry *entry = mem_zalloc(sizeof(*entry) + size + 1);
    if (entry == NULL)
        return -ENOMEM;
    memcpy(entry->pattern, pattern, size + 1);
    entry->method = (struct method){.handler = handler, .part = part, .data = data};
    entry->n = n;
    if (link != NULL) {
        entry->next = *link;
        *link = entry;
    } else {
        HASH_ADD_KEYPTR(hh, methods->exact, entry->pattern, n, entry);
        if (entry->hh.tbl == NULL) { /* no memory for the table */
            mem_free(entry);
            return -ENOMEM;
        }
    }
    methods->count++;
    return 0;
}

const struct method *methods_find(const struct methods *methods, struct span name)
{
    const struct method_entry *entry = find_exact(methods, name.p, name.n);
    if (LIKELY(entry != NULL))
        return &entry->method;
    for (entry = methods->prefixes; entry != NULL; entry = entry->next) {
        if (entry->n <= name.n && memcmp(entry->pattern, name.p, entry->n) == 0)
            return &entry->method;
    }
    return NULL;
}

void methods_patterns(const struct methods *methods, char **out)
{
    size_t at = 0;
    struct method_entry *entry;
    for (entry = methods->exact; entry != NULL; entry = entry->hh.next)
        out[at++] = entry->pattern;
    for (entry = methods->prefixes; entry != NULL; entry = entry->next)
        out[at++] = entry->pattern;
    CHECK(at == methods->count);
}

void methods_deinit(struct methods *methods)
{
    struct method_entry *entry, *next;
    HASH_ITER (hh, methods->exact, entry, next) {
        HASH_DEL(methods->exact, entry);
        mem_free(entry);
    }
    for (entry = methods->prefixes; entry != NULL; entry = next) {
        next = entry->next;
        mem_free(entry);
    }
    *methods = (struct methods){0};
}
