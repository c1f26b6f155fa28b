#include "frontd/shard/inspect/mask.h"

#include <criterion/criterion.h>
#include <string.h>

struct row {
    const char *in;
    const char *out;
};

static void check(const struct row *rows, size_t n, void (*mask)(char *text, size_t n))
{
    for (size_t i = 0; i < n; i++) {
        char text[512];
        cr_assert_eq(strlen(rows[i].in), strlen(rows[i].out), "row %zu: lengths stay", i);
        strcpy(text, rows[i].in);
        mask(text, strlen(text));
        cr_expect_str_eq(text, rows[i].out, "row %zu", i);
        /* Wherever it is cut off, no byte of a secret is shown, and nothing beyond is touched. */
        for (size_t cut = 0; cut < strlen(rows[i].in); cut++) {
            strcpy(text, rows[i].in);
            mask(text, cut);
            cr_expect_str_eq(text + cut, rows[i].in + cut);
            for (size_t k = 0; k < cut; k++)
                cr_expect(text[k] == '*' || rows[i].out[k] != '*', "row %zu, cut at %zu: %.*s", i,
                    cut, (int)cut, text);
        }
    }
}

Test(mask, names)
{
    static const char *const secret[] = {"password", "userPassword", "Authorization",
        "Proxy-Authorization", "Cookie", "set-cookie", "X-API-Key", "access_token", "TOKEN",
        "client_secret", "passwd", "sessionId"};
    static const char *const plain[] = {"", "user", "id", "Host", "pass", "tok en", "Accept"};
    for (size_t i = 0; i < ARRAY_LEN(secret); i++)
        cr_expect(mask_is_secret((struct span){secret[i], strlen(secret[i])}), "%s", secret[i]);
    for (size_t i = 0; i < ARRAY_LEN(plain); i++)
        cr_expect(!mask_is_secret((struct span){plain[i], strlen(plain[i])}), "%s", plain[i]);
}

Test(mask, json)
{
    static const struct row rows[] = {
        {"{\"user\":\"ann\",\"password\":\"x\"}", "{\"user\":\"ann\",\"password\":\"*\"}"},
        {"{\"token\" : 123, \"a\":1}", "{\"token\" : ***, \"a\":1}"},
        {"{\"token\":null}", "{\"token\":****}"},
        {"{\"secret\":{\"a\":[1,\"}\"]},\"b\":2}", "{\"secret\":*************,\"b\":2}"},
        {"{\"secret\":[\"]\",{}],\"b\":2}", "{\"secret\":********,\"b\":2}"},
        {"{\"a\":{\"Authorization\":\"Bearer x\"}}", "{\"a\":{\"Authorization\":\"********\"}}"},
        {"{\"password\":\"a\\\"b\\\\\",\"c\":\"d\"}", "{\"password\":\"******\",\"c\":\"d\"}"},
        {"{\"pass\\u0077ord\":\"x\",\"y\":1}", "{\"pass\\u0077ord\":\"*\",\"y\":1}"},
        {"[\"password\",\"x\"]", "[\"password\",\"x\"]"},
        {"{\"a\":\"password\",\"b\":\"x\"}", "{\"a\":\"password\",\"b\":\"x\"}"},
        {"{\"token\":}", "{\"token\":*"},
        {"", ""},
    };
    check(rows, ARRAY_LEN(rows), mask_json);
}

Test(mask, http)
{
    static const struct row rows[] = {
        {"GET /a?b=c HTTP/1.1\r\nHost: h\r\n\r\n", "GET /a?b=c HTTP/1.1\r\nHost: h\r\n\r\n"},
        {"GET /a?x=1&access_token=abc&y=2 HTTP/1.1\r\n",
            "GET /a?x=1&access_token=***&y=2 HTTP/1.1\r\n"},
        {"GET /a?%74oken=abc HTTP/1.1\r\n", "GET /a?%74oken=*** HTTP/1.1\r\n"},
        {"GET / HTTP/1.1\r\nCookie: a=b\r\nX: y\r\n", "GET / HTTP/1.1\r\nCookie:****\r\nX: y\r\n"},
        {"GET / HTTP/1.1\r\nauthorization:Basic QQ==\r\n\r\n",
            "GET / HTTP/1.1\r\nauthorization:**********\r\n\r\n"},
        {"GET / HTTP/1.1\nCookie: a\n b\n c\nX: y\n", "GET / HTTP/1.1\nCookie:**\n**\n**\nX: y\n"},
        {"GET / HTTP/1.1\r\nCookie a=b\r\nX: y\r\n", "GET / HTTP/1.1\r\nCookie ***\r\nX: y\r\n"},
        {"GET / HTTP/1.1\r\nX-Fwd: bearer abc\r\n", "GET / HTTP/1.1\r\nX-Fwd: bearer ***\r\n"},
        {"POST / HTTP/1.1\r\n\r\n{\"password\":\"x\"}",
            "POST / HTTP/1.1\r\n\r\n{\"password\":\"*\"}"},
        {"\r\nGET /?token=a HTTP/1.1\r\n", "\r\nGET /?token=* HTTP/1.1\r\n"},
        {"\x16\x03\x01", "\x16\x03\x01"},
    };
    check(rows, ARRAY_LEN(rows), mask_http);
}
