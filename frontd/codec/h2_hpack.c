#include "frontd/codec/h2_hpack.h"

#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <string.h>

#include "common/alloc.h"

enum {
    STATIC_ENTRIES = 61,  /* of the static table: RFC 7541 appendix A */
    TABLE_SIZE = 4096,    /* bytes: SETTINGS_HEADER_TABLE_SIZE, which stays what it is at first */
    FIELD_OVERHEAD = 32,  /* of a field in a list: RFC 9113 section 6.5.2 */
    BITS_INCREMENTAL = 6, /* literal with incremental indexing: RFC 7541 section 6.2.1 */
    FIRST_INCREMENTAL = 0x40,
    BITS_SIZE_UPDATE = 5, /* section 6.3 */
    FIRST_SIZE_UPDATE = 0x20,
    BITS_STRING = 7,
    INTEGER_MAX = 6, /* bytes */
};

/* The head of a field in a list; its name and value follow. */
struct entry {
    uint32_t name;
    uint32_t value;
};
_Static_assert(sizeof(struct entry) <= FIELD_OVERHEAD, "a list within the limit has room");

/* nghttp2's decoder is the whole of a struct h2_hpack. */
static nghttp2_hd_inflater *inflater(struct h2_hpack *hpack)
{
    return (nghttp2_hd_inflater *)(void *)hpack;
}

static void *allocate(size_t size, void *user)
{
    (void)user;
    return mem_zalloc(size);
}

static void *allocate_array(size_t count, size_t size, void *user)
{
    (void)user;
    return mem_zalloc(count * size);
}

static void give_back(void *object, void *user)
{
    (void)user;
    mem_free(object);
}

/* The decoder does not use it. */
static void *reallocate(void *object, size_t size, void *user)
{
    (void)object;
    (void)size;
    (void)user;
    return NULL;
}

struct h2_hpack *h2_hpack_new(void)
{
    static nghttp2_mem memory = {NULL, allocate, give_back, allocate_array, reallocate};
    nghttp2_hd_inflater *made;
    if (nghttp2_hd_inflate_new2(&made, &memory) != 0)
        return NULL;
    return (struct h2_hpack *)(void *)made;
}

struct h2_hpack *h2_hpack_free(struct h2_hpack *hpack)
{
    if (hpack != NULL)
        nghttp2_hd_inflate_del(inflater(hpack));
    return NULL;
}

static void append(struct h2_list *list, const void *bytes, size_t n)
{
    memcpy(list->text + list->n, bytes, n);
    list->n += (uint32_t)n;
}

/* Where a list is read or written: the first Cookie field of a block. */
struct cookie {
    bool found;
    uint32_t at; /* its entry, in the list's text */
};

/* Puts a further crumb behind the first ones; most clients send them one after the other. */
static void join_cookie(struct h2_list *list, const struct cookie *cookie, struct span crumb)
{
    struct entry entry;
    memcpy(&entry, list->text + cookie->at, sizeof(entry));
    char *end = list->text + cookie->at + sizeof(entry) + entry.name + entry.value;
    size_t behind = (size_t)(list->text + list->n - end);
    memmove(end + 2 + crumb.n, end, behind);
    memcpy(end, "; ", 2);
    if (crumb.n > 0)
        memcpy(end + 2, crumb.p, crumb.n);
    entry.value += 2 + (uint32_t)crumb.n;
    memcpy(list->text + cookie->at, &entry, sizeof(entry));
    list->n += 2 + (uint32_t)crumb.n;
}

static void add(struct h2_list *list, struct cookie *cookie, struct span name, struct span value)
{
    bool is_cookie = name.n == 6 && memcmp(name.p, "cookie", 6) == 0;
    if (is_cookie && cookie->found) {
        join_cookie(list, cookie, value);
        return;
    }
    if (is_cookie)
        *cookie = (struct cookie){.found = true, .at = list->n};
    const struct entry entry = {(uint32_t)name.n, (uint32_t)value.n};
    append(list, &entry, sizeof(entry));
    append(list, name.p, name.n);
    append(list, value.p, value.n);
}

enum h2_fault h2_hpack_decode(
    struct h2_hpack *hpack, struct span block, uint32_t limit, struct h2_list *list)
{
    struct cookie cookie = {0};
    uint64_t size = 0;
    CHECK(list->room >= limit);
    list->n = 0;
    list->over = false;
    for (;;) {
        nghttp2_nv field;
        int flags = 0;
        ssize_t used = nghttp2_hd_inflate_hd2(
            inflater(hpack), &field, &flags, (const uint8_t *)block.p, block.n, 1);
        if (used < 0)
            return used == NGHTTP2_ERR_NOMEM ? H2_FAULT_MEMORY : H2_FAULT_COMPRESSION;
        block = (struct span){block.p + used, block.n - (size_t)used};
        if (flags & NGHTTP2_HD_INFLATE_EMIT) {
            size += field.namelen + field.valuelen + FIELD_OVERHEAD;
            list->over = size > limit;
            if (!list->over)
                add(list, &cookie, (struct span){(const char *)field.name, field.namelen},
                    (struct span){(const char *)field.value, field.valuelen});
        } else if (flags & NGHTTP2_HD_INFLATE_FINAL) {
            break;
        } else if (block.n == 0) {
            return H2_FAULT_COMPRESSION;
        }
    }
    nghttp2_hd_inflate_end_headers(inflater(hpack));
    return H2_OK;
}

bool h2_list_next(struct span *text, struct h2_field *ret_field)
{
    struct entry entry;
    if (text->n < sizeof(entry))
        return false;
    memcpy(&entry, text->p, sizeof(entry));
    const char *p = text->p + sizeof(entry);
    size_t left = text->n - sizeof(entry);
    if (entry.name > left || entry.value > left - entry.name)
        return false;
    ret_field->name = (struct span){p, entry.name};
    ret_field->value = (struct span){p + entry.name, entry.value};
    *text = (struct span){p + entry.name + entry.value, left - entry.name - entry.value};
    return true;
}

size_t h2_hpack_write_integer(uint8_t *out, uint32_t value, unsigned bits, uint8_t first)
{
    const uint32_t most = (1U << bits) - 1;
    size_t n = 0;
    if (value < most) {
        out[n++] = (uint8_t)(first | value);
        return n;
    }
    out[n++] = (uint8_t)(first | most);
    for (value -= most; value >= 128; value >>= 7)
        out[n++] = (uint8_t)((value & 127) | 128);
    out[n++] = (uint8_t)value;
    return n;
}

static int put_integer(struct buf *out, size_t value, unsigned bits, uint8_t first)
{
    uint8_t bytes[INTEGER_MAX];
    return buf_append(out, bytes, h2_hpack_write_integer(bytes, (uint32_t)value, bits, first));
}

static int put_string(struct buf *out, const uint8_t *p, size_t n)
{
    int r = put_integer(out, n, BITS_STRING, 0);
    return r == 0 && n > 0 ? buf_append(out, p, n) : r;
}

/*
 * What is frozen is a header block that has the same table made of an empty one: its size, where
 * the client has made it smaller, and each entry once more, the oldest first.
 */
int h2_hpack_freeze(struct h2_hpack *hpack, struct buf *out)
{
    size_t before = buf_len(out);
    size_t size = nghttp2_hd_inflate_get_max_dynamic_table_size(inflater(hpack));
    int r = 0;
    if (size != TABLE_SIZE)
        r = put_integer(out, size, BITS_SIZE_UPDATE, FIRST_SIZE_UPDATE);
    size_t last = nghttp2_hd_inflate_get_num_table_entries(inflater(hpack));
    for (size_t i = last; i > STATIC_ENTRIES && r == 0; i--) {
        const nghttp2_nv *entry = nghttp2_hd_inflate_get_table_entry(inflater(hpack), i);
        r = put_integer(out, 0, BITS_INCREMENTAL, FIRST_INCREMENTAL);
        if (r == 0)
            r = put_string(out, entry->name, entry->namelen);
        if (r == 0)
            r = put_string(out, entry->value, entry->valuelen);
    }
    if (r < 0)
        buf_truncate(out, before);
    return r;
}

enum h2_fault h2_hpack_thaw(struct span frozen, struct h2_hpack **ret_hpack)
{
    struct h2_hpack *hpack = h2_hpack_new();
    if (hpack == NULL)
        return H2_FAULT_MEMORY;
    struct h2_list none = {0}; /* the fields themselves are not wanted */
    enum h2_fault fault = frozen.n == 0 ? H2_OK : h2_hpack_decode(hpack, frozen, 0, &none);
    if (fault == H2_OK)
        *ret_hpack = hpack;
    else
        h2_hpack_free(hpack);
    return fault;
}
