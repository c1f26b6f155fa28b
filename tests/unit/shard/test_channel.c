#include <criterion/criterion.h>

#include "frontd/shard/upstream/channel.h"

Test(channel, all_pairs_of_states)
{
    static const bool allowed[CHANNEL_STATES][CHANNEL_STATES] = {
        [CHANNEL_CLOSED] = {[CHANNEL_CONNECTING] = true},
        [CHANNEL_CONNECTING] = {[CHANNEL_GREETING] = true, [CHANNEL_CLOSING] = true},
        [CHANNEL_GREETING] = {[CHANNEL_OPEN] = true, [CHANNEL_CLOSING] = true},
        [CHANNEL_OPEN] = {[CHANNEL_LEAVING] = true, [CHANNEL_CLOSING] = true},
        [CHANNEL_LEAVING] = {[CHANNEL_LEAVING] = true, [CHANNEL_CLOSING] = true},
        [CHANNEL_CLOSING] = {[CHANNEL_CLOSED] = true},
    };
    for (int from = 0; from < CHANNEL_STATES; from++) {
        for (int to = 0; to < CHANNEL_STATES; to++)
            cr_expect_eq(channel_may_become((enum channel_state)from, (enum channel_state)to),
                allowed[from][to], "%d → %d", from, to);
    }
}
