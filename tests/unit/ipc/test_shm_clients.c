#include <arpa/inet.h>
#include <criterion/criterion.h>

#include "frontd/ipc/shm_clients.h"
#include "frontd/ipc/shm_reclaim.h"
#include "tests/unit/support/shm.h"
#include "tests/unit/support/shm_peers.h"

TestSuite(shm_clients, .init = make_memory_of_test, .fini = unmap_memory_of_test);

Test(shm_clients, connections)
{
    for (uint64_t limit = 0; limit < 5; limit++) {
        for (unsigned i = 0; i < limit; i++)
            cr_assert(share_connection_add(share, i, limit));
        cr_assert(!share_connection_add(share, 0, limit));
        for (unsigned i = 0; i < limit; i++)
            share_connection_remove(share, i);
    }
    for (unsigned i = 0; i < 1000; i++)
        cr_assert(share_connection_add(share, SHARE_SEAT_LAST, 1000));
    cr_assert(!share_connection_add(share, 0, 1000));
    share_reclaim(share, all_but(SHARE_SEAT_LAST));
    cr_assert(share_connection_add(share, 0, 1));
}

Test(shm_clients, peers)
{
    for (unsigned number = 3; number < 5; number++) {
        union peer peer = make_peer(number);
        union peer other = make_peer(number + 2);
        cr_assert(!share_peer_add(share, 0, &peer.any, 0));
        cr_assert(share_peer_add(share, 0, &peer.any, 2));
        peer.in.sin_port ^= 1; /* the port makes no difference, in6 has it at the same place */
        cr_assert(share_peer_add(share, 1, &peer.any, 2));
        cr_assert(!share_peer_add(share, 0, &peer.any, 2));
        cr_assert(!share_peer_add(share, SHARE_SEAT_LAST, &peer.any, 2));
        cr_assert(share_peer_add(share, 0, &other.any, 1));
        share_peer_remove(share, 0, &other.any);
        share_peer_remove(share, 0, &peer.any);
        cr_assert(share_peer_add(share, 0, &peer.any, 2));
        share_reclaim(share, all_but(1));
        cr_assert(share_peer_add(share, 0, &peer.any, 2));
        share_peer_remove(share, 0, &peer.any);
        share_peer_remove(share, 0, &peer.any);
    }
    union peer local = {.un = {.sun_family = AF_UNIX}};
    for (unsigned i = 0; i < 100; i++)
        cr_assert(share_peer_add(share, 0, &local.any, 1), "UNIX sockets are not counted");
    share_peer_remove(share, 0, &local.any);

    struct share *without = make_share(0);
    union peer peer = make_peer(1);
    for (unsigned i = 0; i < 100; i++)
        cr_assert(share_peer_add(without, 0, &peer.any, 1));
    share_peer_remove(without, 0, &peer.any);
    share_unmap(without);
}

static union peer ipv6(const char *text)
{
    union peer peer = {.in6 = {.sin6_family = AF_INET6}};
    cr_assert_eq(inet_pton(AF_INET6, text, &peer.in6.sin6_addr), 1);
    return peer;
}

/* Whether two addresses are one peer for connections_per_peer. */
static bool are_one(const union peer *one, const union peer *other)
{
    cr_assert(share_peer_add(share, 0, &one->any, 1));
    bool refused = !share_peer_add(share, 1, &other->any, 1);
    if (!refused)
        share_peer_remove(share, 1, &other->any);
    share_peer_remove(share, 0, &one->any);
    return refused;
}

Test(shm_clients, peers_by_their_network)
{
    /* Two addresses, and in how many bits from the left on they are the same. */
    static const struct {
        const char *one;
        const char *other;
        unsigned same;
    } rows[] = {
        {"8000::", "::", 0},
        {"8000::", "c000::", 1},
        {"2001:db8::1", "2001:db8:0:2::1", 62},
        {"2001:db8::1", "2001:db8:0:1::1", 63},
        {"2001:db8::1", "2001:db8::8000:0:0:1", 64},
        {"2001:db8::1", "2001:db8::4000:0:0:1", 65},
        {"2001:db8::1", "2001:db8::3", 126},
        {"2001:db8::1", "2001:db8::", 127},
        {"2001:db8::1", "2001:db8::1", 128},
    };
    static const unsigned prefixes[] = {1, 2, 7, 8, 9, 62, 63, 64, 65, 66, 126, 127, 128};
    for (size_t p = 0; p < ARRAY_LEN(prefixes); p++) {
        share_set_peer_prefix(share, prefixes[p]);
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
            union peer one = ipv6(rows[i].one), other = ipv6(rows[i].other);
            bool wanted = rows[i].same >= prefixes[p];
            cr_assert_eq(are_one(&one, &other), wanted, "/%u, row %zu", prefixes[p], i);
            cr_assert_eq(are_one(&other, &one), wanted);
        }
    }
}

Test(shm_clients, peers_of_ipv4)
{
    static const unsigned prefixes[] = {1, 64, 96, 127, 128};
    union peer four = {.in = {.sin_family = AF_INET}};
    cr_assert_eq(inet_pton(AF_INET, "192.0.2.7", &four.in.sin_addr), 1);
    for (size_t p = 0; p < ARRAY_LEN(prefixes); p++) {
        share_set_peer_prefix(share, prefixes[p]);
        union peer mapped = ipv6("::ffff:192.0.2.7"), next = ipv6("::ffff:192.0.2.6");
        union peer compatible = ipv6("::192.0.2.7");
        cr_assert(are_one(&four, &mapped) && are_one(&mapped, &four));
        cr_assert(!are_one(&four, &next) && !are_one(&mapped, &next));
        cr_assert(!are_one(&four, &compatible) && !are_one(&mapped, &compatible));
    }
}

/* While a reload changes it: a process takes back what it has counted, and no other's. */
Test(shm_clients, peers_of_two_prefixes)
{
    union peer network = ipv6("2001:db8::"), host = ipv6("2001:db8::1");
    share_set_peer_prefix(share, 128);
    cr_assert(share_peer_add(share, 0, &network.any, 1));
    share_set_peer_prefix(share, 64);
    cr_assert(share_peer_add(share, 1, &network.any, 1), "the same bits, and another peer");
    cr_assert(!share_peer_add(share, 2, &host.any, 1));
    share_peer_remove(share, 1, &host.any);
    share_set_peer_prefix(share, 128);
    cr_assert(!share_peer_add(share, 2, &network.any, 1), "it is counted still");
    share_peer_remove(share, 0, &network.any);
    cr_assert(share_peer_add(share, 2, &network.any, 1));
    share_reclaim(share, 2);
}

/* Random connects and disconnects on two seats against plain counts; the table is as full as it
 * may become: half. */
Test(shm_clients, peers_as_a_model_has_them)
{
    enum { CELLS = 16, PEERS = 40, STEPS = 200000, LIMIT = 4 };
    unsigned counts[2][PEERS] = {{0}};
    unsigned open[2] = {0};
    uint32_t random = 12345;
    for (unsigned step = 0; step < STEPS; step++) {
        unsigned seat = next_random(&random) % 2;
        unsigned number = next_random(&random) % PEERS;
        union peer peer = make_peer(number);
        /* now mostly coming, now mostly going */
        if (next_random(&random) % 8 < (step / 100 % 2 == 0 ? 6 : 2)) {
            if (open[seat] == CELLS / 2)
                continue;
            bool wanted = counts[0][number] + counts[1][number] < LIMIT;
            cr_assert_eq(share_peer_add(share, seat, &peer.any, LIMIT), wanted, "step %u", step);
            counts[seat][number] += wanted;
            open[seat] += wanted;
        } else if (counts[seat][number] > 0) {
            share_peer_remove(share, seat, &peer.any);
            counts[seat][number]--;
            open[seat]--;
        }
    }
}
