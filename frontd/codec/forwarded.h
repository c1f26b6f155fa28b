#pragma once

/*
 * Which client a request is from that has come through proxies: each adds the address that it has
 * the request from at the end of a list. Only what trusted proxies have added is believed. Pure.
 */

#include "common/peer.h"
#include "frontd/codec/http_head.h"

enum {
    FORWARDED_HOPS_MAX = 32, /* trusted proxies in a row: the address that one more has added is not
                              * looked at, so that a long list costs little */
};

/*
 * Reads the list of X-Forwarded-For ("192.0.2.7, 10.0.0.1") from its end: past addresses of
 * trusted proxies up to the first that is not one. An address may have a port, an IPv6 address
 * brackets. All fields of that name are one list; empty elements are none.
 *
 * What is no address ("unknown", a name) ends the search, too: the address behind it, of the proxy
 * that says so, is the last that is known.
 *
 * The head is of a request that a trusted proxy has sent. Returns whether an address was found;
 * else the client is not known, and *ret_client untouched.
 */
bool forwarded_x_find(const struct http_head *head, const struct peer_network *trusted,
    size_t ntrusted, struct peer *ret_client);

/*
 * The same for Forwarded, RFC 7239 (`for="[2001:db8::1]:4711";proto=https, for=10.0.0.1`): each
 * element has its address in `for`. One that is obfuscated (section 6.3), or has no `for`, or two,
 * is no address. What follows an error of syntax within a field is not looked at: quotes that a
 * client has left open do not make a proxy's words something else.
 */
bool forwarded_find(const struct http_head *head, const struct peer_network *trusted,
    size_t ntrusted, struct peer *ret_client);
