#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <string.h>

#include "frontd/config/value.h"

static const uint64_t untouched = 4711;

Test(conf_value, durations)
{
    static const struct {
        const char *text;
        uint64_t ms; /* `untouched`: refused */
    } cases[] = {
        {"0ms", 0},
        {"1ms", 1},
        {"500ms", 500},
        {"30s", 30000},
        {"5m", 300000},
        {"1h", 3600000},
        {"007s", 7000},
        /* A year has at most 366 days. */
        {"8784h", UINT64_C(31622400000)},
        {"8785h", untouched},
        {"527040m", UINT64_C(31622400000)},
        {"527041m", untouched},
        {"31622400s", UINT64_C(31622400000)},
        {"31622401s", untouched},
        {"31622400000ms", UINT64_C(31622400000)},
        {"31622400001ms", untouched},
        {"18446744073709551615ms", untouched},
        {"18446744073709551616ms", untouched},
        {"5124095576030432h", untouched},
        {"99999999999999999999h", untouched},
        {"", untouched},
        {"s", untouched},
        {"0", untouched},
        {"30", untouched},
        {"1.5s", untouched},
        {"-1s", untouched},
        {"+1s", untouched},
        {" 1s", untouched},
        {"1 s", untouched},
        {"1s ", untouched},
        {"1S", untouched},
        {"1h30m", untouched},
        {"1d", untouched},
        {"0x1s", untouched},
        {"1e3s", untouched},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint64_t ms = untouched;
        const char *wrong = conf_value_duration(cases[i].text, &ms);
        cr_expect_eq(ms, cases[i].ms, "'%s' is %llu", cases[i].text, (unsigned long long)ms);
        cr_expect_eq(wrong != NULL, cases[i].ms == untouched, "'%s'", cases[i].text);
    }
}

Test(conf_value, sizes)
{
    static const struct {
        const char *text;
        uint32_t bytes;
    } cases[] = {
        {"0", 0},
        {"1", 1},
        {"1B", 1},
        {"1KiB", 1024},
        {"64KiB", 65536},
        {"1MiB", 1 << 20},
        {"1GiB", 1 << 30},
        {"2GiB", untouched},
        {"1024MiB", 1 << 30},
        {"1025MiB", untouched},
        {"1048576KiB", 1 << 30},
        {"1048577KiB", untouched},
        {"1073741824", 1 << 30},
        {"1073741825", untouched},
        {"4294967296", untouched},
        {"4294967297", untouched},
        {"18446744073709551616", untouched},
        {"17179869185GiB", untouched},
        {"", untouched},
        {"KiB", untouched},
        {"1KB", untouched},
        {"1kib", untouched},
        {"1K", untouched},
        {"1 KiB", untouched},
        {"-1", untouched},
        {"1.5MiB", untouched},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint32_t bytes = untouched;
        const char *wrong = conf_value_size(cases[i].text, &bytes);
        cr_expect_eq(bytes, cases[i].bytes, "'%s' is %u", cases[i].text, bytes);
        cr_expect_eq(wrong != NULL, cases[i].bytes == untouched, "'%s'", cases[i].text);
    }
}

Test(conf_value, numbers)
{
    static const struct {
        const char *text;
        uint64_t number;
    } cases[] = {
        {"9", untouched},
        {"10", 10},
        {"11", 11},
        {"99", 99},
        {"100", 100},
        {"101", untouched},
        {"18446744073709551626", untouched}, /* 10, if it wrapped */
        {"", untouched},
        {"ten", untouched},
        {"50%", untouched},
        {"-50", untouched},
        {" 50", untouched},
        {"50 ", untouched},
        {"0x20", untouched},
        {"5e1", untouched},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint64_t number = untouched;
        const char *wrong = conf_value_number(cases[i].text, 10, 100, &number);
        cr_expect_eq(number, cases[i].number, "'%s'", cases[i].text);
        cr_expect_eq(wrong != NULL, cases[i].number == untouched, "'%s'", cases[i].text);
        if (wrong != NULL)
            cr_expect_not_null(strstr(wrong, "10 to 100"));
    }
}

Test(conf_value, addresses_of_ip)
{
    static const struct {
        const char *text;
        const char *address; /* NULL: refused */
        uint16_t port;
    } cases[] = {
        {"127.0.0.1:8080", "127.0.0.1", 8080},
        {"0.0.0.0:1", "0.0.0.0", 1},
        {"0.0.0.0:65535", "0.0.0.0", 65535},
        {"0.0.0.0:65536", NULL, 0},
        {"0.0.0.0:0", NULL, 0},
        {"[::1]:8080", "::1", 8080},
        {"[::]:8080", "::", 8080},
        {"::1:8080", NULL, 0},
        {"[::1]", NULL, 0},
        {"[]:80", NULL, 0},
        {":8080", "0.0.0.0", 8080},
        {"*:8080", "0.0.0.0", 8080},
        {"8080", NULL, 0},
        {"", NULL, 0},
        {"127.0.0.1", NULL, 0},
        {"127.0.0.1:", NULL, 0},
        {"127.0.0.1:http", NULL, 0},
        {"127.0.0.1:-1", NULL, 0},
        {"127.0.0.1:80 ", NULL, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct conf_address address = {0};
        const char *wrong = conf_value_address(cases[i].text, &address);
        cr_expect_eq(wrong != NULL, cases[i].address == NULL, "'%s'", cases[i].text);
        if (wrong != NULL) {
            cr_expect_eq(address.len, 0, "'%s'", cases[i].text);
            continue;
        }
        char text[INET6_ADDRSTRLEN];
        bool v6 = address.sock.any.sa_family == AF_INET6;
        inet_ntop(address.sock.any.sa_family,
            v6 ? (const void *)&address.sock.in6.sin6_addr
               : (const void *)&address.sock.in.sin_addr,
            text, sizeof(text));
        cr_expect_str_eq(text, cases[i].address);
        cr_expect_eq(
            ntohs(v6 ? address.sock.in6.sin6_port : address.sock.in.sin_port), cases[i].port);
        cr_expect_eq(address.len, v6 ? sizeof(address.sock.in6) : sizeof(address.sock.in));
    }
}

Test(conf_value, addresses_of_unix)
{
    /* sun_path has 108 bytes, the last of which ends it. */
    for (size_t n = 1; n <= 300; n++) {
        char text[5 + 300 + 1] = "unix:";
        memset(text + 5, 'a', n);
        text[5] = '/';
        text[5 + n] = '\0';
        struct conf_address address = {0};
        const char *wrong = conf_value_address(text, &address);
        cr_expect_eq(wrong == NULL, n <= 107, "%zu bytes", n);
        if (wrong == NULL)
            cr_expect_str_eq(address.sock.un.sun_path, text + 5);
    }
    static const char *const bad[] = {"unix:", "unix:a", "unix:@a", "unix:./a", "UNIX:/a"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct conf_address address = {0};
        cr_expect_not_null(conf_value_address(bad[i], &address), "'%s'", bad[i]);
    }
}

Test(conf_value, origins)
{
    static const struct {
        const char *text;
        bool ok;
    } cases[] = {
        {"*", true},
        {"null", true},
        {"https://www.example", true},
        {"HTTPS://WWW.Example", true},
        {"https://www.example:8443", true},
        {"http://[::1]:8080", true},
        {"http://a:443", true},
        {"https://a:80", true},
        {"https://a:4443", true},
        {"chrome-extension://abcdef", true},
        {"https://a:65535", true},
        {"http://[::1]", true},
        {"https://a:443", false},
        {"https://a:", false},
        {"https://a:0", false},
        {"https://a:08443", false},
        {"https://a:65536", false},
        {"https://a:b", false},
        {"http://[::1]:65536", false},
        {"https://*.example", false},
        {"https://*", false},
        {"http://a:80", false},
        {"HTTP://a:80", false},
        {"", false},
        {"**", false},
        {"https://", false},
        {"https:/a", false},
        {"https:a", false},
        {"https", false},
        {"://a", false},
        {"1://a", false},
        {"www.example", false},
        {"https://a/", false},
        {"https://a/b", false},
        {"https://a?b", false},
        {"https://a#b", false},
        {"https://b@a", false},
        {"https://a,https://b", false},
        {"https://a b", false},
        {"https://a\n", false},
        {"https://\xc3\xa4.example", false}, /* browsers send it in punycode */
        {" https://a", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        cr_expect_eq(conf_value_origin(cases[i].text) == NULL, cases[i].ok, "'%s'", cases[i].text);
}

Test(conf_value, tokens)
{
    for (int c = 0; c < 256; c++) {
        static const char marks[] = "!#$%&'*+-.^_`|~";
        bool ok = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                  (c != 0 && strchr(marks, c) != NULL);
        const char text[] = {'a', (char)c, 'b', '\0'};
        cr_expect_eq(conf_value_token(text) == NULL, ok || c == 0, "byte %d", c);
        cr_expect_eq(conf_value_token(text + 1) == NULL, ok, "byte %d", c);
    }
}

Test(conf_value, realms)
{
    static const char most[] = "abcdefghijklmnopqrstuvwxyz-01_AZ"; /* 32 bytes */
    static const struct {
        const char *text;
        bool ok;
    } cases[] = {
        {"a", true},
        {"red", true},
        {"Red", true},
        {"red-1", true},
        {"red_1", true},
        {"-", true},
        {most, true},
        {"abcdefghijklmnopqrstuvwxyz-01_AZ0", false},
        {"", false},
        {"red blue", false},
        {"red.blue", false},
        {"red*", false},
        {"/red", false},
        {" red", false},
        {"red\n", false},
        {"r\xc3\xa9", false},
    };
    uint64_t ids[ARRAY_LEN(cases)];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        ids[i] = i + 1000000;
        cr_expect_eq(
            conf_value_realm(cases[i].text, &ids[i]) == NULL, cases[i].ok, "'%s'", cases[i].text);
        cr_expect_eq(ids[i] == i + 1000000, !cases[i].ok, "'%s'", cases[i].text);
        for (size_t k = 0; k < i; k++)
            cr_expect_neq(ids[i], ids[k], "'%s', '%s'", cases[i].text, cases[k].text);
    }
    /* For ever: shards of two versions of the program tell each other. */
    cr_expect_eq(ids[1], 0x84b3b1781228e661ULL);
}

/* What an address of a listener stands for, as text: "0.0.0.0 ::" */
static void list_addresses(const char *text, char *out, size_t size)
{
    struct conf_address addresses[CONF_ADDRESSES_MAX];
    size_t n = 0;
    size_t at = 0;
    const char *wrong = conf_value_addresses(text, false, addresses, &n);
    out[0] = '\0';
    if (wrong != NULL)
        snprintf(out, size, "wrong");
    for (size_t i = 0; i < n; i++) {
        char host[64];
        const struct conf_address *address = &addresses[i];
        bool four = address->sock.any.sa_family == AF_INET;
        cr_assert(four || address->sock.any.sa_family == AF_INET6);
        inet_ntop(address->sock.any.sa_family,
            four ? (const void *)&address->sock.in.sin_addr
                 : (const void *)&address->sock.in6.sin6_addr,
            host, sizeof(host));
        cr_assert_eq(ntohs(four ? address->sock.in.sin_port : address->sock.in6.sin6_port), 8080,
            "%s", text);
        at += (size_t)snprintf(out + at, size - at, "%s%s", i == 0 ? "" : " ", host);
    }
}

Test(conf_value, addresses_of_listeners)
{
    static const char *const rows[][2] = {
        {":8080", "0.0.0.0 ::"},
        {"*:8080", "0.0.0.0 ::"},
        {"0.0.0.0:8080", "0.0.0.0 ::"},
        {"0:8080", "0.0.0.0 ::"},
        {"[::]:8080", ":: 0.0.0.0"},
        {"[0:0::0]:8080", ":: 0.0.0.0"},
        {"localhost:8080", "::1 127.0.0.1"},
        {"LocalHost:8080", "::1 127.0.0.1"},
        {"localhost.:8080", "::1 127.0.0.1"},
        {"[::ffff:0.0.0.0]:8080", "0.0.0.0 ::"},
        {"[::ffff:192.0.2.1]:8080", "192.0.2.1"},
        {"127.0.0.1:8080", "127.0.0.1"},
        {"[::1]:8080", "::1"},
        {"name.example:8080", ""},
        {"[]:8080", "wrong"},
        {":::8080", "wrong"},
        {"8080", "wrong"},
        {":", "wrong"},
        {"*", "wrong"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char found[256];
        list_addresses(rows[i][0], found, sizeof(found));
        cr_expect_str_eq(found, rows[i][1], "%s", rows[i][0]);
    }
}

/* Of a worker: nothing is looked up. */
Test(conf_value, hosts)
{
    static const struct {
        const char *text;
        const char *host; /* NULL: it is wrong */
        bool name;
    } rows[] = {
        {"a.example:80", "a.example", true},
        {"localhost:80", "localhost", true},
        {"127.0.0.1:80", "127.0.0.1", false},
        {"[::1]:80", "::1", false},
        {"[name]:80", NULL, false},
        {":80", NULL, false},
        {"*:80", NULL, false},
        {"a b:80", NULL, false},
        {"a/b:80", NULL, false},
        {"a:0", NULL, false},
        {"a:65536", NULL, false},
        {"a", NULL, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char host[CONF_VALUE_HOST_SIZE];
        uint16_t port = 0;
        struct conf_address address = {.len = 1};
        const char *wrong = conf_value_host(rows[i].text, host, &port, &address);
        cr_expect_eq(wrong == NULL, rows[i].host != NULL, "%s", rows[i].text);
        if (wrong != NULL || rows[i].host == NULL)
            continue;
        cr_expect_str_eq(host, rows[i].host);
        cr_expect_eq(port, 80);
        cr_expect_eq(address.len == 0, rows[i].name, "%s", rows[i].text);
    }
    char text[CONF_VALUE_HOST_SIZE + 8];
    char host[CONF_VALUE_HOST_SIZE];
    uint16_t port;
    struct conf_address address;
    memset(text, 'a', sizeof(text));
    strcpy(text + CONF_VALUE_HOST_SIZE - 1, ":80");
    cr_expect_null(conf_value_host(text, host, &port, &address), "the longest name");
    memset(text, 'a', sizeof(text));
    strcpy(text + CONF_VALUE_HOST_SIZE, ":80");
    cr_expect_not_null(conf_value_host(text, host, &port, &address), "one byte more");
}
