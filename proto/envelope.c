#include "proto/envelope.h"

#include <string.h>

#include "proto/json_scan.h"

enum { NAME_MAX_LEN = 7 /* bytes of the longest name below */ };

static const struct span names[ENVELOPE_KEYS] = {
    [ENVELOPE_JSONRPC] = {"jsonrpc", 7},
    [ENVELOPE_METHOD] = {"method", 6},
    [ENVELOPE_ID] = {"id", 2},
    [ENVELOPE_PARAMS] = {"params", 6},
    [ENVELOPE_RESULT] = {"result", 6},
    [ENVELOPE_ERROR] = {"error", 5},
};

static inline uint64_t load_2(const char *p)
{
    uint16_t w;
    memcpy(&w, p, sizeof(w));
    return w;
}

static inline uint64_t load_4(const char *p)
{
    uint32_t w;
    memcpy(&w, p, sizeof(w));
    return w;
}

/*
 * Reads the n bytes of a name as one number, with two loads, which may overlap: a load that
 * gathers bytes which were stored one by one would wait for them. n: known when compiled.
 */
static inline uint64_t word(const char *p, size_t n)
{
    return n == 2 ? load_2(p) : load_4(p) | load_4(p + n - 4) << 32;
}

/*
 * Whether a key of n bytes of plain ASCII is that name, in upper or lower case: the bit by which
 * the cases differ makes a letter of no other byte. n: known when compiled.
 */
static inline bool is_name(struct span key, const char *name, size_t n, bool *ret_exact)
{
    const uint64_t found = word(key.p, n);
    *ret_exact = found == word(name, n);
    return (found | word("       ", n)) == word(name, n);
}

static inline int find_plain(struct span key, bool *ret_exact)
{
    switch (key.n) {
    case 2: return is_name(key, "id", 2, ret_exact) ? ENVELOPE_ID : -1;
    case 5: return is_name(key, "error", 5, ret_exact) ? ENVELOPE_ERROR : -1;
    case 6:
        if (is_name(key, "method", 6, ret_exact))
            return ENVELOPE_METHOD;
        if (is_name(key, "params", 6, ret_exact))
            return ENVELOPE_PARAMS;
        return is_name(key, "result", 6, ret_exact) ? ENVELOPE_RESULT : -1;
    case 7: return is_name(key, "jsonrpc", 7, ret_exact) ? ENVELOPE_JSONRPC : -1;
    default: return -1;
    }
}

/* Finds a key with escapes, or characters beyond ASCII. */
static int find_odd(struct span key, bool *ret_exact)
{
    char folded[NAME_MAX_LEN + 1];
    size_t n = json_scan_fold(key, folded, sizeof(folded));
    /* Parsers that keep names as C strings end a name at a NUL. */
    n = strnlen(folded, n);
    for (int i = 0; i < ENVELOPE_KEYS; i++) {
        if (n == names[i].n && memcmp(folded, names[i].p, n) == 0) {
            *ret_exact = json_scan_equals(key, names[i]);
            return i;
        }
    }
    return -1;
}

const char *envelope_scan(
    const char *p, const char *end, unsigned depth, struct envelope *ret_envelope)
{
    *ret_envelope = (struct envelope){0};
    if (p == end || *p != '{' || depth >= JSON_SCAN_DEPTH_MAX)
        return NULL;
    p = json_scan_white(p + 1, end);
    if (p < end && *p == '}')
        return p + 1;

    for (;;) {
        struct json_member member;
        bool exact = false;
        p = json_scan_member(p, end, depth, &member);
        if (p == NULL)
            return NULL;
        const int key = LIKELY(!member.odd) ? find_plain(member.key, &exact)
                                            : find_odd(member.key, &exact);
        if (key >= 0) {
            struct span *value = &ret_envelope->values[key];
            if (UNLIKELY(!exact || value->n != 0))
                ret_envelope->doubtful |= envelope_bit((enum envelope_key)key);
            if (exact)
                *value = member.value;
        }

        p = json_scan_white(p, end);
        if (p == end)
            return NULL;
        if (*p == '}')
            return p + 1;
        if (*p != ',')
            return NULL;
        p = json_scan_white(p + 1, end);
    }
}

bool envelope_is_reserved(struct span method)
{
    static const struct span prefix = {"frontd.", 7};
    static const struct span request = {"http.request", 12};
    char folded[13];

    if (method.n == 0)
        return false;
    const char first = (char)(method.p[0] | 0x20);
    if (first != 'f' && first != 'h' && method.p[0] != '\\')
        return false;
    size_t n = json_scan_fold(method, folded, sizeof(folded));
    if (n >= prefix.n && memcmp(folded, prefix.p, prefix.n) == 0)
        return true;
    return n >= request.n && memcmp(folded, request.p, request.n) == 0 &&
           (n == request.n || folded[request.n] == '\0');
}
