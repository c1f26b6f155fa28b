#include <criterion/criterion.h>
#include <errno.h>
#include <json-c/json.h>

#include "common/alloc.h"
#include "proto/json_scan.h"
#include "proto/json_write.h"

Test(json_write, strings)
{
    const struct {
        struct span in;
        const char *out;
    } rows[] = {
        {SPAN(""), "\"\""}, {SPAN("plain / text"), "\"plain / text\""},
        {SPAN("a\"b\\c"), "\"a\\\"b\\\\c\""},
        {SPAN("\n\r\t\b"), "\"\\u000a\\u000d\\u0009\\u0008\""}, {SPAN("a\0b"), "\"a\\u0000b\""},
        {SPAN("\x01\x1f\x7f"), "\"\\u0001\\u001f\\u007f\""},
        {SPAN("\x80\xff"), "\"\xc2\x80\xc3\xbf\""},
        {SPAN("\xc3\xa4"), "\"\xc3\x83\xc2\xa4\""}, /* Latin-1, not UTF-8 */
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out = {0};
        cr_assert_eq(json_put_raw(&out, "["), 0);
        cr_assert_eq(json_put_latin1(&out, rows[i].in), 0);
        cr_assert_eq(json_put_raw(&out, "]"), 0);
        size_t n = strlen(rows[i].out);
        cr_assert_eq(buf_len(&out), n + 2);
        cr_assert_eq(memcmp(buf_data(&out) + 1, rows[i].out, n), 0, "%zu: %.*s", i,
            (int)buf_len(&out), buf_data(&out));
        buf_deinit(&out);
    }
}

/* Every byte, before and after another, comes back from two readers as its Latin-1 character. */
Test(json_write, every_byte)
{
    for (unsigned c = 0; c < 256; c++) {
        const char bytes[] = {'x', (char)c, (char)c, '1'};
        struct buf out = {0};
        cr_assert_eq(json_put_latin1(&out, (struct span){bytes, sizeof(bytes)}), 0);
        const char *end = buf_data(&out) + buf_len(&out);
        cr_assert_eq(json_scan_value(buf_data(&out), end, 0), end, "0x%02x", c);

        cr_assert_eq(buf_append(&out, "", 1), 0);
        struct json_object *read = json_tokener_parse(buf_data(&out));
        cr_assert_not_null(read);
        char utf8[8];
        int n = c < 0x80 ? snprintf(utf8, sizeof(utf8), "x%c%c1", c, c)
                         : snprintf(utf8, sizeof(utf8), "x%c%c%c%c1", 0xc0 | c >> 6,
                               0x80 | (c & 0x3f), 0xc0 | c >> 6, 0x80 | (c & 0x3f));
        cr_assert_eq(json_object_get_string_len(read), n);
        cr_assert_eq(memcmp(json_object_get_string(read), utf8, (size_t)n), 0, "0x%02x", c);
        json_object_put(read);
        buf_deinit(&out);
    }
}

Test(json_write, without_memory)
{
    struct buf out = {0};
    cr_assert_eq(json_put_raw(&out, "kept"), 0);
    static char text[100000];
    for (unsigned raw = 0; raw < 2; raw++) {
        memset(text, 'x', sizeof(text) - 1);
        mem_fail_after(0);
        int r = raw ? json_put_raw(&out, text)
                    : json_put_latin1(&out, (struct span){text, sizeof(text)});
        mem_fail_after(-1);
        cr_assert_eq(r, -ENOMEM);
        cr_assert(buf_len(&out) == 4 && memcmp(buf_data(&out), "kept", 4) == 0);
    }
    buf_deinit(&out);
    cr_assert_eq(mem_in_use(), 0u);
}
