#pragma once

/* Which clients a listener or a route is for, by their addresses: the keys `allow` and `deny`.
 * Pure. */

#include "common/peer.h"

enum { CONF_ACCESS_MAX = 1024 /* networks of both lists: each is compared with a peer */ };

struct conf_access_rule {
    struct peer_network network;
    bool allow;
};

/* Zeroed: all are let in. */
struct conf_access {
    struct conf_access_rule *rules; /* the longest prefix first */
    uint32_t nrules;
    bool listed; /* there is an allow list: who is in no list is not let in */
};

/* Whether the peer is let in: the network with the longest prefix that it is of decides. */
bool conf_admits(const struct conf_access *access, const struct peer *peer);
