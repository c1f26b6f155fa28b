#pragma once

/* The address of who is at the other end, and networks that it may be of. Pure. */

#include <sys/socket.h>

#include "common/base.h"

struct peer {
    uint8_t bytes[16]; /* AF_INET: the first four of them, and zeros */
    uint16_t port;     /* 0: not known */
    uint8_t family;    /* AF_INET, AF_INET6, AF_UNIX (nothing else is set); 0: none */
};

/* Addresses whose first `bits` bits are the same; of AF_UNIX every one. */
struct peer_network {
    uint8_t bytes[16];
    uint8_t family;
    uint8_t bits;
};

enum { PEER_TEXT_SIZE = 64 /* of the longest text of a peer, with room to spare */ };

/* A peer of any other family than those three is AF_UNIX. */
struct peer peer_of_address(const struct sockaddr *address);

/*
 * A peer of `n` bytes at `bytes`, in network order: 4 are an IPv4 address, 16 an IPv6 address. One
 * that stands for an IPv4 address (::ffff:192.0.2.7, RFC 4291 section 2.5.5.2) becomes that.
 */
struct peer peer_of_bytes(const void *bytes, size_t n, uint16_t port);

/* Leaves the first `bits` bits of an address of 16 bytes: the others become 0. */
void peer_mask(uint8_t bytes[static 16], unsigned bits);

/* As a socket address, for what is counted by peer. */
void peer_sockaddr(const struct peer *peer, struct sockaddr_storage *ret_address);

/*
 * Reads an IPv4 or IPv6 address, without port, brackets, zone or leading zeros, as
 * peer_of_bytes(). Returns whether it is one.
 */
bool peer_parse(struct span text, struct peer *ret_peer);

/* "192.0.2.7:51412", "[2001:db8::1]:80", "unix:". */
void peer_text(const struct peer *peer, char out[static PEER_TEXT_SIZE]);

/*
 * Reads "192.0.2.7", "10.0.0.0/8", "2001:db8::/32" or "unix". Returns NULL, or what is wrong with
 * the text.
 */
const char *peer_network_parse(const char *text, struct peer_network *ret_network);

/* Whether the peer is of one of `n` networks. */
bool peer_is_in(const struct peer *peer, const struct peer_network *networks, size_t n);
