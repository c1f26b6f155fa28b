#include "frontd/shard/inspect/fault_at.h"

#include <criterion/criterion.h>
#include <string.h>

#include "proto/json_scan.h"

static size_t at_json(const char *text)
{
    return fault_at_json((struct span){text, strlen(text)});
}

static const char *const values[] = {
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\\u00e4\\n\",\"params\":[true,false,null,{}]}",
    " [ -1.5e+3 , 0, [], \"\xc3\xa4\" ] ",
    "\"x\"",
    "{\"a\":{\"b\":[{\"c\":{}}]}}",
};

/* A beginning of what is right is not wrong; a byte that can stand nowhere is wrong where it is. */
Test(fault_at, json_that_is_right_up_to_a_byte)
{
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        size_t n = strlen(values[i]);
        for (size_t at = 0; at <= n; at++) {
            char text[128];
            memcpy(text, values[i], at);
            text[at] = '\x01';
            memcpy(text + at + 1, values[i] + at, n - at);
            bool cut = at > 0 && (text[at - 1] & 0x80) && at < n && (values[i][at] & 0x80);
            cr_expect_eq(
                fault_at_json((struct span){text, n + 1}), at - cut, "%zu of %s", at, values[i]);
            if (!cut)
                cr_expect_eq(fault_at_json((struct span){text, at}), at);
        }
    }
}

Test(fault_at, json)
{
    static const struct {
        const char *text;
        size_t at;
    } rows[] = {
        {"", 0},
        {"{\"a\" 1}", 5},
        {"{\"a\":1 \"b\":2}", 7},
        {"{\"a\":1,}", 7},
        {"[1,]", 3},
        {"{1:2}", 1},
        {"[1 2]", 3},
        {"[01]", 2},
        {"[-x]", 2},
        {"[--1]", 2},
        {"[1.e5]", 3},
        {"[1e5.2]", 4},
        {"[truE]", 4},
        {"\"\\x\"", 2},
        {"\"\\u12g4\"", 5},
        {"{} {}", 3},
        {"[1}", 2},
        {"{\"a\":1]", 6},
        {"'a'", 0},
        {"\"a\nb\"", 2},
        {"]", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        cr_expect_eq(
            at_json(rows[i].text), rows[i].at, "%s: %zu", rows[i].text, at_json(rows[i].text));
    char deep[300];
    memset(deep, '[', sizeof(deep));
    cr_expect_eq(fault_at_json((struct span){deep, sizeof(deep)}), JSON_SCAN_DEPTH_MAX);
}

Test(fault_at, http1)
{
    static const char head[] =
        "POST /a?b=c HTTP/1.1\r\nHost: h\r\nX-Y: z\r\nContent-Length: 3\r\n\r\n";
    const struct http1_limits limits = {.head_bytes = 4096, .fields = 100};
    size_t n = strlen(head);
    cr_expect_eq(fault_at_http1((struct span){head, n}, &limits), n);
    for (size_t at = 0; at < n; at++) {
        char text[128];
        memcpy(text, head, at);
        text[at] = '\0';
        memcpy(text + at + 1, head + at, n - at);
        cr_expect_eq(fault_at_http1((struct span){text, n + 1}, &limits), at, "%zu: %zu", at,
            fault_at_http1((struct span){text, n + 1}, &limits));
        cr_expect_eq(fault_at_http1((struct span){text, at}, &limits), at);
    }
    static const struct {
        const char *text;
        size_t at;
    } rows[] = {
        {"GET / HTTP/1.2x", 14},
        {"GET / HTTP/1.1\r\nHost : h\r\n", 20},
        {"GET / HTTP/1.1\r\nA: b\r\n\r\n", 23},
        {"\x16\x03\x01", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        cr_expect_eq(fault_at_http1((struct span){rows[i].text, strlen(rows[i].text)}, &limits),
            rows[i].at, "row %zu", i);
}
