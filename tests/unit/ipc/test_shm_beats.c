#include <criterion/criterion.h>

#include "frontd/ipc/shm_beats.h"
#include "frontd/ipc/shm_reclaim.h"
#include "tests/unit/support/shm.h"

TestSuite(shm_beats, .init = make_memory_of_test, .fini = unmap_memory_of_test);

Test(shm_beats, each_seat_beats_by_itself)
{
    uint64_t before[SHARE_SEAT_LAST + 1];
    for (unsigned seat = 0; seat <= SHARE_SEAT_LAST; seat++)
        before[seat] = share_beats(share, seat);
    for (unsigned seat = 0; seat <= SHARE_SEAT_LAST; seat += 2) {
        share_beat(share, seat);
        share_reclaim(share, all_but(seat + 1 <= SHARE_SEAT_LAST ? seat + 1 : 1));
    }
    for (unsigned seat = 0; seat <= SHARE_SEAT_LAST; seat++)
        cr_expect_eq(share_beats(share, seat) != before[seat], seat % 2 == 0, "seat %u", seat);
}
