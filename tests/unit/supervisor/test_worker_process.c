#include <criterion/criterion.h>

#include "frontd/supervisor/workers/worker_process.h"
#include "tests/unit/support/aborts.h"

struct move {
    enum worker_state from;
    enum worker_state to;
};

static void make_move(const void *data)
{
    const struct move *move = data;
    struct worker_process worker = {.state = move->from};
    worker_process_move(&worker, move->to);
    cr_assert_eq(worker.state, move->to);
}

Test(worker_process, moves)
{
    static const bool allowed[WORKER_STATES][WORKER_STATES] = {
        [WORKER_WAITING] = {[WORKER_WAITING] = true, [WORKER_STARTING] = true},
        [WORKER_STARTING] =
            {[WORKER_WAITING] = true, [WORKER_SERVING] = true, [WORKER_LEAVING] = true},
        [WORKER_SERVING] = {[WORKER_WAITING] = true, [WORKER_LEAVING] = true},
    };
    for (int from = 0; from < WORKER_STATES; from++) {
        for (int to = 0; to < WORKER_STATES; to++) {
            const struct move move = {(enum worker_state)from, (enum worker_state)to};
            if (allowed[from][to])
                make_move(&move);
            else
                cr_expect(aborts(make_move, &move), "%s to %s",
                    worker_process_state_name(move.from), worker_process_state_name(move.to));
        }
    }
}

Test(worker_process, delay)
{
    static const struct {
        uint64_t first;
        unsigned failures;
        uint64_t delay;
    } rows[] = {
        {1000, 1, 1000},
        {1000, 2, 2000},
        {1000, 5, 16000},
        {1000, 6, 30000},
        {1000, UINT32_MAX, 30000},
        {1, 3, 4},
        {1, UINT32_MAX, 30000},
        {60000, 1, 60000},
        {60000, 9, 60000},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        cr_assert_eq(worker_process_delay(rows[i].first, rows[i].failures), rows[i].delay);
}
