#include "common/peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

struct peer peer_of_bytes(const void *bytes, size_t n, uint16_t port)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    struct peer peer = {.port = port, .family = n == 4 ? AF_INET : AF_INET6};
    CHECK(n == 4 || n == 16);
    if (n == 16 && memcmp(bytes, mapped, sizeof(mapped)) == 0) {
        peer.family = AF_INET;
        memcpy(peer.bytes, (const uint8_t *)bytes + sizeof(mapped), 4);
    } else {
        memcpy(peer.bytes, bytes, n);
    }
    return peer;
}

struct peer peer_of_address(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)address;
        return peer_of_bytes(&in->sin_addr, 4, ntohs(in->sin_port));
    }
    if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)address;
        return peer_of_bytes(&in6->sin6_addr, 16, ntohs(in6->sin6_port));
    }
    return (struct peer){.family = AF_UNIX};
}

void peer_mask(uint8_t bytes[static 16], unsigned bits)
{
    for (unsigned i = 0; i < 16; i++) {
        unsigned kept = bits > i * 8 ? MIN(bits - i * 8, 8U) : 0;
        bytes[i] &= (uint8_t)(0xff00 >> kept);
    }
}

void peer_sockaddr(const struct peer *peer, struct sockaddr_storage *ret_address)
{
    memset(ret_address, 0, sizeof(*ret_address));
    ret_address->ss_family = peer->family;
    if (peer->family == AF_INET)
        memcpy(&((struct sockaddr_in *)ret_address)->sin_addr, peer->bytes, 4);
    else if (peer->family == AF_INET6)
        memcpy(&((struct sockaddr_in6 *)ret_address)->sin6_addr, peer->bytes, 16);
}

bool peer_parse(struct span text, struct peer *ret_peer)
{
    char copy[INET6_ADDRSTRLEN];
    uint8_t bytes[16];
    if (text.n >= sizeof(copy) || memchr(text.p, '\0', text.n) != NULL)
        return false;
    memcpy(copy, text.p, text.n);
    copy[text.n] = '\0';
    if (inet_pton(AF_INET, copy, bytes) == 1)
        *ret_peer = peer_of_bytes(bytes, 4, 0);
    else if (inet_pton(AF_INET6, copy, bytes) == 1)
        *ret_peer = peer_of_bytes(bytes, 16, 0);
    else
        return false;
    return true;
}

void peer_text(const struct peer *peer, char out[static PEER_TEXT_SIZE])
{
    char address[INET6_ADDRSTRLEN];
    if (peer->family != AF_INET && peer->family != AF_INET6) {
        snprintf(out, PEER_TEXT_SIZE, "unix:");
        return;
    }
    inet_ntop(peer->family, peer->bytes, address, sizeof(address));
    snprintf(
        out, PEER_TEXT_SIZE, peer->family == AF_INET6 ? "[%s]:%u" : "%s:%u", address, peer->port);
}

/* Reads 0 to `most`, without leading zeros. */
static bool parse_bits(const char *text, unsigned most, uint8_t *ret_bits)
{
    unsigned bits = 0;
    size_t n = strlen(text);
    if (n == 0 || n > 3 || strspn(text, "0123456789") != n || (text[0] == '0' && n > 1))
        return false;
    for (size_t i = 0; i < n; i++)
        bits = bits * 10 + (unsigned)(text[i] - '0');
    *ret_bits = (uint8_t)bits;
    return bits <= most;
}

/* Whether the first `bits` bits are the same. */
static bool same_bits(const uint8_t *one, const uint8_t *other, unsigned bits)
{
    unsigned whole = bits / 8;
    unsigned rest = bits % 8;
    return memcmp(one, other, whole) == 0 &&
           (rest == 0 || ((one[whole] ^ other[whole]) >> (8 - rest)) == 0);
}

const char *peer_network_parse(const char *text, struct peer_network *ret_network)
{
    struct peer peer;
    size_t n = strcspn(text, "/");
    if (strcmp(text, "unix") == 0) {
        *ret_network = (struct peer_network){.family = AF_UNIX};
        return NULL;
    }
    if (!peer_parse((struct span){text, n}, &peer))
        return "not an address or network such as 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32; or unix";
    unsigned most = peer.family == AF_INET ? 32 : 128;
    struct peer_network network = {.family = peer.family, .bits = (uint8_t)most};
    memcpy(network.bytes, peer.bytes, sizeof(network.bytes));
    if (peer.family == AF_INET && memchr(text, ':', n) != NULL)
        return "an IPv4 address is written as one: 192.0.2.7";
    if (text[n] == '/' && !parse_bits(text + n + 1, most, &network.bits))
        return most == 32 ? "the prefix is a number from 0 to 32"
                          : "the prefix is a number from 0 to 128";
    for (unsigned bit = network.bits; bit < most; bit++) {
        if (network.bytes[bit / 8] >> (7 - bit % 8) & 1)
            return "bits are set behind the prefix";
    }
    *ret_network = network;
    return NULL;
}

bool peer_is_in(const struct peer *peer, const struct peer_network *networks, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (networks[i].family == peer->family &&
            same_bits(peer->bytes, networks[i].bytes, networks[i].bits))
            return true;
    }
    return false;
}
