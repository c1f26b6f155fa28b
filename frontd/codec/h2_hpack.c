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

/* ---- Frozen tables -------------------------------------------------------------------------- */

/*
 * A frozen table is its entries, the oldest first. Each begins with a byte:
 * - 1 to 61: the name is that of the static table's entry; the value follows
 * - FROZEN_LITERAL: name and value follow
 * - FROZEN_COPY: it is the same as the entry that is as many before it as the next byte says:
 *   clients that do not look for what they have sent before fill the table with copies
 * FROZEN_SIZE stands before all of them, where the client has made the table smaller.
 *
 * To thaw it, it becomes a header block that has an empty table made the same.
 */
enum {
    FROZEN_LITERAL = 0,
    FROZEN_COPY = 62,
    FROZEN_SIZE = 63,
    FROZEN_ENTRIES_MAX = TABLE_SIZE / FIELD_OVERHEAD,
};

static int put_integer(struct buf *out, size_t value, unsigned bits, uint8_t first)
{
    uint8_t bytes[INTEGER_MAX];
    return buf_append(out, bytes, h2_hpack_write_integer(bytes, (uint32_t)value, bits, first));
}

static int put_byte(struct buf *out, size_t byte)
{
    return buf_append(out, &(uint8_t){(uint8_t)byte}, 1);
}

static int put_string(struct buf *out, struct span text)
{
    int r = put_integer(out, text.n, BITS_STRING, 0);
    return r == 0 && text.n > 0 ? buf_append(out, text.p, text.n) : r;
}

static bool same(struct span a, struct span b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static struct h2_field entry_of(struct h2_hpack *hpack, size_t index)
{
    const nghttp2_nv *entry = nghttp2_hd_inflate_get_table_entry(inflater(hpack), index);
    return (struct h2_field){
        .name = {(const char *)entry->name, entry->namelen},
        .value = {(const char *)entry->value, entry->valuelen},
    };
}

/* How many entries before `index` the same one is; 0: none is. last: the oldest entry's index. */
static size_t find_copy(
    struct h2_hpack *hpack, const struct h2_field *field, size_t index, size_t last)
{
    for (size_t i = index + 1; i <= last; i++) {
        struct h2_field other = entry_of(hpack, i);
        if (same(other.value, field->value) && same(other.name, field->name))
            return i - index;
    }
    return 0;
}

/* The first entry of the static table with that name; 0: none has it. */
static size_t find_name(struct h2_hpack *hpack, struct span name)
{
    for (size_t i = 1; i <= STATIC_ENTRIES; i++) {
        if (same(entry_of(hpack, i).name, name))
            return i;
    }
    return 0;
}

static int freeze_entry(struct h2_hpack *hpack, struct buf *out, size_t index, size_t last)
{
    struct h2_field field = entry_of(hpack, index);
    size_t before = find_copy(hpack, &field, index, last);
    if (before > 0)
        return put_byte(out, FROZEN_COPY) < 0 ? -ENOMEM : put_byte(out, before);
    size_t name = find_name(hpack, field.name);
    int r = put_byte(out, name); /* 0: FROZEN_LITERAL */
    if (r == 0 && name == 0)
        r = put_string(out, field.name);
    return r == 0 ? put_string(out, field.value) : r;
}

int h2_hpack_freeze(struct h2_hpack *hpack, struct buf *out)
{
    size_t before = buf_len(out);
    size_t size = nghttp2_hd_inflate_get_max_dynamic_table_size(inflater(hpack));
    size_t last = nghttp2_hd_inflate_get_num_table_entries(inflater(hpack));
    int r = size == TABLE_SIZE ? 0 : put_byte(out, FROZEN_SIZE);
    if (r == 0 && size != TABLE_SIZE)
        r = put_integer(out, size, BITS_SIZE_UPDATE, FIRST_SIZE_UPDATE);
    for (size_t i = last; i > STATIC_ENTRIES && r == 0; i--)
        r = freeze_entry(hpack, out, i, last);
    if (r < 0)
        buf_truncate(out, before);
    return r;
}

/* Cuts what put_integer() has put off the bytes. false: it is not there, or over 16 bits. */
static bool take_integer(struct span *bytes, unsigned bits, uint32_t *ret_value)
{
    const uint32_t most = (1U << bits) - 1;
    uint32_t value = 0;
    size_t n = 0;
    unsigned shift = 0;
    if (bytes->n == 0)
        return false;
    value = (uint8_t)bytes->p[n++] & most;
    while (value >= most) {
        if (n == bytes->n || shift > 14)
            return false;
        uint8_t byte = (uint8_t)bytes->p[n++];
        value += (uint32_t)(byte & 127) << shift;
        shift += 7;
        if (byte < 128)
            break;
    }
    *ret_value = value;
    *bytes = (struct span){bytes->p + n, bytes->n - n};
    return true;
}

/* Cuts a string off, its length included, which is one of a block too. */
static bool take_string(struct span *bytes, struct span *ret_string)
{
    struct span rest = *bytes;
    uint32_t n;
    if (!take_integer(&rest, BITS_STRING, &n) || n > rest.n || (uint8_t)bytes->p[0] >= 128)
        return false;
    *ret_string = (struct span){bytes->p, (size_t)(rest.p - bytes->p) + n};
    *bytes = (struct span){rest.p + n, rest.n - n};
    return true;
}

/* A block that is being made of a frozen table. */
struct thaw {
    struct span left; /* of what was frozen */
    struct buf block;
    uint32_t
        at[FROZEN_ENTRIES_MAX + 1]; /* where each entry is in it, and where the last one ends */
    size_t count;
};

static enum h2_fault thaw_copy(struct thaw *thaw)
{
    size_t before = thaw->left.n == 0 ? 0 : (uint8_t)thaw->left.p[0];
    if (before == 0 || before > thaw->count)
        return H2_FAULT_COMPRESSION;
    uint32_t from = thaw->at[thaw->count - before];
    uint32_t n = thaw->at[thaw->count - before + 1] - from;
    char *room = buf_room(&thaw->block, n);
    if (room == NULL)
        return H2_FAULT_MEMORY;
    memcpy(room, buf_data(&thaw->block) + from, n);
    buf_added(&thaw->block, n);
    thaw->left = (struct span){thaw->left.p + 1, thaw->left.n - 1};
    return H2_OK;
}

static enum h2_fault thaw_literal(struct thaw *thaw, uint8_t name)
{
    struct span text = {0}, value;
    if ((name == FROZEN_LITERAL && !take_string(&thaw->left, &text)) ||
        !take_string(&thaw->left, &value))
        return H2_FAULT_COMPRESSION;
    int r = put_integer(&thaw->block, name, BITS_INCREMENTAL, FIRST_INCREMENTAL);
    if (r == 0 && text.n > 0)
        r = buf_append(&thaw->block, text.p, text.n);
    if (r == 0)
        r = buf_append(&thaw->block, value.p, value.n);
    return r == 0 ? H2_OK : H2_FAULT_MEMORY;
}

/* The size comes first, as it does in a block. */
static enum h2_fault thaw_size(struct thaw *thaw)
{
    struct span before = thaw->left;
    uint32_t size;
    if (!take_integer(&thaw->left, BITS_SIZE_UPDATE, &size) || size >= TABLE_SIZE ||
        ((uint8_t)before.p[0] & ~((1 << BITS_SIZE_UPDATE) - 1)) != FIRST_SIZE_UPDATE)
        return H2_FAULT_COMPRESSION;
    return buf_append(&thaw->block, before.p, before.n - thaw->left.n) < 0 ? H2_FAULT_MEMORY
                                                                           : H2_OK;
}

static enum h2_fault thaw_entry(struct thaw *thaw, uint8_t first)
{
    if (thaw->count == FROZEN_ENTRIES_MAX)
        return H2_FAULT_COMPRESSION;
    thaw->at[thaw->count] = (uint32_t)buf_len(&thaw->block);
    enum h2_fault fault = first == FROZEN_COPY      ? thaw_copy(thaw)
                          : first <= STATIC_ENTRIES ? thaw_literal(thaw, first)
                                                    : H2_FAULT_COMPRESSION;
    thaw->at[++thaw->count] = (uint32_t)buf_len(&thaw->block);
    return fault;
}

static enum h2_fault make_block(struct thaw *thaw)
{
    enum h2_fault fault = H2_OK;
    bool begun = false;
    while (fault == H2_OK && thaw->left.n > 0) {
        uint8_t first = (uint8_t)thaw->left.p[0];
        thaw->left = (struct span){thaw->left.p + 1, thaw->left.n - 1};
        fault = first == FROZEN_SIZE && !begun ? thaw_size(thaw) : thaw_entry(thaw, first);
        begun = true;
    }
    return fault;
}

enum h2_fault h2_hpack_thaw(struct span frozen, struct h2_hpack **ret_hpack)
{
    struct thaw thaw = {.left = frozen};
    char room[1];
    struct h2_list none = {.text = room}; /* the fields themselves are not wanted */
    struct h2_hpack *hpack = h2_hpack_new();
    enum h2_fault fault = hpack == NULL ? H2_FAULT_MEMORY : make_block(&thaw);
    struct span block = {buf_data(&thaw.block), buf_len(&thaw.block)};
    if (fault == H2_OK && block.n > 0)
        fault = h2_hpack_decode(hpack, block, 0, &none);
    buf_deinit(&thaw.block);
    if (fault == H2_OK)
        *ret_hpack = hpack;
    else
        h2_hpack_free(hpack);
    return fault;
}
