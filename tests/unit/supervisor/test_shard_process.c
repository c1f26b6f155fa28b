#include <criterion/criterion.h>

#include "frontd/supervisor/shard_process.h"
#include "tests/unit/support/aborts.h"

struct move {
    enum shard_process_state from;
    enum shard_process_state to;
};

static void make_move(const void *data)
{
    const struct move *move = data;
    struct shard_process process = {.state = move->from};
    shard_process_move(&process, move->to);
    cr_assert_eq(process.state, move->to);
}

Test(shard_process, moves)
{
    static const bool allowed[SHARD_PROCESS_STATES][SHARD_PROCESS_STATES] = {
        [SHARD_PROCESS_DOWN] = {[SHARD_PROCESS_STARTING] = true, [SHARD_PROCESS_READY] = true},
        [SHARD_PROCESS_STARTING] = {[SHARD_PROCESS_READY] = true, [SHARD_PROCESS_DOWN] = true},
        [SHARD_PROCESS_READY] = {[SHARD_PROCESS_DOWN] = true},
    };
    for (int from = 0; from < SHARD_PROCESS_STATES; from++) {
        for (int to = 0; to < SHARD_PROCESS_STATES; to++) {
            const struct move move = {(enum shard_process_state)from, (enum shard_process_state)to};
            if (allowed[from][to])
                make_move(&move);
            else
                cr_expect(aborts(make_move, &move), "%d to %d", from, to);
        }
    }
}
