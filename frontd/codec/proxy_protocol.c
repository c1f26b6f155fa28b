#include "frontd/codec/proxy_protocol.h"

#include <string.h>

/* Section 2.2. It is no beginning of a request of HTTP, nor of a line of version 1. */
static const char signature[12] = {
    '\r', '\n', '\r', '\n', '\0', '\r', '\n', 'Q', 'U', 'I', 'T', '\n'};

enum {
    FIXED = 16, /* bytes of a header of version 2 before the addresses */
    VERSION_LOCAL = 0x20,
    VERSION_PROXY = 0x21,
    TLV_HEAD = 3, /* type, and length in two bytes */
    TLV_CRC32C = 3,
    CRC_SIZE = 4,
};

/* Whether the bytes may still become ones that begin with `text`. */
static bool may_begin(const char *p, size_t n, const char *text, size_t len)
{
    return memcmp(p, text, MIN(n, len)) == 0;
}

/* Version 1 */

/* Cuts the text up to the next space off. An empty one is none. */
static bool take_word(struct span *line, struct span *ret_word)
{
    const char *space = memchr(line->p, ' ', line->n);
    size_t n = space == NULL ? line->n : (size_t)(space - line->p);
    *ret_word = (struct span){line->p, n};
    n += space != NULL;
    *line = (struct span){line->p + n, line->n - n};
    return ret_word->n > 0;
}

/* 0 to 65535, without leading zeros. */
static bool read_port(struct span text, uint16_t *ret_port)
{
    uint32_t port = 0;
    if (text.n == 0 || text.n > 5 || (text.n > 1 && text.p[0] == '0'))
        return false;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return false;
        port = port * 10 + (uint32_t)(text.p[i] - '0');
    }
    *ret_port = (uint16_t)port;
    return port <= UINT16_MAX;
}

static bool read_address(struct span text, bool ipv6, struct peer *ret_peer)
{
    return (memchr(text.p, ':', text.n) != NULL) == ipv6 && peer_parse(text, ret_peer);
}

/* "TCP4 192.0.2.7 192.0.2.1 51412 443": the client's address, ours, the client's port, ours. */
static bool read_line(struct span line, struct peer *ret_client)
{
    struct span protocol, from, to, from_port, to_port;
    struct peer client, server;
    uint16_t port;
    if (!take_word(&line, &protocol))
        return false;
    if (protocol.n == 7 && memcmp(protocol.p, "UNKNOWN", 7) == 0) {
        *ret_client = (struct peer){0}; /* what follows is to be ignored */
        return true;
    }
    bool ipv4 = protocol.n == 4 && memcmp(protocol.p, "TCP4", 4) == 0;
    bool ipv6 = protocol.n == 4 && memcmp(protocol.p, "TCP6", 4) == 0;
    if ((!ipv4 && !ipv6) || !take_word(&line, &from) || !take_word(&line, &to) ||
        !take_word(&line, &from_port))
        return false;
    to_port = line;
    if (!read_address(from, ipv6, &client) || !read_address(to, ipv6, &server) ||
        !read_port(from_port, &client.port) || !read_port(to_port, &port))
        return false;
    *ret_client = client;
    return true;
}

static enum proxy_result parse_v1(const char *p, size_t n, struct proxy_header *ret_header)
{
    enum { PREFIX = 6 /* "PROXY " */ };
    const char *cr = memchr(p, '\r', MIN(n, (size_t)PROXY_LINE_MAX));
    size_t len = cr == NULL ? n : (size_t)(cr - p);
    if (len + 2 > PROXY_LINE_MAX || (cr == NULL && n + 2 > PROXY_LINE_MAX))
        return PROXY_WRONG;
    if (cr == NULL || len + 1 == n)
        return PROXY_MORE;
    struct peer client;
    if (cr[1] != '\n' || len < PREFIX ||
        !read_line((struct span){p + PREFIX, len - PREFIX}, &client))
        return PROXY_WRONG;
    *ret_header = (struct proxy_header){.used = len + 2, .client = client};
    return PROXY_HEADER;
}

/* Version 2 */

static uint16_t get_u16(const char *p)
{
    return (uint16_t)((uint8_t)p[0] << 8 | (uint8_t)p[1]);
}

/* The checksum of RFC 4960 appendix B, four bits at a time. */
static uint32_t crc32c(uint32_t crc, const char *p, size_t n)
{
    static const uint32_t table[16] = {
        0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, /* polynomial 0x1edc6f41, reflected */
        0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d, /**/
        0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, /**/
        0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75, /**/
    };
    for (size_t i = 0; i < n; i++) {
        crc ^= (uint8_t)p[i];
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return crc;
}

/* Whether the checksum at `at` is that of the header with zeros in its place. */
static bool has_checksum(const char *p, size_t n, size_t at)
{
    static const char zeros[CRC_SIZE];
    uint32_t crc = crc32c(UINT32_MAX, p, at);
    crc = crc32c(crc, zeros, CRC_SIZE);
    crc = ~crc32c(crc, p + at + CRC_SIZE, n - at - CRC_SIZE);
    return crc == ((uint32_t)get_u16(p + at) << 16 | get_u16(p + at + 2));
}

/* Whether the extensions, from `at` to the header's end, fill their place exactly. */
static bool check_extensions(const char *p, size_t n, size_t at)
{
    while (at < n) {
        if (n - at < TLV_HEAD)
            return false;
        size_t len = get_u16(p + at + 1);
        bool checksum = p[at] == TLV_CRC32C;
        at += TLV_HEAD;
        if (len > n - at || (checksum && (len != CRC_SIZE || !has_checksum(p, n, at))))
            return false;
        at += len;
    }
    return true;
}

/* What stands in the byte of family and transport: section 2.2. */
struct family {
    uint8_t code;
    uint8_t address; /* bytes of one address */
    uint8_t all;     /* bytes of all addresses and ports */
    bool taken;      /* it is the client's */
};

static const struct family *find_family(uint8_t code)
{
    static const struct family families[] = {
        {0x00, 0, 0, false},     /* unspecified */
        {0x11, 4, 12, true},     /* TCP over IPv4 */
        {0x12, 4, 12, false},    /* UDP over IPv4 */
        {0x21, 16, 36, true},    /* TCP over IPv6 */
        {0x22, 16, 36, false},   /* UDP over IPv6 */
        {0x31, 108, 216, false}, /* UNIX stream */
        {0x32, 108, 216, false}, /* UNIX datagram */
    };
    for (size_t i = 0; i < ARRAY_LEN(families); i++) {
        if (families[i].code == code)
            return &families[i];
    }
    return NULL;
}

static enum proxy_result parse_v2(const char *p, size_t n, struct proxy_header *ret_header)
{
    uint8_t version = n > 12 ? (uint8_t)p[12] : VERSION_PROXY;
    if (version != VERSION_LOCAL && version != VERSION_PROXY)
        return PROXY_WRONG;
    if (n < FIXED)
        return PROXY_MORE;
    size_t len = FIXED + (size_t)get_u16(p + 14);
    const struct family *family = find_family((uint8_t)p[13]);
    bool local = version == VERSION_LOCAL; /* whatever the family is, and what follows */
    if (len > PROXY_HEADER_MAX || (!local && (family == NULL || len < FIXED + (size_t)family->all)))
        return PROXY_WRONG;
    if (n < len)
        return PROXY_MORE;
    struct proxy_header header = {.used = len};
    if (!local && family->all > 0 && !check_extensions(p, len, FIXED + (size_t)family->all))
        return PROXY_WRONG;
    if (!local && family->taken)
        header.client = peer_of_bytes(
            p + FIXED, family->address, get_u16(p + FIXED + 2 * (size_t)family->address));
    *ret_header = header;
    return PROXY_HEADER;
}

enum proxy_result proxy_protocol_parse(const char *p, size_t n, struct proxy_header *ret_header)
{
    if (may_begin(p, n, "PROXY ", 6))
        return n < 6 ? PROXY_MORE : parse_v1(p, n, ret_header);
    if (may_begin(p, n, signature, sizeof(signature)))
        return n < sizeof(signature) ? PROXY_MORE : parse_v2(p, n, ret_header);
    return PROXY_WRONG;
}
