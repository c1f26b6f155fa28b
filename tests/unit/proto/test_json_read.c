#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "proto/json_read.h"
#include "proto/json_scan.h"
#include "proto/json_write.h"
#include "proto/jsonrpc.h"

static struct span text(const char *what)
{
    return (struct span){what, strlen(what)};
}

static bool is(struct span value, const char *wanted)
{
    return value.n == strlen(wanted) && (value.n == 0 || memcmp(value.p, wanted, value.n) == 0);
}

Test(json_read, members_and_elements)
{
    struct span object = text("{\"a\":[1, \"x\" ,{}],\"b\":true,\"a\":[2,[3]]}");
    struct span array = json_read_member(object, "a"); /* the last one counts */
    struct span value;
    size_t at = 0;
    cr_assert_eq(json_read_count(array), 2u);
    cr_assert(json_read_next(array, &at, &value) && is(value, "2"));
    cr_assert(json_read_next(array, &at, &value) && is(value, "[3]"));
    cr_assert(!json_read_next(array, &at, &value));
    cr_assert(json_is_true(json_read_member(object, "b")));
    cr_assert_eq(json_read_member(object, "c").n, 0u);
    cr_assert_eq(json_read_member(array, "a").n, 0u);
    cr_assert_eq(json_read_member((struct span){0}, "a").n, 0u);
    cr_assert_eq(json_read_count(object), 0u);
    cr_assert_eq(json_read_count(text("[ ]")), 0u);
    cr_assert_eq(json_read_count((struct span){0}), 0u);
}

Test(json_read, numbers)
{
    static const struct {
        const char *text;
        uint64_t max;
        uint64_t number; /* 99: the fallback */
    } cases[] = {
        {"0", 5, 0},
        {"5", 5, 5},
        {"6", 5, 99},
        {"18446744073709551615", UINT64_MAX, UINT64_MAX},
        {"18446744073709551616", UINT64_MAX, 99},
        {"-1", UINT64_MAX, 99},
        {"1.0", 5, 99},
        {"1e1", 50, 99},
        {"\"1\"", 5, 99},
        {"", 5, 99},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        cr_assert_eq(json_read_number(text(cases[i].text), cases[i].max, 99), cases[i].number, "%s",
            cases[i].text);
}

Test(json_read, strings)
{
    char out[4];
    char *made = NULL;
    cr_assert(json_read_plain(text("\"abc\""), out, sizeof(out)) && strcmp(out, "abc") == 0);
    cr_assert(!json_read_plain(text("\"abcd\""), out, sizeof(out)) && out[0] == '\0');
    cr_assert(!json_read_plain(text("\"\\n\""), out, sizeof(out)) && out[0] == '\0');
    cr_assert(!json_read_plain(text("1"), out, sizeof(out)) && out[0] == '\0');
    cr_assert(json_read_plain(text("\"\""), out, sizeof(out)));
    cr_assert_eq(json_read_string(text("\"a\\u00e4\\n\""), &made), 0);
    cr_assert_str_eq(made, "a\xc3\xa4\n");
    mem_free(made);
    cr_assert_eq(json_read_string(text("\"\""), &made), 0);
    cr_assert_str_eq(made, "");
    mem_free(made);
    cr_assert_eq(json_read_string(text("7"), &made), -EINVAL);
    cr_assert_eq(json_read_string((struct span){0}, &made), -EINVAL);
    mem_fail_after(0);
    cr_assert_eq(json_read_string(text("\"a\""), &made), -ENOMEM);
    mem_fail_after(-1);
    cr_assert_eq(mem_in_use(), 0u);
}

Test(json_read, bytes)
{
    unsigned char out[2] = {1, 1};
    cr_assert_eq(json_read_bytes(text("\"00ff\""), out, 2), 2u);
    cr_assert(out[0] == 0 && out[1] == 0xff);
    cr_assert_eq(json_read_bytes(text("\"00ff00\""), out, 2), 0u);
    cr_assert_eq(json_read_bytes(text("\"0\""), out, 2), 0u);
    cr_assert_eq(json_read_bytes(text("\"zz\""), out, 2), 0u);
    cr_assert_eq(json_read_bytes(text("\"\""), out, 2), 0u);
    cr_assert_eq(json_read_bytes(text("12"), out, 2), 0u);
}

static void write_all(struct json_writer *out)
{
    json_begin(out, NULL, '{');
    json_add_number(out, "most", UINT64_MAX);
    json_begin(out, "list", '[');
    json_add_integer(out, NULL, -1);
    json_begin(out, NULL, '{');
    json_end(out, '}');
    json_add_flag(out, NULL, false);
    json_end(out, ']');
    json_add_text(out, "text", "a\"\xff");
    json_add_bytes(out, "bytes", "\0\xff", 2);
    json_end(out, '}');
}

Test(json_read, what_was_written)
{
    struct json_writer out = {0};
    write_all(&out);
    cr_assert(!out.failed);
    struct span whole = {buf_data(&out.out), buf_len(&out.out)};
    cr_assert(is(whole, "{\"most\":18446744073709551615,\"list\":[-1,{},false],"
                        "\"text\":\"a\\\"\xef\xbf\xbd\",\"bytes\":\"00ff\"}"));
    buf_deinit(&out.out);
}

/* Once something is missing, nothing follows, and it is known. */
Test(json_read, written_without_memory)
{
    bool failed = true;
    for (long n = 0; failed; n++) {
        struct json_writer out = {0};
        cr_assert_lt(n, 100);
        mem_fail_after(n);
        write_all(&out);
        mem_fail_after(-1);
        failed = out.failed;
        bool whole = jsonrpc_validate(buf_data(&out.out), buf_len(&out.out)) == 0;
        cr_assert_eq(whole, !failed);
        buf_deinit(&out.out);
        cr_assert_eq(mem_in_use(), 0u);
    }
}

/* Every character that there is, and what stands for it otherwise, comes back as it was. */
Test(json_read, any_text)
{
    char in[0x80 + 16];
    char *read = NULL;
    size_t n = 0;
    for (unsigned c = 0; c < 0x80; c++)
        in[c] = (char)c;
    memcpy(in + 0x80, "\xc3\xa4\xef\xbf\xbd\xf0\x9f\x98\x80\\u00\"\\/", 16);
    struct json_writer out = {0};
    json_add_span(&out, NULL, (struct span){in, sizeof(in)});
    cr_assert(!out.failed);
    cr_assert_eq(
        json_read_text((struct span){buf_data(&out.out), buf_len(&out.out)}, &read, &n), 0);
    cr_assert(n == sizeof(in) && memcmp(read, in, n) == 0 && read[n] == '\0');
    mem_free(read);
    cr_assert_eq(json_read_text(text("\"\\/\\b\\u00e4\""), &read, &n), 0);
    cr_assert(n == 4 && memcmp(read, "/\b\xc3\xa4", 5) == 0);
    mem_free(read);
    cr_assert_eq(json_read_text(text("[]"), &read, &n), -EINVAL);
    cr_assert_eq(json_read_text((struct span){NULL, 0}, &read, &n), -EINVAL);
    buf_deinit(&out.out);
    cr_assert_eq(mem_in_use(), 0u);
}
