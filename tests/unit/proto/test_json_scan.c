#include <criterion/criterion.h>
#include <string.h>

#include "proto/json_scan.h"
#include "proto/jsonrpc.h"

/* A constant initializer, which SPAN() is not. */
#define TEXT(literal)                                                                              \
    {                                                                                              \
        (literal), sizeof(literal) - 1                                                             \
    }

/* What RFC 8259 says is JSON, and what it says is not, by way of jsonrpc_validate(). */

/* A copy exactly as large as the text: a read past its end is one past an allocation. */
static int validate(const char *text, size_t n)
{
    char *copy = malloc(n + (n == 0));
    cr_assert_not_null(copy);
    memcpy(copy, text, n);
    const int r = jsonrpc_validate(copy, n);
    free(copy);
    return r;
}

static const struct span accepted[] = {
    /* section 2: any value, white space around tokens */
    TEXT("{}"),
    TEXT("[]"),
    TEXT("null"),
    TEXT("true"),
    TEXT("false"),
    TEXT("\"\""),
    TEXT("0"),
    TEXT(" \t\r\n1 \t\r\n"),
    TEXT("\t[\r1\n,\t2 ] "),
    TEXT(" { \"a\" \t:\n1\r, \"b\":2 } "),
    TEXT("[ ]"),
    TEXT("{ }"),
    TEXT("[[],{},[{}],{\"a\":[]}]"),
    TEXT("{\"\":0}"),
    TEXT("{\"a\":1,\"a\":2}"),
    TEXT("[null,true,false]"),
    /* section 6 */
    TEXT("-0"),
    TEXT("-1"),
    TEXT("10"),
    TEXT("0.0"),
    TEXT("-0.0"),
    TEXT("1.05"),
    TEXT("0e0"),
    TEXT("0e+1"),
    TEXT("0E-01"),
    TEXT("1e00"),
    TEXT("1E+2"),
    TEXT("123.456e-789"),
    TEXT("1e999999"),
    TEXT("123456789012345678901234567890"),
    TEXT("0.00000000000000000000000000001"),
    TEXT("[1 ,2e1 ,3.0 ]"),
    /* section 7 */
    TEXT("\"a\""),
    TEXT("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""),
    TEXT("\"\\u0000\\u001f\\uABCD\\uabcd\\uFfFf\""),
    TEXT("\"\\ud83d\\ude00\""),
    TEXT("\"\\ud800\""), /* section 8.2: a lone surrogate fits the grammar */
    TEXT("\"\\udc00\\ud800\""),
    TEXT("\"\\ud800\\n\""),
    TEXT("\"/*no comment*/ // '\""),
    TEXT("\"\x7f\""),
    TEXT("\"0123456789abcdef0123456789abcdef\""),
    TEXT("\"0123456789abcde\\n0123456789abcdef\""),
    /* section 8.1, RFC 3629: the first and last character of each length and beside the holes */
    TEXT("\"\xc2\x80\""),
    TEXT("\"\xdf\xbf\""),
    TEXT("\"\xe0\xa0\x80\""),
    TEXT("\"\xed\x9f\xbf\""),
    TEXT("\"\xee\x80\x80\""),
    TEXT("\"\xef\xbf\xbf\""),
    TEXT("\"\xef\xbb\xbf\""), /* U+FEFF within a string is a character like others */
    TEXT("\"\xf0\x90\x80\x80\""),
    TEXT("\"\xf4\x8f\xbf\xbf\""),
    TEXT("\"a\xc3\xa9z\xe2\x82\xacq\xf0\x9f\x98\x80w\""),
    TEXT("{\"\xc3\xa9\":\"\xe2\x80\xa8\xe2\x80\xa9\"}"),
};

Test(json_scan, accepts)
{
    for (size_t i = 0; i < ARRAY_LEN(accepted); i++)
        cr_expect_eq(validate(accepted[i].p, accepted[i].n), 0, "%s", accepted[i].p);
}

static const struct span refused[] = {
    TEXT(""),
    TEXT(" "),
    TEXT("\n\t\r "),
    /* more than one value, or none */
    TEXT("1 2"),
    TEXT("{}{}"),
    TEXT("[]]"),
    TEXT("[]x"),
    TEXT("{}}"),
    TEXT("\"a\"\"b\""),
    TEXT(","),
    TEXT(":"),
    TEXT("]"),
    TEXT("}"),
    TEXT("1,"),
    TEXT("null\0"),
    TEXT("\0"),
    TEXT("{}\0"),
    /* white space that JSON does not know */
    TEXT("\v1"),
    TEXT("\f1"),
    TEXT("[1\f]"),
    TEXT("1\xc2\xa0"),
    TEXT("\xe2\x81\xa0[]"),
    /* a byte order mark, whole and in part, in each encoding */
    TEXT("\xef\xbb\xbf{}"),
    TEXT("\xef\xbb\xbf"),
    TEXT("\xef\xbb{}"),
    TEXT("\xff\xfe{\0}\0"),
    TEXT("\xfe\xff\0{\0}"),
    TEXT("[\xef\xbb\xbf]"),
    /* literals */
    TEXT("n"),
    TEXT("nul"),
    TEXT("nulll"),
    TEXT("nullx"),
    TEXT("Null"),
    TEXT("TRUE"),
    TEXT("tru"),
    TEXT("truee"),
    TEXT("fals"),
    TEXT("falsey"),
    TEXT("undefined"),
    TEXT("NaN"),
    TEXT("-NaN"),
    TEXT("Infinity"),
    TEXT("-Infinity"),
    TEXT("nan"),
    TEXT("inf"),
    TEXT("a"),
    /* numbers */
    TEXT("-"),
    TEXT("+1"),
    TEXT("--1"),
    TEXT("- 1"),
    TEXT("00"),
    TEXT("01"),
    TEXT("-01"),
    TEXT("-00"),
    TEXT("1."),
    TEXT("-1."),
    TEXT(".5"),
    TEXT("-.5"),
    TEXT("2.e3"),
    TEXT("1.e"),
    TEXT("1e"),
    TEXT("1e+"),
    TEXT("1E-"),
    TEXT("1e+-1"),
    TEXT("1e1.5"),
    TEXT("1.2.3"),
    TEXT("1ee1"),
    TEXT("0x10"),
    TEXT("0b1"),
    TEXT("1_000"),
    TEXT("1a"),
    TEXT("1 000"),
    TEXT("0 1"),
    TEXT("[1 2]"),
    TEXT("[-]"),
    TEXT("[1.]"),
    TEXT("[2.e3]"),
    TEXT("[01]"),
    TEXT("1\xef\xbc\x91"), /* a full-width digit */
    /* strings */
    TEXT("\""),
    TEXT("\"a"),
    TEXT("'a'"),
    TEXT("\"a'"),
    TEXT("`a`"),
    TEXT("\"\\\""),
    TEXT("\"\\"),
    TEXT("\"\\x41\""),
    TEXT("\"\\a\""),
    TEXT("\"\\v\""),
    TEXT("\"\\0\""),
    TEXT("\"\\'\""),
    TEXT("\"\\\n\""),
    TEXT("\"\\U0041\""),
    TEXT("\"\\u\""),
    TEXT("\"\\u0\""),
    TEXT("\"\\u00\""),
    TEXT("\"\\u004\""),
    TEXT("\"\\u004g\""),
    TEXT("\"\\u00G0\""),
    TEXT("\"\\u 041\""),
    TEXT("\"\\u+041\""),
    TEXT("\"\\u-041\""),
    TEXT("\"\\u{41}\""),
    TEXT("\"\\ud83d\\ude0\""),
    TEXT("\"\\ud83d\\\""),
    TEXT("\"\n\""),
    TEXT("\"\t\""),
    TEXT("\"a\rb\""),
    TEXT("\"\0\""),
    TEXT("\"0123456789abcdef0123456\x1f\""),
    TEXT("\\u0022a\\u0022"),
    TEXT("\xe2\x80\x9c"
         "a\xe2\x80\x9d"), /* curly quotes */
    /* arrays */
    TEXT("["),
    TEXT("[1"),
    TEXT("[1,"),
    TEXT("[,"),
    TEXT("[,]"),
    TEXT("[,1]"),
    TEXT("[1,]"),
    TEXT("[1,,2]"),
    TEXT("[1 true]"),
    TEXT("[1:2]"),
    TEXT("[1}"),
    TEXT("[[]"),
    TEXT("[}"),
    TEXT("[\"a\": 1]"),
    TEXT("[1;2]"),
    TEXT("[...]"),
    TEXT("(1)"),
    /* objects */
    TEXT("{"),
    TEXT("{\"a\""),
    TEXT("{\"a\":"),
    TEXT("{\"a\":1"),
    TEXT("{\"a\":1,"),
    TEXT("{\"a\":1,}"),
    TEXT("{,\"a\":1}"),
    TEXT("{,}"),
    TEXT("{\"a\"}"),
    TEXT("{\"a\":}"),
    TEXT("{\"a\",1}"),
    TEXT("{\"a\"=1}"),
    TEXT("{\"a\"::1}"),
    TEXT("{\"a\" 1}"),
    TEXT("{:1}"),
    TEXT("{a:1}"),
    TEXT("{'a':1}"),
    TEXT("{1:1}"),
    TEXT("{null:1}"),
    TEXT("{[]:1}"),
    TEXT("{{}:1}"),
    TEXT("{\"a\":1 \"b\":2}"),
    TEXT("{\"a\":1;\"b\":2}"),
    TEXT("{\"a\":1,,\"b\":2}"),
    TEXT("{\"a\":1,2}"),
    TEXT("{\"a\":1]"),
    TEXT("{]"),
    TEXT("{\"\n\":1}"),
    TEXT("{\"\\x\":1}"),
    TEXT("{\"a\":[1,{\"b\":2]}}"),
    TEXT("[{]}"),
    /* comments */
    TEXT("/**/1"),
    TEXT("1//"),
    TEXT("[1,/*2*/3]"),
    TEXT("# a\n1"),
    TEXT("{\"a\":1/**/}"),
    /* UTF-8: outside of strings */
    TEXT("\xc3\xa9"),
    TEXT("[\xe2\x82\xac]"),
    TEXT("{\xc3\xa9:1}"),
    TEXT("\x80"),
    TEXT("\xff"),
};

Test(json_scan, refuses)
{
    for (size_t i = 0; i < ARRAY_LEN(refused); i++)
        cr_expect_eq(
            validate(refused[i].p, refused[i].n), JSONRPC_E_PARSE, "%zu: %s", i, refused[i].p);
}

/* Not UTF-8; RFC 3629 sections 3 and 4. */
static const struct span malformed[] = {
    /* continuation bytes alone */
    TEXT("\x80"),
    TEXT("\xbf"),
    TEXT("\x80\x80\x80"),
    /* overlong */
    TEXT("\xc0\x80"),
    TEXT("\xc0\xaf"),
    TEXT("\xc1\xbf"),
    TEXT("\xe0\x80\xaf"),
    TEXT("\xe0\x9f\xbf"),
    TEXT("\xf0\x80\x80\xaf"),
    TEXT("\xf0\x8f\xbf\xbf"),
    /* surrogates, alone and as CESU-8 pairs them */
    TEXT("\xed\xa0\x80"),
    TEXT("\xed\xaf\xbf"),
    TEXT("\xed\xb0\x80"),
    TEXT("\xed\xbf\xbf"),
    TEXT("\xed\xa0\xbd\xed\xb8\x80"),
    /* over U+10FFFF */
    TEXT("\xf4\x90\x80\x80"),
    TEXT("\xf5\x80\x80\x80"),
    TEXT("\xf7\xbf\xbf\xbf"),
    TEXT("\xf8\x88\x80\x80\x80"),
    TEXT("\xfc\x84\x80\x80\x80\x80"),
    TEXT("\xfe"),
    TEXT("\xff"),
    TEXT("\xff\xff\xff\xff"),
    /* another byte where one must continue; the first is Latin-1 */
    TEXT("\xe9"),
    TEXT("\xc3\x28"),
    TEXT("\xe2\x28\xac"),
    TEXT("\xe2\x82\x28"),
    TEXT("\xe2\x82\xc3\xa9"),
    TEXT("\xf0\x28\x98\x80"),
    TEXT("\xf0\x9f\x28\x80"),
    TEXT("\xf0\x9f\x98\x28"),
    /* one too many */
    TEXT("\xc3\xa9\xa9"),
};

static const struct span characters[] = {
    TEXT("\xc3\xa9"),
    TEXT("\xe0\xa0\x80"),
    TEXT("\xe2\x82\xac"),
    TEXT("\xed\x9f\xbf"),
    TEXT("\xf0\x90\x80\x80"),
    TEXT("\xf1\x80\x80\x80"),
    TEXT("\xf4\x8f\xbf\xbf"),
};

/* `inside` in a string, at every place relative to the blocks in which strings are scanned. */
static void expect_inside(struct span inside, int result)
{
    char text[128];

    for (size_t before = 0; before < 34; before++) {
        for (size_t after = 0; after < 34; after += 11) {
            size_t n = 0;
            text[n++] = '"';
            memset(text + n, 'a', before);
            n += before;
            memcpy(text + n, inside.p, inside.n);
            n += inside.n;
            memset(text + n, 'z', after);
            n += after;
            text[n++] = '"';
            cr_expect_eq(validate(text, n), result, "%zu bytes, first %02x, behind %zu", inside.n,
                (unsigned char)inside.p[0], before);
        }
    }
}

Test(json_scan, refuses_malformed_utf8)
{
    for (size_t i = 0; i < ARRAY_LEN(malformed); i++)
        expect_inside(malformed[i], JSONRPC_E_PARSE);
}

Test(json_scan, refuses_characters_cut_at_every_byte)
{
    for (size_t i = 0; i < ARRAY_LEN(characters); i++) {
        expect_inside(characters[i], 0);
        for (size_t n = 1; n < characters[i].n; n++) {
            expect_inside((struct span){characters[i].p, n}, JSONRPC_E_PARSE);
            expect_inside((struct span){characters[i].p + n, characters[i].n - n}, JSONRPC_E_PARSE);
        }
    }
}

/* Section 7: U+0000 to U+001F must be escaped; nothing else but quote and backslash. */
Test(json_scan, single_bytes_in_strings)
{
    for (int c = 0; c < 256; c++) {
        const char byte = (char)c;
        const bool plain = c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
        expect_inside((struct span){&byte, 1}, plain ? 0 : JSONRPC_E_PARSE);
    }
}

/* All code points from U+0080 up, encoded without regard to what is allowed. */
Test(json_scan, every_code_point)
{
    for (uint32_t c = 0x80; c < 0x120000; c++) {
        char text[6] = {'"'};
        size_t n = 1;
        if (c < 0x800) {
            text[n++] = (char)(0xc0 | c >> 6);
        } else {
            if (c < 0x10000) {
                text[n++] = (char)(0xe0 | c >> 12);
            } else {
                text[n++] = (char)(0xf0 | c >> 18);
                text[n++] = (char)(0x80 | (c >> 12 & 0x3f));
            }
            text[n++] = (char)(0x80 | (c >> 6 & 0x3f));
        }
        text[n++] = (char)(0x80 | (c & 0x3f));
        text[n++] = '"';
        const bool allowed = (c < 0xd800 || c > 0xdfff) && c <= 0x10ffff;
        cr_assert_eq(jsonrpc_validate(text, n), allowed ? 0 : JSONRPC_E_PARSE, "U+%04X", c);
    }
}

/* No prefix of these is JSON. */
static const struct span whole[] = {
    TEXT("{\"jsonrpc\":\"2.0\",\"id\":12,\"method\":\"echo\",\"params\":[1.5e+3,{\"a\":null}]}"),
    TEXT("[ true , false , null , \"\\u00e9\\n\xe2\x82\xac\xf0\x9f\x98\x80\" , { } , [ ] ]"),
    TEXT("\"0123456789abcdef\xc3\xa9 0123456789abcdef\\ud83d\\ude00 0123456789abcdef\""),
    TEXT("{\"a\" : {\"b\" : [[[-0.5e-1]]]} , \"c\" : \"d\"}"),
    TEXT("null"),
};

Test(json_scan, refuses_every_prefix)
{
    for (size_t i = 0; i < ARRAY_LEN(whole); i++) {
        cr_expect_eq(validate(whole[i].p, whole[i].n), 0);
        for (size_t n = 0; n < whole[i].n; n++)
            cr_expect_eq(validate(whole[i].p, n), JSONRPC_E_PARSE, "%zu of %s", n, whole[i].p);
    }
}

/* Writes `depth` times `open`, an inner value, and `depth` times `close`. */
static char *nest(
    const char *open, const char *inner, const char *close, size_t depth, size_t *ret_n)
{
    const size_t n = depth * (strlen(open) + strlen(close)) + strlen(inner);
    char *text = malloc(n + 1);
    cr_assert_not_null(text);
    char *p = text;
    for (size_t i = 0; i < depth; i++)
        p = stpcpy(p, open);
    p = stpcpy(p, inner);
    for (size_t i = 0; i < depth; i++)
        p = stpcpy(p, close);
    *ret_n = n;
    return text;
}

static void expect_depth(const char *open, const char *inner, const char *close, size_t per_level)
{
    static const struct {
        size_t depth;
        int result;
    } rows[] = {
        {64, 0},
        {126, 0},
        {128, 0},
        {130, JSONRPC_E_PARSE},
        {100000, JSONRPC_E_PARSE},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        size_t n;
        char *text = nest(open, inner, close, rows[i].depth / per_level, &n);
        cr_expect_eq(validate(text, n), rows[i].result, "%s %zu deep", open, rows[i].depth);
        free(text);
    }
}

Test(json_scan, depth)
{
    expect_depth("[", "", "]", 1);
    expect_depth("[", "1", "]", 1);
    expect_depth("{\"a\":", "1", "}", 1);
    expect_depth("[{\"a\":", "1", "}]", 2);
    expect_depth("{\"a\":[", "", "]}", 2);
    expect_depth(" [ 0 , ", "1", " ] ", 1);

    size_t n;
    char *text = nest("[", "", "]", 129, &n);
    cr_expect_eq(validate(text, n), JSONRPC_E_PARSE);
    free(text);
    text = nest("[", "", "", 100000, &n);
    cr_expect_eq(validate(text, n), JSONRPC_E_PARSE);
    free(text);
}

/* What closes must be what was opened, at each level: the bit of each level is kept apart. */
Test(json_scan, kinds_at_every_depth)
{
    char text[4 * JSON_SCAN_DEPTH_MAX];
    uint64_t random = 1;

    for (int round = 0; round < 200; round++) {
        bool objects[JSON_SCAN_DEPTH_MAX];
        size_t n = 0;
        for (size_t i = 0; i < JSON_SCAN_DEPTH_MAX; i++) {
            random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            objects[i] = random >> 63;
            if (!objects[i])
                text[n++] = '[';
            else if (i + 1 == JSON_SCAN_DEPTH_MAX)
                text[n++] = '{';
            else
                n = (size_t)(stpcpy(text + n, "{\"\":") - text);
            cr_assert_lt(n, sizeof(text) - JSON_SCAN_DEPTH_MAX);
        }
        const size_t closing = n;
        for (size_t i = JSON_SCAN_DEPTH_MAX; i-- > 0;)
            text[n++] = objects[i] ? '}' : ']';
        cr_expect_eq(validate(text, n), 0);
        for (size_t i = closing; i < n; i++) {
            text[i] ^= '}' ^ ']';
            cr_expect_eq(validate(text, n), JSONRPC_E_PARSE);
            text[i] ^= '}' ^ ']';
        }
    }
}

Test(json_scan, folds)
{
    static const struct {
        const char *in;
        const char *out;
    } rows[] = {
        {"", ""},
        {"aBZz", "abzz"},
        {"@[`{09", "@[`{09"},
        {"\\u0041\\u005a\\u0061", "aza"},
        {"\\/\\n\\\"", "/\n\""},
        {"\xc5\xbf\\u017f", "ss"},
        {"\xc4\xb0\xc4\xb1\\u0130\\u0131", "iiii"},
        {"\xe2\x84\xaa\\u212A", "kk"},
        {"\xef\xac\x85\xef\xac\x86\\ufb06", "ststst"},
        /* letters that are no ASCII in any case stay */
        {"\xc3\x89\\u00c9", "\xc3\x89\xc3\x89"},
        {"\xf0\x9f\x98\x80\\ud83d\\ude00", "\xf0\x9f\x98\x80\xf0\x9f\x98\x80"},
        {"\\ud800x", "\xef\xbf\xbdx"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct span in = {rows[i].in, strlen(rows[i].in)};
        const size_t full = strlen(rows[i].out);
        for (size_t room = 0; room <= full + 1; room++) {
            char *out = malloc(room + (room == 0)); /* no more, so that ASan sees one too many */
            cr_assert_not_null(out);
            const size_t n = json_scan_fold(in, out, room);
            cr_expect_eq(n, MIN(room, full), "%s in %zu: %zu", rows[i].in, room, n);
            cr_expect(n == 0 || memcmp(out, rows[i].out, n) == 0, "%s in %zu", rows[i].in, room);
            free(out);
        }
    }
    cr_expect_eq(json_scan_fold((struct span){NULL, 0}, NULL, 0), 0);
}

Test(json_scan, starts)
{
    static const struct {
        const char *in;
        const char *text;
        bool starts;
    } rows[] = {
        {"", "", true},
        {"a", "", true},
        {"", "a", false},
        {"a", "ab", false},
        {"ab", "ab", true},
        {"abc", "ab", true},
        {"aBc", "ab", false},
        {"xab", "ab", false},
        {"\\u0061b\\n", "ab", true},
        {"\\u20acx", "\xe2\x82\xac", true},
        {"\\u20acx", "\xe2\x82", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct span in = {rows[i].in, strlen(rows[i].in)};
        const struct span text = {rows[i].text, strlen(rows[i].text)};
        cr_expect_eq(json_scan_starts(in, text), rows[i].starts, "%s %s", in.p, text.p);
    }
}
