#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "common/base.h"
#include "workerd/workerd.h"

static struct workerd_text text(const char *what)
{
    return (struct workerd_text){what, strlen(what)};
}

static bool is(struct workerd_text value, const char *wanted)
{
    return value.n == strlen(wanted) && (value.n == 0 || memcmp(value.p, wanted, value.n) == 0);
}

Test(worker_json, integers)
{
    static const struct {
        const char *text;
        int result;
        int64_t integer;
    } cases[] = {
        {"0", 0, 0},
        {"-0", 0, 0},
        {"17", 0, 17},
        {"-17", 0, -17},
        {"9223372036854775807", 0, INT64_MAX},
        {"-9223372036854775808", 0, INT64_MIN},
        {"9223372036854775808", -ERANGE, 0},
        {"-9223372036854775809", -ERANGE, 0},
        {"99999999999999999999999999", -ERANGE, 0},
        {"99999999999999999999999999.5", -EINVAL, 0},
        {"1.0", -EINVAL, 0},
        {"1e2", -EINVAL, 0},
        {"\"1\"", -EINVAL, 0},
        {"true", -EINVAL, 0},
        {"null", -EINVAL, 0},
        {"[1]", -EINVAL, 0},
        {"", -EINVAL, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t integer = 4711;
        cr_assert_eq(workerd_json_integer(text(cases[i].text), &integer), cases[i].result, "%s",
            cases[i].text);
        cr_assert_eq(integer, cases[i].result == 0 ? cases[i].integer : 4711, "%s", cases[i].text);
    }
}

Test(worker_json, doubles)
{
    static const struct {
        const char *text;
        int result;
        double number;
    } cases[] = {
        {"0", 0, 0},
        {"-1.5", 0, -1.5},
        {"1e308", 0, 1e308},
        {"1.7976931348623157e308", 0, 1.7976931348623157e308},
        {"1e309", -ERANGE, 0},
        {"-1e999999", -ERANGE, 0},
        {"1e-999999", 0, 0},
        {"\"1\"", -EINVAL, 0},
        {"false", -EINVAL, 0},
        {"", -EINVAL, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        double number = 0;
        cr_assert_eq(workerd_json_double(text(cases[i].text), &number), cases[i].result, "%s",
            cases[i].text);
        cr_assert_float_eq(number, cases[i].number, 0, "%s", cases[i].text);
    }
}

Test(worker_json, strings)
{
    static const struct {
        const char *text;
        size_t size;
        int result;
        const char *string;
    } cases[] = {
        {"\"\"", 1, 0, ""},
        {"\"\"", 0, -ENOSPC, NULL},
        {"\"abc\"", 4, 3, "abc"},
        {"\"abc\"", 3, -ENOSPC, NULL},
        {"\"\\u0061\\u0062\"", 3, 2, "ab"},
        {"\"\\u0061\\u0062\"", 2, -ENOSPC, NULL},
        {"\"\\ud83d\\ude00\"", 5, 4, "\xf0\x9f\x98\x80"},
        {"\"\\n\\\"\\\\\\/\"", 5, 4, "\n\"\\/"},
        {"7", 10, -EINVAL, NULL},
        {"", 10, -EINVAL, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *out = malloc(cases[i].size + 1); /* not more: ASan sees what is written beyond */
        cr_assert_not_null(out);
        out[cases[i].size] = 'x';
        int r = workerd_json_string(text(cases[i].text), out, cases[i].size);
        cr_assert_eq(r, cases[i].result, "%s: %d", cases[i].text, r);
        cr_assert(r < 0 || strcmp(out, cases[i].string) == 0, "%s", cases[i].text);
        cr_assert_eq(out[cases[i].size], 'x');
        free(out);
    }
}

Test(worker_json, quoting)
{
    static const struct {
        const char *text;
        const char *quoted;
    } cases[] = {
        {"", "\"\""},
        {"plain", "\"plain\""},
        {"\"\\/", "\"\\\"\\\\/\""},
        {"\x01\n\x1f\x7f", "\"\\u0001\\u000a\\u001f\x7f\""},
        {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\""},
        /* RFC 3629: overlong, a surrogate, beyond U+10FFFF, cut off, a lone continuation */
        {"\xc0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xe0\x9f\xbf", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xf4\x90\x80\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {"a\xe2\x82", "\"a\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\x80", "\"\xef\xbf\xbd\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t wanted = strlen(cases[i].quoted);
        for (size_t size = 0; size < wanted + 80; size++) {
            char *out = malloc(size + 1);
            cr_assert_not_null(out);
            out[size] = 'x';
            int64_t n = workerd_json_quote(cases[i].text, strlen(cases[i].text), out, size);
            cr_assert_eq(n, size < wanted ? -ENOSPC : (int64_t)wanted, "case %zu, %zu", i, size);
            cr_assert(n < 0 || memcmp(out, cases[i].quoted, wanted) == 0, "case %zu", i);
            cr_assert_eq(out[size], 'x');
            free(out);
        }
    }
}

Test(worker_json, members_and_elements)
{
    struct workerd_text object = text("{\"a\":1,\"b\\u0063\":[ 2 , {\"x\":[]}, \"]\" ],\"a\":3}");
    cr_assert(is(workerd_json_member(object, "a"), "3"));
    struct workerd_text array = workerd_json_member(object, "bc");
    cr_assert(is(array, "[ 2 , {\"x\":[]}, \"]\" ]"));
    cr_assert_null(workerd_json_member(object, "c").p);
    cr_assert_null(workerd_json_member(array, "a").p);
    cr_assert_null(workerd_json_member((struct workerd_text){NULL, 0}, "a").p);

    static const char *const wanted[] = {"2", "{\"x\":[]}", "\"]\""};
    struct workerd_text value;
    size_t at = 0;
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        cr_assert(workerd_json_next(array, &at, &value));
        cr_assert(is(value, wanted[i]));
    }
    cr_assert_not(workerd_json_next(array, &at, &value));
    static const char *const none[] = {"[]", "[ ]", "{}", "7", ""};
    for (size_t i = 0; i < ARRAY_LEN(none); i++) {
        at = 0;
        cr_assert_not(workerd_json_next(text(none[i]), &at, &value), "%s", none[i]);
    }
}
