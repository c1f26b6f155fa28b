#pragma once

/*
 * State as bytes, for another process that may be another version of the program: numbers in little
 * endian, byte strings with their length, sections with a tag, a version and their length. What is
 * read is believed in nothing: a reader that ran past the end, or was told so, stays bad.
 */

#include "common/buf.h"

/* Appends to `out`. Once there is no memory, nothing more is done. */
struct pack {
    struct buf *out;
    bool failed; /* for want of memory */
};

void pack_u8(struct pack *pack, uint8_t value);
void pack_u16(struct pack *pack, uint16_t value);
void pack_u32(struct pack *pack, uint32_t value);
void pack_u64(struct pack *pack, uint64_t value);

/* `n` bytes as they are: how many is known to who reads them. */
void pack_raw(struct pack *pack, const void *bytes, size_t n);

/* A byte string. bytes.n: below 4 GiB. */
void pack_bytes(struct pack *pack, struct span bytes);

/* A text, or that there is none (NULL). */
void pack_text(struct pack *pack, const char *text);

/* Begins a section; what is packed until pack_end() is in it. Returns what pack_end() wants. */
size_t pack_begin(struct pack *pack, uint8_t tag, uint8_t version);
void pack_end(struct pack *pack, size_t begun);

/* Reads what pack wrote; the bytes are borrowed. Past a mistake everything read is 0 or empty. */
struct unpack {
    struct span left;
    bool bad;
};

uint8_t unpack_u8(struct unpack *unpack);
uint16_t unpack_u16(struct unpack *unpack);
uint32_t unpack_u32(struct unpack *unpack);
uint64_t unpack_u64(struct unpack *unpack);

/*
 * A time in ms of a clock that both processes share. One that is later than `now` counts as now:
 * the other process has looked at the clock after this one.
 */
uint64_t unpack_time(struct unpack *unpack, uint64_t now);

/* A bool: 0 or 1, anything else is bad. */
bool unpack_flag(struct unpack *unpack);

/* `n` bytes to *ret, which is zeroed where they are not there. */
void unpack_raw(struct unpack *unpack, void *ret, size_t n);

/* A byte string; borrowed. */
struct span unpack_bytes(struct unpack *unpack);

/* A text, not terminated, borrowed; p is NULL where none was packed. One with a NUL in it is bad.
 */
struct span unpack_text(struct unpack *unpack);

/* Whether a text that was unpacked is this one; NULL: none. */
bool unpack_text_is(struct span text, const char *other);

struct unpack_section {
    uint8_t tag;
    uint8_t version;
    struct unpack body;
};

/* The next section. Returns false at the end, and where what follows is none (then it is bad). */
bool unpack_section(struct unpack *unpack, struct unpack_section *ret_section);

/* What came of it: 0 where all was read and right, else -EBADMSG. */
int unpack_end(const struct unpack *unpack);
