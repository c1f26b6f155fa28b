#include <criterion/criterion.h>

#include "frontd/shard/mesh.h"
#include "tests/unit/move_conf.h"
#include "tests/unit/shardlet.h"

enum { SEAT = 4, OTHER = 7 };

/* Of shards to which there is no socket: whether anything of them can still come. */
Test(mesh, waits_for_shards_that_came_later_and_not_for_those_that_had_ended_before)
{
    struct shardlet shardlet;
    shardlet_init(&shardlet, MOVE_CONF, SEAT);
    const uint64_t mine = shardlet.ctx.identity.incarnation;
    const struct {
        unsigned seat;
        struct position wanted;
        bool heard;
    } table[] = {
        {OTHER, {0, 0}, true},
        {OTHER, {mine - 1, 0}, true},
        {OTHER, {mine - 1, 1000}, true},
        {OTHER, {mine + 1, 0}, false},
        {OTHER, {mine + 1, 1}, false},
        {SEAT, {mine, 0}, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct positions wanted = {0};
        wanted.of[table[i].seat] = table[i].wanted;
        cr_expect_eq(mesh_has_heard(&shardlet.ctx, &wanted), table[i].heard, "row %zu", i);
    }
    shardlet_deinit(&shardlet);
}
