#pragma once

/*
 * State as bytes, for another process that may be another version of the program: numbers in
 * little endian, byte strings with their length, sections with a tag, a version and their length.
 * The reader trusts nothing: once it has run past the end, or has been marked bad, it stays bad.
 */

#include "common/buf.h"

/* Writer, which appends to `out`. Once there is no memory, nothing more is appended. */
struct pack {
    struct buf *out;
    bool failed; /* there was no memory */
};

void pack_u8(struct pack *pack, uint8_t value);
void pack_u16(struct pack *pack, uint16_t value);
void pack_u32(struct pack *pack, uint32_t value);
void pack_u64(struct pack *pack, uint64_t value);

/* `n` bytes without their number: the reader has to know it. */
void pack_raw(struct pack *pack, const void *bytes, size_t n);

/* A byte string. bytes.n: below 4 GiB. */
void pack_bytes(struct pack *pack, struct span bytes);

/* A text, or NULL, which is told apart from an empty one. */
void pack_text(struct pack *pack, const char *text);

/*
 * Begins a section: all that is packed until pack_end() is in it. Returns the argument of
 * pack_end().
 */
size_t pack_begin(struct pack *pack, uint8_t tag, uint8_t version);
void pack_end(struct pack *pack, size_t begun);

/*
 * Reader of what a writer wrote; the bytes are borrowed. After a mistake all that is read is 0 or
 * empty.
 */
struct unpack {
    struct span left;
    bool bad;
};

uint8_t unpack_u8(struct unpack *unpack);
uint16_t unpack_u16(struct unpack *unpack);
uint32_t unpack_u32(struct unpack *unpack);
uint64_t unpack_u64(struct unpack *unpack);

/*
 * A time in ms of a clock that both processes share. A time later than `now` counts as now: the
 * other process has read the clock after this one.
 */
uint64_t unpack_time(struct unpack *unpack, uint64_t now);

/* A bool: 0 or 1; any other number is bad. */
bool unpack_flag(struct unpack *unpack);

/* `n` bytes to *ret, which is zeroed when there are fewer. */
void unpack_raw(struct unpack *unpack, void *ret, size_t n);

/* A byte string; borrowed. */
struct span unpack_bytes(struct unpack *unpack);

/* A text, not terminated, borrowed; p is NULL for a packed NULL. One with a NUL in it is bad. */
struct span unpack_text(struct unpack *unpack);

/* Whether an unpacked text is `other`; NULL: whether NULL was packed. */
bool unpack_text_is(struct span text, const char *other);

struct unpack_section {
    uint8_t tag;
    uint8_t version;
    struct unpack body;
};

/* The next section. Returns false at the end, and when the bytes are no section (bad then). */
bool unpack_section(struct unpack *unpack, struct unpack_section *ret_section);

/* The result of all reads: 0 when everything has been read and was right, else -EBADMSG. */
int unpack_end(const struct unpack *unpack);
