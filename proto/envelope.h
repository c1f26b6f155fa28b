#pragma once

/*
 * The envelope of a JSON-RPC message: the members that decide what it means. Parsers differ in
 * which of two members with one name counts, and some ignore upper and lower case. Members that
 * two parsers could read in two ways are found here. Pure.
 */

#include "common/base.h"

enum envelope_key {
    ENVELOPE_JSONRPC,
    ENVELOPE_METHOD,
    ENVELOPE_ID,
    ENVELOPE_PARAMS,
    ENVELOPE_RESULT,
    ENVELOPE_ERROR,
    ENVELOPE_KEYS
};

struct envelope {
    struct span values[ENVELOPE_KEYS]; /* JSON values, the last one of two; n == 0: absent */
    /*
     * A bit (envelope_bit()) for each member that two parsers could read in two ways:
     * - it is there twice
     * - its name differs in upper and lower case only
     * - its name has a NUL and more behind it
     *
     * Names are compared with their escapes resolved.
     */
    unsigned doubtful;
};

static inline unsigned envelope_bit(enum envelope_key key)
{
    return 1U << key;
}

/* Whether there is such a member, in any spelling. */
static inline bool envelope_has(const struct envelope *envelope, enum envelope_key key)
{
    return envelope->values[key].n != 0 || (envelope->doubtful & envelope_bit(key)) != 0;
}

/*
 * Scans the object that begins at `p` (at its brace), as json_scan_object() does: returns the
 * cursor behind it, or NULL where it is not valid. *ret_envelope may have been written then.
 */
const char *envelope_scan(
    const char *p, const char *end, unsigned depth, struct envelope *ret_envelope);

/*
 * Whether a method's name is one that the front itself calls (`frontd.` and more, `http.request`),
 * in any spelling, upper and lower case being the same. method: inside the quotes of a string that
 * has been scanned, escapes not resolved.
 */
bool envelope_is_reserved(struct span method);
