#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <string.h>
#include <sys/socket.h>

#include "frontd/shard/request/canary.h"

enum { CLIENTS = 20000 };

static struct peer address_of(uint32_t n)
{
    struct peer peer = {.family = AF_INET};
    peer.bytes[12] = 10;
    peer.bytes[13] = (uint8_t)(n >> 16);
    peer.bytes[14] = (uint8_t)(n >> 8);
    peer.bytes[15] = (uint8_t)n;
    return peer;
}

static struct peer no_address(uint32_t n)
{
    (void)n;
    return (struct peer){.family = AF_UNIX};
}

/* So many of a hundred clients are of it, as near as chance has it, and with more percent those
 * stay that were. */
static void of_clients(struct peer (*peer_of)(uint32_t n))
{
    static const uint32_t percents[] = {0, 1, 10, 50, 99, 100};
    static bool was[CLIENTS];
    memset(was, 0, sizeof(was));
    for (size_t i = 0; i < ARRAY_LEN(percents); i++) {
        const struct conf_route route = {.canary = true, .canary_percent = percents[i]};
        uint32_t count = 0;
        for (uint32_t n = 0; n < CLIENTS; n++) {
            const struct peer peer = peer_of(n);
            bool is = canary_takes(&route, &peer, n + 1, NULL);
            cr_assert(is || !was[n], "%u %%: %u", percents[i], n);
            was[n] = is;
            count += is;
        }
        uint32_t wanted = CLIENTS / 100 * percents[i];
        cr_expect(count + CLIENTS / 100 >= wanted && count <= wanted + CLIENTS / 100,
            "%u %%: %u of %d", percents[i], count, CLIENTS);
        cr_expect(percents[i] % 100 != 0 || count == wanted);
    }
}

Test(canary, percent_of_addresses)
{
    of_clients(address_of);
}

Test(canary, percent_of_connections_without_an_address)
{
    of_clients(no_address);
}

Test(canary, a_route_without)
{
    const struct conf_route route = {.canary_percent = 100};
    const struct peer peer = address_of(1);
    cr_expect_not(canary_takes(&route, &peer, 1, NULL));
}
