#include <criterion/criterion.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/codec/coded_answer.h"

static struct span span_of_text(const char *text)
{
    return (struct span){text, strlen(text)};
}

Test(coded_answer, look)
{
    static const struct {
        const char *fields;
        const char *type;
        bool fixed;
    } rows[] = {
        {"", "", false},
        {"Content-Type: text/html\r\n", "text/html", false},
        {"X: y\r\ncontent-type:  application/json ; charset=utf-8\r\n", "application/json", false},
        {"Content-Type:\r\n", "", false},
        {"Content-Encoding: identity\r\n", "", true},
        {"content-encoding: br\r\nContent-Type: text/css\r\n", "text/css", true},
        {"Content-Range: bytes 0-1/5\r\n", "", true},
        {"Content-MD5: x\r\n", "", true},
        {"Digest: x\r\n", "", true},
        {"Content-Digest: x\r\n", "", true},
        {"Repr-Digest: x\r\n", "", true},
        {"Cache-Control: no-transform\r\n", "", true},
        {"Cache-Control: max-age=5, No-Transform\r\n", "", true},
        {"Cache-Control: max-age=5\r\nCache-Control: no-transform\r\n", "", true},
        {"Cache-Control: no-transforms, no-store\r\n", "", false},
        {"X-Content-Encoding: gzip\r\nX: no-transform\r\n", "", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct coded_answer look = coded_answer_look(span_of_text(rows[i].fields));
        cr_expect_eq(look.fixed, rows[i].fixed, "row %zu", i);
        cr_expect(look.type.n == strlen(rows[i].type) &&
                      (look.type.n == 0 || memcmp(look.type.p, rows[i].type, look.type.n) == 0),
            "row %zu: %.*s", i, (int)look.type.n, look.type.p);
    }
}

Test(coded_answer, types)
{
    static const struct {
        const char *type, *pattern;
        bool fits;
    } rows[] = {
        {"text/html", "text/html", true},
        {"Text/HTML", "text/html", true},
        {"text/html", "text/*", true},
        {"TEXT/x", "text/*", true},
        {"text/", "text/*", false},
        {"text", "text/*", false},
        {"textual/html", "text/*", false},
        {"application/text/x", "text/*", false},
        {"text/htm", "text/html", false},
        {"text/html5", "text/html", false},
        {"", "text/*", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        cr_expect_eq(coded_answer_fits(span_of_text(rows[i].type), span_of_text(rows[i].pattern)),
            rows[i].fits, "row %zu", i);
}

static const struct {
    const char *fields;
    const char *plain;     /* with identity */
    const char *with_gzip; /* NULL: `plain`, and Content-Encoding */
} writes[] = {
    {"", "Vary: Accept-Encoding\r\n", NULL},
    {"A: b\r\n", "A: b\r\nVary: Accept-Encoding\r\n", NULL},
    {"Vary: Cookie\r\nA: b\r\n", "Vary: Cookie, Accept-Encoding\r\nA: b\r\n", NULL},
    {"vary: a\r\nVary: b\r\n", "vary: a, Accept-Encoding\r\nVary: b\r\n", NULL},
    {"Vary: accept-encoding, x\r\n", "Vary: accept-encoding, x\r\n", NULL},
    {"Vary: a\r\nVary: Accept-Encoding\r\n", "Vary: a\r\nVary: Accept-Encoding\r\n", NULL},
    {"Vary: *\r\n", "Vary: *\r\n", NULL},
    {"Vary:\r\n", "Vary:\r\nVary: Accept-Encoding\r\n", NULL},
    {"Vary: x-accept-encoding\r\n", "Vary: x-accept-encoding, Accept-Encoding\r\n", NULL},
    {"ETag: \"a\"\r\nVary: *\r\n", "ETag: \"a\"\r\nVary: *\r\n", "ETag: W/\"a\"\r\nVary: *\r\n"},
    {"etag: W/\"a\"\r\nVary: *\r\n", "etag: W/\"a\"\r\nVary: *\r\n", NULL},
    {"ETag: \r\nVary: *\r\n", "ETag: \r\nVary: *\r\n", NULL},
    {"Accept-Ranges: bytes\r\nVary: *\r\n", "Accept-Ranges: bytes\r\nVary: *\r\n", "Vary: *\r\n"},
};

Test(coded_answer, write)
{
    for (size_t i = 0; i < ARRAY_LEN(writes); i++) {
        const struct span fields = span_of_text(writes[i].fields);
        const char *coded = writes[i].with_gzip == NULL ? writes[i].plain : writes[i].with_gzip;
        char wanted[256];
        struct buf out = {0};
        cr_expect_eq(coded_answer_write(fields, CODING_IDENTITY, true, &out), 0);
        cr_expect(buf_len(&out) == strlen(writes[i].plain) &&
                      memcmp(buf_data(&out), writes[i].plain, buf_len(&out)) == 0,
            "row %zu: %.*s", i, (int)buf_len(&out), buf_data(&out));
        buf_truncate(&out, 0);
        for (enum content_coding coding = CODING_GZIP; coding <= CODING_BR; coding++) {
            buf_truncate(&out, 0);
            snprintf(wanted, sizeof(wanted), "%sContent-Encoding: %s\r\n", coded,
                coding == CODING_BR ? "br" : "gzip");
            cr_expect_eq(coded_answer_write(fields, coding, true, &out), 0);
            cr_expect(buf_len(&out) == strlen(wanted) &&
                          memcmp(buf_data(&out), wanted, buf_len(&out)) == 0,
                "row %zu: %.*s", i, (int)buf_len(&out), buf_data(&out));
        }
        buf_truncate(&out, 0);
        cr_expect_eq(coded_answer_write(fields, CODING_GZIP, false, &out), 0);
        cr_expect(
            buf_len(&out) == strlen(coded) && memcmp(buf_data(&out), coded, strlen(coded)) == 0,
            "row %zu", i);
        buf_deinit(&out);
    }
}
