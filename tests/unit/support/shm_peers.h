#pragma once

/* Addresses of clients for tests of the shared memory. */

#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>

union peer {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_un un;
};

static inline union peer make_peer(unsigned number)
{
    union peer peer = {.in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)number)}};
    peer.in.sin_addr.s_addr = htonl(0x0a000000 + number);
    if (number % 3 == 0) {
        peer = (union peer){.in6 = {.sin6_family = AF_INET6, .sin6_flowinfo = number}};
        memcpy(&peer.in6.sin6_addr, &number, sizeof(number));
    }
    return peer;
}
