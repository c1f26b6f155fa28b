#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>

#include "common/idmap.h"
#include "common/mem.h"

enum { COUNT = 10000 };

static struct idmap_node nodes[COUNT];

Test(idmap, finds_what_was_added)
{
    struct idmap map;
    cr_assert_eq(idmap_init(&map), 0);
    cr_assert_null(idmap_find(&map, 0));
    for (size_t i = 0; i < COUNT; i++) {
        nodes[i].id = UINT64_MAX - COUNT + i * 3; /* passes the end of the numbers */
        idmap_add(&map, &nodes[i]);
    }
    cr_assert_eq(map.count, (size_t)COUNT);
    cr_assert_geq(map.mask, (size_t)COUNT / 2, "chains stay short");
    for (size_t i = 0; i < COUNT; i++) {
        cr_assert_eq(idmap_find(&map, nodes[i].id), &nodes[i]);
        cr_assert_null(idmap_find(&map, nodes[i].id + 1));
    }
    for (size_t i = 0; i < COUNT; i += 2)
        idmap_remove(&map, &nodes[i]);
    for (size_t i = 0; i < COUNT; i++)
        cr_assert_eq(idmap_find(&map, nodes[i].id), i % 2 == 0 ? NULL : &nodes[i]);
    for (size_t i = 1; i < COUNT; i += 2)
        idmap_remove(&map, &nodes[i]);
    idmap_deinit(&map);
    cr_assert_eq(mem_in_use(), (size_t)0);
}

Test(idmap, without_memory_chains_get_longer)
{
    struct idmap map;
    mem_fail_after(0);
    cr_assert_eq(idmap_init(&map), -ENOMEM);
    cr_assert_eq(idmap_init(&map), 0);
    size_t mask = map.mask;
    for (size_t i = 0; i < 1000; i++) {
        nodes[i].id = i;
        mem_fail_after(0);
        idmap_add(&map, &nodes[i]);
    }
    mem_fail_after(-1);
    cr_assert_eq(map.mask, mask);
    for (size_t i = 0; i < 1000; i++) {
        cr_assert_eq(idmap_find(&map, i), &nodes[i]);
        idmap_remove(&map, &nodes[i]);
    }
    idmap_deinit(&map);
}

Test(idmap, removing_what_is_not_there_is_a_bug, .signal = SIGABRT)
{
    struct idmap map;
    struct idmap_node node = {.id = 1};
    cr_assert_eq(idmap_init(&map), 0);
    idmap_remove(&map, &node);
}
