#include "frontd/config/url_path.h"

#include <errno.h>
#include <string.h>

/* The value of a hexadecimal digit, or -1. */
static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte of the escape at p, where its '%' is; -1 where it is no escape, or NUL. */
static int escaped_byte(const char *p, const char *end)
{
    if (end - p < 3)
        return -1;
    const int high = hex_digit(p[1]), low = hex_digit(p[2]);
    if (high < 0 || low < 0 || (high == 0 && low == 0))
        return -1;
    return high << 4 | low;
}

/* Whether the segment after the '/' at p is ".", ".." or, unless it is the last, empty. */
static bool is_resolved(const char *p, const char *end)
{
    p++;
    if (p == end)
        return false;
    if (*p == '/')
        return true;
    if (*p != '.')
        return false;
    p++;
    if (p < end && *p == '.')
        p++;
    return p == end || *p == '/';
}

bool path_is_normal(struct span path)
{
    const char *end = path.p + path.n;
    for (const char *p = path.p; p < end; p++) {
        if (*p == '%' || (*p == '/' && is_resolved(p, end)))
            return false;
    }
    return true;
}

/*
 * Ends the segment from `segment` to `n`, which stands behind a '/'. Returns how many bytes stay,
 * the last one a '/' where the segment was resolved; 0 where ".." is above the root.
 */
static size_t end_segment(const char *out, size_t segment, size_t n)
{
    if (n - segment == 1 && out[segment] == '.')
        return segment;
    if (n - segment != 2 || memcmp(out + segment, "..", 2) != 0)
        return n;
    if (segment == 1)
        return 0;
    n = segment - 1;
    while (out[n - 1] != '/')
        n--;
    return n;
}

int path_normalise(struct span path, char *out, size_t *ret_n)
{
    const char *p = path.p, *end = path.p + path.n;
    if (path.n == 0 || *p++ != '/')
        return -EINVAL;
    size_t n = 1, segment = 1;
    out[0] = '/';
    while (p < end) {
        int byte = (unsigned char)*p;
        if (byte == '%') {
            byte = escaped_byte(p, end);
            if (byte < 0)
                return -EINVAL;
            p += 2;
        }
        p++;
        if (byte != '/') {
            out[n++] = (char)byte;
            continue;
        }
        n = end_segment(out, segment, n);
        if (n == 0)
            return -EINVAL;
        if (out[n - 1] != '/')
            out[n++] = '/';
        segment = n;
    }
    n = end_segment(out, segment, n);
    if (n == 0)
        return -EINVAL;
    *ret_n = n;
    return 0;
}

/* pchar but for escapes, and '/': RFC 3986 section 3.3. */
static bool stands_in_path(int byte)
{
    const int letter = byte | 0x20;
    if ((letter >= 'a' && letter <= 'z') || (byte >= '0' && byte <= '9'))
        return true;
    switch (byte) {
    case '/':
    case '-':
    case '.':
    case '_':
    case '~':
    case '!':
    case '$':
    case '&':
    case '\'':
    case '(':
    case ')':
    case '*':
    case '+':
    case ',':
    case ';':
    case '=':
    case ':':
    case '@': return true;
    default: return false;
    }
}

bool path_is_strict(struct span path)
{
    const char *end = path.p + path.n;
    for (const char *p = path.p; p < end; p++) {
        if (*p != '%') {
            if (!stands_in_path((unsigned char)*p) || (*p == '/' && is_resolved(p, end)))
                return false;
            continue;
        }
        const int byte = escaped_byte(p, end);
        if (byte < 0 || stands_in_path(byte) || p[1] >= 'a' || p[2] >= 'a')
            return false;
        p += 2;
    }
    return path.n > 0 && path.p[0] == '/';
}
