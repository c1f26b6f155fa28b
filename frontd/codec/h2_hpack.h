#pragma once

/*
 * HPACK (RFC 7541) as a server reads it, by libnghttp2: header blocks in, lists of fields out. What
 * a connection has learned (the dynamic table, of up to 4 KiB) can be frozen to a few hundred bytes
 * and thawed again, here or in another process, so that an idle connection has no decoder.
 *
 * Memory comes from common/alloc.h.
 */

#include "common/buf.h"
#include "frontd/codec/h2_fault.h"

/* A decoder. */
struct h2_hpack;

/* One with an empty table; NULL where there is no memory. */
struct h2_hpack *h2_hpack_new(void);
struct h2_hpack *h2_hpack_free(struct h2_hpack *hpack); /* accepts NULL; returns NULL */

/*
 * The fields of a header block, as h2_list_next() reads them: bytes that can be kept, and read
 * again elsewhere.
 */
struct h2_list {
    char *text;    /* the caller's */
    uint32_t room; /* bytes at `text`: at least the limit that is given to h2_hpack_decode() */
    uint32_t n;    /* bytes of them that are used */
    bool over;     /* it is over the limit, and not whole */
};

struct h2_field {
    struct span name;
    struct span value;
};

/*
 * Decodes a whole block to list->text. limit: bytes of the list, where each field counts as RFC
 * 9113 section 6.5.2 says (name, value, and 32); the block is decoded to its end also where that is
 * reached (list->over), since the table goes on. Cookie fields become one (section 8.2.3).
 *
 * Returns H2_OK, H2_FAULT_COMPRESSION or H2_FAULT_MEMORY: the decoder cannot be used any more.
 */
enum h2_fault h2_hpack_decode(
    struct h2_hpack *hpack, struct span block, uint32_t limit, struct h2_list *list);

/* Cuts the next field off what is left of a list's text; false: none is left, or it is no list. */
bool h2_list_next(struct span *text, struct h2_field *ret_field);

/* Appends what the decoder has learned; nothing, where that is nothing. Returns 0 or -ENOMEM. */
int h2_hpack_freeze(struct h2_hpack *hpack, struct buf *out);

/*
 * Makes a decoder of what was frozen, which is not trusted. Returns H2_OK with *ret_hpack,
 * H2_FAULT_COMPRESSION (it is nothing that was frozen) or H2_FAULT_MEMORY.
 */
enum h2_fault h2_hpack_thaw(struct span frozen, struct h2_hpack **ret_hpack);

/* Writes an integer with a prefix of `bits` (RFC 7541 section 5.1); returns its bytes, 1 to 6. */
size_t h2_hpack_write_integer(uint8_t *out, uint32_t value, unsigned bits, uint8_t first);
