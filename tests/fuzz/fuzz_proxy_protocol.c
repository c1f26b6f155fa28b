/*
 * The input is what a connection begins with. However it is cut, the header is the same; what is
 * made of it is compared with a second opinion, of version 1 by sscanf().
 */

#include <arpa/inet.h>
#include <string.h>

#include "frontd/codec/proxy_protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SIZE_MAX_TRIED = PROXY_HEADER_MAX + 64 };

/* In a block of that size, so that ASan sees a read past it. */
static enum proxy_result parse(const uint8_t *data, size_t n, struct proxy_header *ret_header)
{
    char *copy = malloc(n + (n == 0));
    CHECK(copy != NULL);
    memcpy(copy, data, n);
    enum proxy_result result = proxy_protocol_parse(copy, n, ret_header);
    free(copy);
    return result;
}

static void expect_peer(const struct peer *peer, int family, const void *address, unsigned port)
{
    static const char mapped[12] = {[10] = (char)0xff, [11] = (char)0xff};
    const char *bytes = address;
    if (family == AF_INET6 && memcmp(bytes, mapped, sizeof(mapped)) == 0) {
        family = AF_INET;
        bytes += sizeof(mapped);
    }
    CHECK(peer->family == family && peer->port == port);
    CHECK(memcmp(peer->bytes, bytes, family == AF_INET ? 4 : 16) == 0);
}

/* A line that was taken. */
static void check_line(const uint8_t *data, const struct proxy_header *header)
{
    char line[PROXY_LINE_MAX + 1], protocol[8], from[64], to[64], end[4];
    unsigned port, our_port;
    unsigned char address[16], ours[16];
    CHECK(header->used <= PROXY_LINE_MAX);
    memcpy(line, data, header->used);
    line[header->used] = '\0';
    CHECK(memchr(line, '\r', header->used) == line + header->used - 2);
    CHECK(line[header->used - 1] == '\n');
    if (strncmp(line, "PROXY UNKNOWN", 13) == 0) {
        CHECK(header->client.family == 0);
        return;
    }
    CHECK(sscanf(line, "PROXY %7s %63s %63s %5u %5u%3[\r\n]", protocol, from, to, &port, &our_port,
              end) == 6);
    int family = strcmp(protocol, "TCP4") == 0 ? AF_INET : AF_INET6;
    CHECK(family == AF_INET || strcmp(protocol, "TCP6") == 0);
    CHECK(inet_pton(family, from, address) == 1 && inet_pton(family, to, ours) == 1);
    CHECK(port <= 65535 && our_port <= 65535);
    expect_peer(&header->client, family, address, port);
}

/* A binary header that was taken. */
static void check_binary(const uint8_t *data, const struct proxy_header *header)
{
    CHECK(header->used == 16 + (size_t)data[14] * 256 + data[15]);
    bool tcp4 = data[12] == 0x21 && data[13] == 0x11, tcp6 = data[12] == 0x21 && data[13] == 0x21;
    const uint8_t *port = data + (tcp4 ? 24 : 48);
    if (!tcp4 && !tcp6) {
        CHECK(header->client.family == 0);
        return;
    }
    CHECK(header->used >= (tcp4 ? 28U : 52U));
    expect_peer(
        &header->client, tcp4 ? AF_INET : AF_INET6, data + 16, (unsigned)port[0] * 256 + port[1]);
}

static void check_same(const struct proxy_header *one, const struct proxy_header *other)
{
    CHECK(one->used == other->used && one->client.family == other->client.family &&
          one->client.port == other->client.port &&
          memcmp(one->client.bytes, other->client.bytes, 16) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proxy_header header = {.used = 0}, again;
    size = MIN(size, (size_t)SIZE_MAX_TRIED);
    enum proxy_result result = parse(data, size, &header);
    if (result == PROXY_HEADER) {
        CHECK(header.used > 0 && header.used <= size && header.used <= PROXY_HEADER_MAX);
        if (data[0] == 'P')
            check_line(data, &header);
        else
            check_binary(data, &header);
        CHECK(parse(data, header.used, &again) == PROXY_HEADER);
        check_same(&header, &again);
    }
    /* Until it is known, more is wanted; then it is known for good. */
    bool known = false;
    size_t step = size > 512 ? size / 64 : 1;
    for (size_t n = 0; n <= size; n += step) {
        enum proxy_result part = parse(data, n, &again);
        CHECK(part == PROXY_MORE ? !known : part == result);
        CHECK(part != PROXY_HEADER || n >= header.used);
        CHECK(part != PROXY_MORE || n < PROXY_HEADER_MAX);
        known = part != PROXY_MORE;
    }
    return 0;
}
