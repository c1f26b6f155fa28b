/*
 * The input is a path, behind a '/'. Its normal form is made a second time, in a slower way: decode
 * all of it, split it at slashes, keep a stack of segments.
 */

#include <stdlib.h>
#include <string.h>

#include "frontd/config/url_path.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST = 4096 };

/* Returns the length of the decoded path, or -1. */
static long decode(const char *p, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    long len = 0;
    for (size_t i = 0; i < n; i++) {
        if (p[i] != '%') {
            out[len++] = p[i];
            continue;
        }
        if (n - i < 3 || p[i + 1] == '\0' || p[i + 2] == '\0')
            return -1;
        const char *high = strchr(digits, p[i + 1]), *low = strchr(digits, p[i + 2]);
        if (high == NULL || low == NULL)
            return -1;
        const int byte = (int)(high - digits) % 16 * 16 + (int)(low - digits) % 16;
        if (byte == 0)
            return -1;
        out[len++] = (char)byte;
        i += 2;
    }
    return len;
}

/* Returns the length of the path without what is to be resolved, or -1. */
static long resolve(const char *p, size_t n, char *out)
{
    static struct span stack[MOST + 1];
    size_t depth = 0;
    bool folder = true; /* it ends in '/' */
    for (size_t at = 1; at <= n;) {
        const char *slash = memchr(p + at, '/', n - at);
        const size_t end = slash == NULL ? n : (size_t)(slash - p);
        const struct span segment = {p + at, end - at};
        const bool dot = segment.n == 1 && segment.p[0] == '.';
        const bool dots = segment.n == 2 && segment.p[0] == '.' && segment.p[1] == '.';
        if (dots && depth-- == 0)
            return -1;
        if (segment.n > 0 && !dot && !dots)
            stack[depth++] = segment;
        folder = segment.n == 0 || dot || dots;
        at = end + 1;
    }
    long len = 0;
    for (size_t i = 0; i < depth; i++) {
        out[len++] = '/';
        memcpy(out + len, stack[i].p, stack[i].n);
        len += (long)stack[i].n;
    }
    if (folder || depth == 0)
        out[len++] = '/';
    return len;
}

/* The only spelling of a normal form: everything escaped that has to be. */
static size_t spell(const char *p, size_t n, char *out)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                                "-._~!$&'()*+,;=:@/";
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        if (memchr(plain, p[i], sizeof(plain) - 1) != NULL)
            out[len++] = p[i];
        else
            len += (size_t)snprintf(out + len, 4, "%%%02X", (unsigned char)p[i]);
    }
    return len;
}

static bool same(const char *a, size_t an, const char *b, size_t bn)
{
    return an == bn && memcmp(a, b, an) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char decoded[MOST], expected[MOST + 1], spelling[3 * MOST + 4];
    if (size >= MOST)
        return 0;
    const size_t n = size + 1;
    char *path = malloc(n), *normal = malloc(n); /* of that size, for ASan */
    CHECK(path != NULL && normal != NULL);
    path[0] = '/';
    if (size > 0)
        memcpy(path + 1, data, size);
    const struct span span = {path, n};

    const long plain = decode(path, n, decoded);
    const long len = plain < 0 ? -1 : resolve(decoded, (size_t)plain, expected);
    size_t normal_n = 0;
    const int r = path_normalise(span, normal, &normal_n);
    CHECK((r == 0) == (len >= 0));
    if (r != 0) {
        CHECK(!path_is_normal(span) && !path_is_strict(span));
    } else {
        CHECK(same(normal, normal_n, expected, (size_t)len));
        CHECK(path_is_normal(span) ==
              (memchr(path, '%', n) == NULL && same(path, n, normal, normal_n)));
        CHECK(path_is_strict(span) == same(path, n, spelling, spell(normal, normal_n, spelling)));
    }
    free(path);
    free(normal);
    return 0;
}
