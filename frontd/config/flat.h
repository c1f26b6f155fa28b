#pragma once

/*
 * The text of a config as a list of keys with their values, to compare two of them: entries of
 * lists are named by their `name`, routes by host and path, so that an order does not matter.
 */

#include "common/base.h"

struct conf_flat_entry {
    char *key;   /* "listeners[web].routes[/rpc].timeout" */
    char *value; /* as written; a list of words in brackets */
};

struct conf_flat {
    struct conf_flat_entry *entries; /* sorted by key */
    size_t n;
    size_t room;
};

/* Reads a text. Returns 0, -EINVAL where it is no YAML, or -ENOMEM. flat: zeroed. */
int conf_flat_read(struct conf_flat *flat, const char *text, size_t n);
void conf_flat_deinit(struct conf_flat *flat);

/*
 * Calls `fn` for each key whose value differs, in their order. from, to: the values; NULL: it is
 * not there.
 */
void conf_flat_compare(const struct conf_flat *from, const struct conf_flat *to,
    void (*fn)(void *data, const char *key, const char *from, const char *to), void *data);
