#include "frontd/config/flat.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "common/alloc.h"
#include "common/buf.h"

enum {
    DEPTH_MAX = 16,     /* deeper than any key that exists */
    KEY_MAX = 512,      /* bytes */
    ENTRIES_MAX = 65536 /* aliases may name a part of the text again and again */
};

struct walk {
    struct conf_flat *flat;
    yaml_document_t *document;
    char key[KEY_MAX];
};

static int add(struct conf_flat *flat, const char *key, const char *value)
{
    if (flat->n == ENTRIES_MAX)
        return -EINVAL;
    if (flat->n == flat->room) {
        size_t room = MAX(2 * flat->room, (size_t)64);
        struct conf_flat_entry *entries = mem_widen(flat->entries, flat->n, room, sizeof(*entries));
        if (entries == NULL)
            return -ENOMEM;
        flat->entries = entries;
        flat->room = room;
    }
    struct conf_flat_entry *entry = &flat->entries[flat->n];
    *entry = (struct conf_flat_entry){mem_strdup(key), mem_strdup(value)};
    flat->n++;
    return entry->key == NULL || entry->value == NULL ? -ENOMEM : 0;
}

static const char *text_of(const yaml_node_t *node)
{
    return node != NULL && node->type == YAML_SCALAR_NODE ? (const char *)node->data.scalar.value
                                                          : NULL;
}

/* The text of a member of a mapping, or NULL. */
static const char *member(yaml_document_t *document, const yaml_node_t *mapping, const char *key)
{
    const yaml_node_pair_t *pair = mapping->data.mapping.pairs.start;
    for (; pair < mapping->data.mapping.pairs.top; pair++) {
        const char *name = text_of(yaml_document_get_node(document, pair->key));
        if (name != NULL && strcmp(name, key) == 0)
            return text_of(yaml_document_get_node(document, pair->value));
    }
    return NULL;
}

/* What names an entry of a list: "web", "host/path", or its number. */
static void name_entry(
    struct walk *walk, const yaml_node_t *entry, size_t index, char *out, size_t size)
{
    const char *name = NULL;
    const char *host = NULL;
    const char *path = NULL;
    if (entry->type == YAML_MAPPING_NODE) {
        name = member(walk->document, entry, "name");
        host = member(walk->document, entry, "host");
        path = member(walk->document, entry, "path");
    }
    if (name != NULL || path != NULL)
        snprintf(out, size, "[%s%s]", name != NULL || host == NULL ? "" : host,
            name != NULL ? name : path);
    else
        snprintf(out, size, "[%zu]", index);
}

static int walk_node(struct walk *walk, const yaml_node_t *node, size_t length, unsigned depth);

/* Walks over what a key, of which `length` bytes lead there, or an entry leads to. */
static int step(struct walk *walk, size_t length, const char *dot, const char *name,
    const yaml_node_t *node, unsigned depth)
{
    int n = snprintf(walk->key + length, sizeof(walk->key) - length, "%s%s", dot, name);
    if (n < 0 || (size_t)n >= sizeof(walk->key) - length)
        return -EINVAL;
    int r = node == NULL ? 0 : walk_node(walk, node, length + (size_t)n, depth + 1);
    walk->key[length] = '\0';
    return r;
}

static bool is_list_of_words(struct walk *walk, const yaml_node_t *list)
{
    const yaml_node_item_t *item = list->data.sequence.items.start;
    for (; item < list->data.sequence.items.top; item++) {
        if (text_of(yaml_document_get_node(walk->document, *item)) == NULL)
            return false;
    }
    return true;
}

static int add_words(struct walk *walk, const yaml_node_t *list)
{
    struct buf out = {0};
    const yaml_node_item_t *item = list->data.sequence.items.start;
    int r = buf_append(&out, "[", 1);
    for (; r == 0 && item < list->data.sequence.items.top; item++)
        r = buf_printf(&out, "%s%s", item == list->data.sequence.items.start ? "" : ", ",
            text_of(yaml_document_get_node(walk->document, *item)));
    if (r == 0)
        r = buf_append(&out, "]", 2);
    if (r == 0)
        r = add(walk->flat, walk->key, buf_data(&out));
    buf_deinit(&out);
    return r;
}

static int walk_list(struct walk *walk, const yaml_node_t *list, size_t length, unsigned depth)
{
    char name[KEY_MAX];
    const yaml_node_item_t *item = list->data.sequence.items.start;
    if (is_list_of_words(walk, list))
        return add_words(walk, list);
    for (size_t i = 0; item < list->data.sequence.items.top; item++, i++) {
        const yaml_node_t *entry = yaml_document_get_node(walk->document, *item);
        if (entry == NULL)
            continue;
        name_entry(walk, entry, i, name, sizeof(name));
        int r = step(walk, length, "", name, entry, depth);
        if (r < 0)
            return r;
    }
    return 0;
}

static int walk_mapping(
    struct walk *walk, const yaml_node_t *mapping, size_t length, unsigned depth)
{
    const yaml_node_pair_t *pair = mapping->data.mapping.pairs.start;
    for (; pair < mapping->data.mapping.pairs.top; pair++) {
        const char *key = text_of(yaml_document_get_node(walk->document, pair->key));
        const yaml_node_t *value = yaml_document_get_node(walk->document, pair->value);
        int r = key == NULL ? -EINVAL
                            : step(walk, length, length == 0 ? "" : ".", key, value, depth);
        if (r < 0)
            return r;
    }
    return 0;
}

static int walk_node(struct walk *walk, const yaml_node_t *node, size_t length, unsigned depth)
{
    if (depth > DEPTH_MAX)
        return -EINVAL;
    switch (node->type) {
    case YAML_SCALAR_NODE: return add(walk->flat, walk->key, text_of(node));
    case YAML_SEQUENCE_NODE: return walk_list(walk, node, length, depth);
    case YAML_MAPPING_NODE: return walk_mapping(walk, node, length, depth);
    default: return 0;
    }
}

static int by_key(const void *a, const void *b)
{
    const struct conf_flat_entry *one = a;
    const struct conf_flat_entry *other = b;
    return strcmp(one->key, other->key);
}

int conf_flat_read(struct conf_flat *flat, const char *text, size_t n)
{
    yaml_parser_t parser;
    yaml_document_t document;
    struct walk walk = {.flat = flat, .document = &document};
    if (!yaml_parser_initialize(&parser))
        return -ENOMEM;
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, n);
    if (!yaml_parser_load(&parser, &document)) {
        int r = parser.error == YAML_MEMORY_ERROR ? -ENOMEM : -EINVAL;
        yaml_parser_delete(&parser);
        return r;
    }
    const yaml_node_t *root = yaml_document_get_root_node(&document);
    int r = root == NULL ? 0 : walk_node(&walk, root, 0, 0);
    yaml_document_delete(&document);
    yaml_parser_delete(&parser);
    bool complete = r != -ENOMEM;
    if (complete && flat->n > 0)
        qsort(flat->entries, flat->n, sizeof(*flat->entries), by_key);
    return r;
}

void conf_flat_deinit(struct conf_flat *flat)
{
    for (size_t i = 0; i < flat->n; i++) {
        mem_free(flat->entries[i].key);
        mem_free(flat->entries[i].value);
    }
    mem_free(flat->entries);
    *flat = (struct conf_flat){0};
}

void conf_flat_compare(const struct conf_flat *from, const struct conf_flat *to,
    void (*fn)(void *data, const char *key, const char *from, const char *to), void *data)
{
    size_t i = 0;
    size_t k = 0;
    while (i < from->n || k < to->n) {
        int order = i == from->n ? 1
                    : k == to->n ? -1
                                 : strcmp(from->entries[i].key, to->entries[k].key);
        if (order < 0)
            fn(data, from->entries[i].key, from->entries[i].value, NULL);
        else if (order > 0)
            fn(data, to->entries[k].key, NULL, to->entries[k].value);
        else if (strcmp(from->entries[i].value, to->entries[k].value) != 0)
            fn(data, from->entries[i].key, from->entries[i].value, to->entries[k].value);
        i += order <= 0;
        k += order >= 0;
    }
}
