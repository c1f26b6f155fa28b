#include <criterion/criterion.h>
#include <string.h>

#include "frontd/codec/proxy_protocol.h"

#define V2      "\r\n\r\n\0\r\nQUIT\n"
#define ADDR4   "\xc0\x00\x02\x07\xc0\x00\x02\x01\xc8\xd4\x01\xbb" /* 192.0.2.7:51412 → :443 */
#define FROM6   "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07"
#define TO6     "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"
#define ADDR6   FROM6 TO6 "\xc8\xd4\x01\xbb"
#define MAPPED6 "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\x00\x02\x07"
#define X27     "xxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X108    X27 X27 X27 X27
/* CRC-32C of the two headers below, made by a program of a few lines that shifts bit by bit */
#define CRC_ALONE    "\x63\x80\xfd\xcc"
#define CRC_FOLLOWED "\xce\x05\xfb\x41"

struct row {
    struct span bytes;
    size_t used;      /* 0: it is wrong */
    const char *peer; /* NULL: the connection's own */
};

#define ROW(text, peer)                                                                            \
    {                                                                                              \
        {text, sizeof(text) - 1}, sizeof(text) - 1, peer                                           \
    }
#define FOLLOWED(text, n, peer)                                                                    \
    {                                                                                              \
        {text, sizeof(text) - 1}, n, peer                                                          \
    }
#define WRONG(text)                                                                                \
    {                                                                                              \
        {text, sizeof(text) - 1}, 0, NULL                                                          \
    }

static const struct row rows[] = {
    /* version 1 */
    ROW("PROXY TCP4 192.0.2.7 192.0.2.1 51412 443\r\n", "192.0.2.7:51412"),
    ROW("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255:65535"),
    ROW("PROXY TCP4 192.0.2.7 192.0.2.1 0 0\r\n", "192.0.2.7:0"),
    ROW("PROXY TCP6 2001:db8::7 2001:db8::1 51412 443\r\n", "[2001:db8::7]:51412"),
    ROW("PROXY TCP6 ::ffff:192.0.2.7 ::1 51412 443\r\n", "192.0.2.7:51412"),
    ROW("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
        "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
    ROW("PROXY UNKNOWN\r\n", NULL),
    /* the longest line, of 107 bytes: section 2.1 */
    ROW("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
        NULL),
    WRONG("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
          "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535x\r\n"),
    FOLLOWED(
        "PROXY TCP4 192.0.2.7 192.0.2.1 51412 443\r\nGET / HTTP/1.1\r\n", 42, "192.0.2.7:51412"),
    FOLLOWED("PROXY UNKNOWN\r\nPROXY UNKNOWN\r\n", 15, NULL),
    WRONG("PROXY TCP4 192.0.2.7 192.0.2.1 51412 443\n\r\n"),
    WRONG("PROXY TCP4 192.0.2.7 192.0.2.1 51412 443\rX"),
    WRONG("PROXY TCP4 192.0.2.7 192.0.2.1 51412 443 \r\n"),
    WRONG("PROXY TCP4 192.0.2.7 192.0.2.1 51412 443 1\r\n"),
    WRONG("PROXY TCP4 192.0.2.7 192.0.2.1 51412\r\n"),
    WRONG("PROXY TCP4 192.0.2.7 192.0.2.1 51412 \r\n"),
    WRONG("PROXY TCP4 192.0.2.7  192.0.2.1 51412 443\r\n"),
    WRONG("PROXY  TCP4 192.0.2.7 192.0.2.1 51412 443\r\n"),
    WRONG("PROXY TCP4 192.0.2.7 192.0.2.1 65536 443\r\n"),
    WRONG("PROXY TCP4 192.0.2.7 192.0.2.1 51412 65536\r\n"),
    WRONG("PROXY TCP4 192.0.2.7 192.0.2.1 051412 443\r\n"),
    WRONG("PROXY TCP4 192.0.2.7 192.0.2.1 +1 443\r\n"),
    WRONG("PROXY TCP4 192.0.2.7 192.0.2.1 1 4.3\r\n"),
    WRONG("PROXY TCP4 192.0.2.256 192.0.2.1 51412 443\r\n"),
    WRONG("PROXY TCP4 192.0.2.7 192.0.2 51412 443\r\n"),
    WRONG("PROXY TCP4 2001:db8::7 2001:db8::1 51412 443\r\n"),
    WRONG("PROXY TCP6 192.0.2.7 192.0.2.1 51412 443\r\n"),
    WRONG("PROXY TCP6 [2001:db8::7] ::1 51412 443\r\n"),
    WRONG("PROXY TCP6 fe80::1%eth0 ::1 51412 443\r\n"),
    WRONG("PROXY UDP4 192.0.2.7 192.0.2.1 51412 443\r\n"),
    WRONG("PROXY tcp4 192.0.2.7 192.0.2.1 51412 443\r\n"),
    WRONG("PROXY UNKNOWNX\r\n"),
    WRONG("PROXY \r\n"),
    WRONG("PROXY\r\n"),
    WRONG("proxy UNKNOWN\r\n"),
    WRONG("POST / HTTP/1.1\r\n"),
    WRONG("GET / HTTP/1.1\r\n"),
    WRONG("\x16\x03\x01"),
    /* version 2 */
    ROW(V2 "\x21\x11\x00\x0c" ADDR4, "192.0.2.7:51412"),
    ROW(V2 "\x21\x21\x00\x24" ADDR6, "[2001:db8::7]:51412"),
    ROW(V2 "\x21\x21\x00\x24" MAPPED6 TO6 "\xc8\xd4\x01\xbb", "192.0.2.7:51412"),
    ROW(V2 "\x21\x31\x00\xd8" X108 X108, NULL),
    ROW(V2 "\x21\x32\x00\xd8" X108 X108, NULL),
    ROW(V2 "\x21\x12\x00\x0c" ADDR4, NULL),
    ROW(V2 "\x21\x22\x00\x24" ADDR6, NULL),
    ROW(V2 "\x21\x00\x00\x00", NULL),
    ROW(V2 "\x21\x00\x00\x02xx", NULL),
    ROW(V2 "\x20\x00\x00\x00", NULL),
    ROW(V2 "\x20\x11\x00\x0c" ADDR4, NULL),
    ROW(V2 "\x20\xff\x00\x01x", NULL), /* of LOCAL nothing but the length is looked at */
    FOLLOWED(V2 "\x20\x00\x00\x00GET / HTTP/1.1\r\n", 16, NULL),
    FOLLOWED(V2 "\x21\x11\x00\x0c" ADDR4 "GET / HTTP/1.1\r\n", 28, "192.0.2.7:51412"),
    WRONG(V2 "\x11\x11\x00\x0c" ADDR4),
    WRONG(V2 "\x22\x11\x00\x0c" ADDR4),
    WRONG(V2 "\x01\x11\x00\x0c" ADDR4),
    WRONG(V2 "\x21\x01\x00\x0c" ADDR4),
    WRONG(V2 "\x21\x10\x00\x0c" ADDR4),
    WRONG(V2 "\x21\x13\x00\x0c" ADDR4),
    WRONG(V2 "\x21\x41\x00\x0c" ADDR4),
    WRONG(V2 "\x21\x11\x00\x0b" ADDR4),
    WRONG(V2 "\x21\x21\x00\x0c" ADDR4),
    WRONG(V2 "\x21\x21\x00\x23" ADDR6),
    WRONG(V2 "\x21\x31\x00\xd7" X108 X108),
    WRONG("\r\n\r\n\0\r\nQUIT\r"),
    WRONG("\r\n\r\nGET / HTTP/1.1\r\n"),
    /* extensions */
    ROW(V2 "\x21\x11\x00\x0f" ADDR4 "\x04\x00\x00", "192.0.2.7:51412"),
    ROW(V2 "\x21\x11\x00\x18" ADDR4 "\x02\x00\x01h\xea\x00\x05\x01vpce", "192.0.2.7:51412"),
    WRONG(V2 "\x21\x11\x00\x0d" ADDR4 "\x04"),
    WRONG(V2 "\x21\x11\x00\x0e" ADDR4 "\x04\x00"),
    WRONG(V2 "\x21\x11\x00\x0f" ADDR4 "\x04\x00\x01"),
    WRONG(V2 "\x21\x11\x00\x10" ADDR4 "\x04\x00\x02x"),
    ROW(V2 "\x21\x11\x00\x13" ADDR4 "\x03\x00\x04" CRC_ALONE, "192.0.2.7:51412"),
    ROW(V2 "\x21\x11\x00\x17" ADDR4 "\x03\x00\x04" CRC_FOLLOWED "\x02\x00\x01h", "192.0.2.7:51412"),
    WRONG(V2 "\x21\x11\x00\x13" ADDR4 "\x03\x00\x04" CRC_FOLLOWED),
    WRONG(V2 "\x21\x11\x00\x13" ADDR4 "\x03\x00\x04\0\0\0\0"),
    WRONG(V2 "\x21\x11\x00\x12" ADDR4 "\x03\x00\x03\0\0\0"),
};

/* What is parsed stands at the end of a block, so that a sanitizer sees what is read behind it. */
static enum proxy_result parse(struct span bytes, size_t n, struct proxy_header *ret_header)
{
    char *copy = malloc(n + (n == 0));
    cr_assert_not_null(copy);
    memcpy(copy, bytes.p, n);
    enum proxy_result result = proxy_protocol_parse(copy, n, ret_header);
    free(copy);
    return result;
}

Test(proxy_protocol, headers)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct row *row = &rows[i];
        struct proxy_header header = {.used = 7777};
        char text[PEER_TEXT_SIZE];
        enum proxy_result result = parse(row->bytes, row->bytes.n, &header);
        cr_expect_eq(result, row->used > 0 ? PROXY_HEADER : PROXY_WRONG, "row %zu", i);
        cr_expect_eq(header.used, result == PROXY_HEADER ? row->used : 7777, "row %zu", i);
        if (result != PROXY_HEADER)
            continue;
        cr_expect_eq(header.client.family != 0, row->peer != NULL, "row %zu", i);
        peer_text(&header.client, text);
        cr_expect(row->peer == NULL || strcmp(text, row->peer) == 0, "row %zu: %s", i, text);
    }
}

/* However many of the bytes are there: more are wanted, or the result is that of all of them. */
Test(proxy_protocol, every_split)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct row *row = &rows[i];
        bool known = false;
        for (size_t n = 0; n <= row->bytes.n; n++) {
            struct proxy_header header;
            enum proxy_result result = parse(row->bytes, n, &header);
            if (result == PROXY_MORE) {
                cr_expect_not(known, "row %zu: it was known before byte %zu", i, n);
                continue;
            }
            known = true;
            cr_expect_eq(result, row->used > 0 ? PROXY_HEADER : PROXY_WRONG, "row %zu, %zu", i, n);
            cr_expect(result == PROXY_WRONG || n >= row->used, "row %zu, %zu", i, n);
        }
        cr_expect(known, "row %zu", i);
    }
}

/* A line that does not end is refused where it can be none any more, not when it ends. */
Test(proxy_protocol, a_line_without_end)
{
    struct proxy_header header;
    char line[PROXY_LINE_MAX];
    memset(line, 'x', sizeof(line));
    memcpy(line, "PROXY UNKNOWN ", 14);
    cr_expect_eq(proxy_protocol_parse(line, 105, &header), PROXY_MORE);
    cr_expect_eq(proxy_protocol_parse(line, 106, &header), PROXY_WRONG);
}

Test(proxy_protocol, the_largest_header)
{
    struct proxy_header header;
    static char bytes[PROXY_HEADER_MAX + 1];
    memcpy(bytes, V2 "\x21\x11\x0f\xf0" ADDR4 "\xe0\x0f\xe1", 31);
    cr_expect_eq(proxy_protocol_parse(bytes, PROXY_HEADER_MAX - 1, &header), PROXY_MORE);
    cr_expect_eq(proxy_protocol_parse(bytes, PROXY_HEADER_MAX, &header), PROXY_HEADER);
    cr_expect_eq(header.used, (size_t)PROXY_HEADER_MAX);
    memcpy(bytes, V2 "\x21\x11\x0f\xf1" ADDR4 "\xe0\x0f\xe2", 31);
    cr_expect_eq(proxy_protocol_parse(bytes, 16, &header), PROXY_WRONG, "not when all is there");
    memcpy(bytes, V2 "\x20\x00\x0f\xf0", 16);
    cr_expect_eq(proxy_protocol_parse(bytes, PROXY_HEADER_MAX, &header), PROXY_HEADER);
    memcpy(bytes, V2 "\x20\x00\x0f\xf1", 16);
    cr_expect_eq(proxy_protocol_parse(bytes, PROXY_HEADER_MAX + 1, &header), PROXY_WRONG);
}
