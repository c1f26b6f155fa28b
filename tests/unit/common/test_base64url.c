#include <criterion/criterion.h>
#include <string.h>

#include "common/base64url.h"

/* RFC 4648 section 10, without padding; then what is no base64url. */
static const struct {
    const char *text;
    const char *bytes; /* NULL: wrong */
} rows[] = {
    {"", ""},
    {"Zg", "f"},
    {"Zm8", "fo"},
    {"Zm9v", "foo"},
    {"Zm9vYg", "foob"},
    {"Zm9vYmE", "fooba"},
    {"Zm9vYmFy", "foobar"},
    {"-_-_", "\xfb\xff\xbf"},
    {"Z", NULL},
    {"Zm9vY", NULL},
    {"Zg==", NULL},
    {"Zh", NULL},  /* bits beyond the byte */
    {"Zm9", NULL}, /* the same of two bytes */
    {"+/+/", NULL},
    {"Zm 9", NULL},
    {"Zm9v\n", NULL},
    {"Zm\xc3\xa9", NULL},
};

Test(base64url, texts)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char out[16];
        size_t n;
        bool right = base64url_decode(
            (struct span){rows[i].text, strlen(rows[i].text)}, out, sizeof(out), &n);
        cr_assert_eq(right, rows[i].bytes != NULL, "%s", rows[i].text);
        if (right) {
            cr_expect_eq(n, strlen(rows[i].bytes));
            cr_expect_eq(memcmp(out, rows[i].bytes, n), 0, "%s", rows[i].text);
        }
    }
}

Test(base64url, room)
{
    char out[6];
    size_t n;
    cr_expect(base64url_decode(SPAN("Zm9vYmFy"), out, 6, &n));
    cr_expect_not(base64url_decode(SPAN("Zm9vYmFy"), out, 5, &n));
    cr_expect(base64url_decode(SPAN("Zm9vYmE"), out, 5, &n));
    cr_expect_not(base64url_decode(SPAN("Zm9vYmE"), out, 4, &n));
    cr_expect(base64url_decode(SPAN("Zg"), out, 1, &n));
    cr_expect_not(base64url_decode(SPAN("Zg"), out, 0, &n));
}
