#include "frontd/config/access.h"

bool conf_admits(const struct conf_access *access, const struct peer *peer)
{
    for (uint32_t i = 0; i < access->nrules; i++) {
        if (peer_is_in(peer, &access->rules[i].network, 1))
            return access->rules[i].allow;
    }
    return !access->listed;
}
