#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "frontd/config/url_path.h"

/* What is looked at is a copy on the heap that ends where the path ends: ASan sees the rest. */
static char *copy_of(struct span path)
{
    char *copy = malloc(path.n + 1);
    cr_assert_not_null(copy);
    memcpy(copy, path.p, path.n);
    return realloc(copy, path.n + (path.n == 0));
}

#define IN(literal)                                                                                \
    {                                                                                              \
        literal, sizeof(literal) - 1                                                               \
    }
#define NONE                                                                                       \
    {                                                                                              \
        NULL, 0                                                                                    \
    }

static const struct row {
    struct span path;
    struct span normal; /* NONE: there is none */
    bool strict;
} rows[] = {
    {IN("/"), IN("/"), true},
    {IN("/secret"), IN("/secret"), true},
    {IN("/secret/"), IN("/secret/"), true},
    {IN("/a/b/c"), IN("/a/b/c"), true},
    /* Slashes that follow each other. */
    {IN("//"), IN("/"), false},
    {IN("///"), IN("/"), false},
    {IN("//secret"), IN("/secret"), false},
    {IN("/a//b"), IN("/a/b"), false},
    {IN("/a//"), IN("/a/"), false},
    {IN("/a///b////c"), IN("/a/b/c"), false},
    {IN("//host/path"), IN("/host/path"), false},
    /* Segments that are dots. */
    {IN("/."), IN("/"), false},
    {IN("/./"), IN("/"), false},
    {IN("/a/."), IN("/a/"), false},
    {IN("/a/./b"), IN("/a/b"), false},
    {IN("/a/.."), IN("/"), false},
    {IN("/a/../"), IN("/"), false},
    {IN("/a/b/.."), IN("/a/"), false},
    {IN("/a/b/../"), IN("/a/"), false},
    {IN("/a/b/../c"), IN("/a/c"), false},
    {IN("/a/b/../../c"), IN("/c"), false},
    {IN("/x/../secret"), IN("/secret"), false},
    {IN("/./././x/./.././secret/."), IN("/secret/"), false},
    {IN("/a/.//../b"), IN("/b"), false},
    {IN("/a//../b"), IN("/b"), false}, /* merged first: RFC 3986 alone would give "/a/b" */
    {IN("/.."), NONE, false},
    {IN("/../"), NONE, false},
    {IN("/../a"), NONE, false},
    {IN("/a/../.."), NONE, false},
    {IN("/a/../../a"), NONE, false},
    {IN("//.."), NONE, false},
    {IN("/./.."), NONE, false},
    /* Segments that only begin or end with dots. */
    {IN("/..."), IN("/..."), true},
    {IN("/.well-known/x"), IN("/.well-known/x"), true},
    {IN("/..a"), IN("/..a"), true},
    {IN("/a.."), IN("/a.."), true},
    {IN("/a./b"), IN("/a./b"), true},
    {IN("/.a/.b"), IN("/.a/.b"), true},
    {IN("/a/..../b"), IN("/a/..../b"), true},
    /* Escapes. */
    {IN("/%73ecret"), IN("/secret"), false},
    {IN("/%7Euser"), IN("/~user"), false},
    {IN("/%7euser"), IN("/~user"), false},
    {IN("/%61%62%63"), IN("/abc"), false},
    {IN("/a%20b"), IN("/a b"), true},
    {IN("/a+b"), IN("/a+b"), true}, /* a space in a query only */
    {IN("/a%2Bb"), IN("/a+b"), false},
    {IN("/%25"), IN("/%"), true},
    {IN("/%2573ecret"), IN("/%73ecret"), true}, /* decoded once */
    {IN("/%25%37%33ecret"), IN("/%73ecret"), false},
    {IN("/%252e%252e/secret"), IN("/%2e%2e/secret"), true},
    {IN("/a%3Fb"), IN("/a?b"), true},
    {IN("/a%3fb"), IN("/a?b"), false},
    {IN("/a%23b"), IN("/a#b"), true},
    {IN("/a%5Cb"), IN("/a\\b"), true},
    {IN("/a\\..\\b"), IN("/a\\..\\b"), false}, /* a backslash is a byte like any other */
    {IN("/a\"{|}<>^`b"), IN("/a\"{|}<>^`b"), false},
    {IN("/%01%0A%0d%7F"), IN("/\x01\n\r\x7f"), false},
    {IN("/%0A%0D%7F"), IN("/\n\r\x7f"), true},
    {IN("/%"), NONE, false},
    {IN("/%6"), NONE, false},
    {IN("/%g1"), NONE, false},
    {IN("/%1g"), NONE, false},
    {IN("/%%30"), NONE, false},
    {IN("/%u0073"), NONE, false},
    {IN("/% 1"), NONE, false},
    {IN("/%-1"), NONE, false},
    {IN("/%0x"), NONE, false},
    {IN("/a%"), NONE, false},
    {IN("/a/%2"), NONE, false},
    {IN("/%00"), NONE, false},
    {IN("/secret%00.html"), NONE, false},
    {IN("/x%00/../secret"), NONE, false}, /* though it would be left out */
    {IN("/%zz/../secret"), NONE, false},
    /* Escaped slashes and dots are slashes and dots. */
    {IN("/a%2Fb"), IN("/a/b"), false},
    {IN("/a%2fb"), IN("/a/b"), false},
    {IN("/%2Fsecret"), IN("/secret"), false},
    {IN("%2Fsecret"), NONE, false},
    {IN("/a%2F%2Fb"), IN("/a/b"), false},
    {IN("/x/%2e%2e/secret"), IN("/secret"), false},
    {IN("/x/%2E./secret"), IN("/secret"), false},
    {IN("/x/.%2e/secret"), IN("/secret"), false},
    {IN("/x%2F..%2fsecret"), IN("/secret"), false},
    {IN("/x/%2e/secret"), IN("/x/secret"), false},
    {IN("/%2e%2E"), NONE, false},
    {IN("/%2e%2e%2fsecret"), NONE, false},
    {IN("/x%2f%2e%2e%2f%2e%2e"), NONE, false},
    /* Parameters are part of their segment. */
    {IN("/a;v=1/b"), IN("/a;v=1/b"), true},
    {IN("/x/..;/secret"), IN("/x/..;/secret"), true},
    {IN("/x/..%3B/secret"), IN("/x/..;/secret"), false},
    {IN("/;/secret"), IN("/;/secret"), true},
    /* Bytes from 0x80 on, whatever they mean. */
    {IN("/%C3%A4"), IN("/\xc3\xa4"), true},
    {IN("/%c3%A4"), IN("/\xc3\xa4"), false},
    {IN("/\xc3\xa4"), IN("/\xc3\xa4"), false},
    {IN("/x/%C0%AE%C0%AE/secret"), IN("/x/\xc0\xae\xc0\xae/secret"), true}, /* overlong dots */
    {IN("/x%C0%AFsecret"), IN("/x\xc0\xafsecret"), true},
    {IN("/x%E2%88%95y"), IN("/x\xe2\x88\x95y"), true}, /* U+2215, which looks like a slash */
    {IN("/%FF"), IN("/\xff"), true},
    {IN("/rpc/*"), IN("/rpc/*"), true},
    {IN("/rpc/%2A"), IN("/rpc/*"), false},
    {IN("/a:b@c!$&'()*+,;=-._~"), IN("/a:b@c!$&'()*+,;=-._~"), true},
    {IN(""), NONE, false},
    {IN("a"), NONE, false},
};

Test(path, normal_forms)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct row *row = &rows[i];
        char *copy = copy_of(row->path), *out = malloc(row->path.n + (row->path.n == 0));
        cr_assert_not_null(out);
        const struct span path = {copy, row->path.n};
        size_t n = 12345;
        int r = path_normalise(path, out, &n);
        if (row->normal.p == NULL) {
            cr_expect(r < 0 && n == 12345, "%s", row->path.p);
        } else {
            cr_expect(r == 0 && n == row->normal.n && memcmp(out, row->normal.p, n) == 0,
                "%s: %.*s", row->path.p, r == 0 ? (int)n : 0, out);
            bool same = row->normal.n == path.n && memcmp(row->normal.p, copy, path.n) == 0;
            cr_expect_eq(path_is_normal(path), same, "%s", row->path.p);
        }
        free(out);
        free(copy);
    }
}

Test(path, strict_spellings)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char *copy = copy_of(rows[i].path);
        cr_expect_eq(path_is_strict((struct span){copy, rows[i].path.n}), rows[i].strict, "%s",
            rows[i].path.p);
        free(copy);
    }
}

/* Every byte as an escape, in the middle of a path. */
Test(path, every_escape)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        char path[16], out[16];
        size_t n, len = (size_t)snprintf(path, sizeof(path), "/a%%%02Xb", byte);
        int r = path_normalise((struct span){path, len}, out, &n);
        cr_expect_eq(r == 0, byte != 0, "%s", path);
        if (r == 0)
            cr_expect(n == 4 && (unsigned char)out[2] == byte && out[3] == 'b', "%s", path);
    }
}

/* A path that climbs and descends all the time takes time that is linear in its size. */
Test(path, many_segments, .timeout = 30)
{
    enum { SEGMENTS = 1 << 20 };
    char *path = malloc(SEGMENTS * 5 + 1), *out = malloc(SEGMENTS * 5 + 1);
    size_t at = 0, n;
    cr_assert(path != NULL && out != NULL);
    for (size_t i = 0; i < SEGMENTS / 2; i++, at += 2)
        memcpy(path + at, "/a", 2);
    for (size_t i = 0; i < SEGMENTS / 2; i++, at += 3)
        memcpy(path + at, "/..", 3);
    cr_expect_eq(path_normalise((struct span){path, at}, out, &n), 0);
    cr_expect(n == 1 && out[0] == '/');
    memcpy(path + at, "/..", 3);
    cr_expect_lt(path_normalise((struct span){path, at + 3}, out, &n), 0);
    free(path);
    free(out);
}
