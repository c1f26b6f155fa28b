#include "frontd/shard/inspect/fault_at.h"

#include <string.h>

#include "common/utf8.h"
#include "proto/json_scan.h"

/* ---- HTTP/1 -------------------------------------------------------------------------------- */

/*
 * The parser decides at a byte, by that byte and those before it: the shortest beginning that is
 * refused ends with that byte.
 */
size_t fault_at_http1(struct span text, const struct http1_limits *limits)
{
    static struct http1_head head; /* scratch */
    size_t used;
    size_t right = 0;      /* so many bytes are not refused */
    size_t wrong = text.n; /* so many are */
    int r = http1_head_parse(text.p, text.n, limits, &head, &used);
    if (r == 0 || r == HTTP1_E_MORE)
        return text.n;
    while (right + 1 < wrong) {
        size_t middle = right + (wrong - right) / 2;
        r = http1_head_parse(text.p, middle, limits, &head, &used);
        if (r == 0 || r == HTTP1_E_MORE)
            right = middle;
        else
            wrong = middle;
    }
    return right;
}

/* ---- JSON ---------------------------------------------------------------------------------- */

enum next { VALUE, VALUE_OR_END, KEY, KEY_OR_END, COLON, COMMA_OR_END, NOTHING };

/* A cursor over the text; `wrong` where it stands at a byte that cannot stand there. */
struct cursor {
    const char *p;
    const char *end;
    bool wrong;
    unsigned depth;
    bool objects[JSON_SCAN_DEPTH_MAX + 1]; /* for each open level: it is an object */
};

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

static void skip_escape(struct cursor *at)
{
    at->p++; /* the backslash */
    if (at->p == at->end)
        return;
    if (strchr("\"\\/bfnrtu", *at->p) == NULL || *at->p == '\0') {
        at->wrong = true;
        return;
    }
    unsigned digits = *at->p++ == 'u' ? 4 : 0;
    for (; digits > 0 && at->p < at->end; digits--, at->p++) {
        if (!is_hex(*at->p)) {
            at->wrong = true;
            return;
        }
    }
}

static void skip_string(struct cursor *at)
{
    at->p++;
    while (at->p < at->end && !at->wrong) {
        unsigned char c = (unsigned char)*at->p;
        size_t n = c < 0x80 ? 1 : utf8_length(at->p, (size_t)(at->end - at->p));
        if (c == '"') {
            at->p++;
            return;
        }
        if (c == '\\')
            skip_escape(at);
        else if (c < 0x20 || n == 0)
            at->wrong = true; /* or, at the end, half a character */
        else
            at->p += n;
    }
}

/* Parts of a number, RFC 8259 section 6. */
enum part { START, MINUS, ZERO, WHOLE, POINT, FRACTION, E, SIGN, EXPONENT, NONE };

static enum part part_after(enum part part, char c)
{
    bool digit = c >= '0' && c <= '9';
    switch (part) {
    case START:
        if (c == '-')
            return MINUS;
        return c == '0' ? ZERO : digit ? WHOLE : NONE;
    case MINUS: return c == '0' ? ZERO : digit ? WHOLE : NONE;
    case WHOLE:
        if (digit)
            return WHOLE;
        return c == '.' ? POINT : (c | 0x20) == 'e' ? E : NONE;
    case ZERO: return c == '.' ? POINT : (c | 0x20) == 'e' ? E : NONE;
    case POINT: return digit ? FRACTION : NONE;
    case FRACTION: return digit ? FRACTION : (c | 0x20) == 'e' ? E : NONE;
    case E: return c == '+' || c == '-' ? SIGN : digit ? EXPONENT : NONE;
    default: return digit ? EXPONENT : NONE;
    }
}

static void skip_number(struct cursor *at)
{
    enum part part = START;
    enum part next;
    for (; at->p < at->end && (next = part_after(part, *at->p)) != NONE; at->p++)
        part = next;
    /* A whole number is followed by what follows a value; behind the beginning of one, that byte is
     * wrong. */
    bool whole = part == ZERO || part == WHOLE || part == FRACTION || part == EXPONENT;
    at->wrong = !whole && at->p < at->end;
}

/* A number or a word: the longest beginning of it that can stand there. */
static void skip_plain(struct cursor *at)
{
    static const struct span words[] = {{"true", 4}, {"false", 5}, {"null", 4}};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (*at->p != words[i].p[0])
            continue;
        for (size_t k = 0; k < words[i].n && at->p < at->end && !at->wrong; k++) {
            at->wrong = *at->p != words[i].p[k];
            at->p += !at->wrong;
        }
        return;
    }
    skip_number(at);
}

static enum next after_value(const struct cursor *at)
{
    return at->depth == 0 ? NOTHING : COMMA_OR_END;
}

static enum next open_level(struct cursor *at)
{
    if (at->depth == JSON_SCAN_DEPTH_MAX) {
        at->wrong = true;
        return NOTHING;
    }
    bool object = *at->p++ == '{';
    at->objects[++at->depth] = object;
    return object ? KEY_OR_END : VALUE_OR_END;
}

static enum next close_level(struct cursor *at)
{
    at->p++;
    at->depth--;
    return after_value(at);
}

static enum next take(struct cursor *at, enum next next)
{
    bool object = at->objects[at->depth];
    char c = *at->p;
    bool ends = next == VALUE_OR_END || next == KEY_OR_END || next == COMMA_OR_END;
    if (ends && c == (object ? '}' : ']'))
        return close_level(at);
    switch (next) {
    case VALUE:
    case VALUE_OR_END:
        if (c == '{' || c == '[')
            return open_level(at);
        if (c == '"')
            skip_string(at);
        else
            skip_plain(at);
        return after_value(at);
    case KEY:
    case KEY_OR_END:
        at->wrong = c != '"';
        if (!at->wrong)
            skip_string(at);
        return COLON;
    case COLON:
        at->wrong = c != ':';
        at->p++;
        return VALUE;
    case COMMA_OR_END:
        at->wrong = c != ',';
        at->p++;
        return object ? KEY : VALUE;
    default: at->wrong = true; return NOTHING;
    }
}

size_t fault_at_json(struct span text)
{
    struct cursor at = {.p = text.p, .end = text.p + text.n};
    enum next next = VALUE;
    for (;;) {
        at.p = json_scan_white(at.p, at.end);
        if (at.p == at.end)
            return text.n;
        const char *before = at.p;
        next = take(&at, next);
        if (at.wrong) /* ':' and ',' are passed before they are judged */
            return (size_t)((next == VALUE || next == KEY ? before : at.p) - text.p);
    }
}
