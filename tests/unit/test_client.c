#include <criterion/criterion.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/descriptors.h"
#include "tests/unit/move_conf.h"
#include "tests/unit/shardlet.h"

static struct shardlet shard;

static void set_up(void)
{
    shardlet_init(&shard, MOVE_CONF, 0);
}

static void tear_down(void)
{
    shardlet_deinit(&shard);
}

TestSuite(client, .init = set_up, .fini = tear_down);

/* As where the kernel's limit for what is watched is reached: it ends, and nothing else does. */
Test(client, that_cannot_be_waited_for)
{
    static const char *const listeners[] = {"web", "lines", "frames"};
    for (size_t i = 0; i < ARRAY_LEN(listeners); i++) {
        size_t before = open_count();
        int peer;
        struct client *other = shardlet_client(&shard, listeners[i], &peer);
        int fd = memfd_create("file", MFD_CLOEXEC); /* no file can be waited for */
        cr_assert_geq(fd, 0);
        shardlet_accepted(&shard, listeners[i], fd);
        shardlet_turn(&shard);
        cr_assert_eq(fcntl(fd, F_GETFD), -1, "closed");
        cr_assert(shardlet_connections() == 1 && shardlet_peers() == 1 && shard.ctx.open == 1);
        cr_assert_eq(shard.ctx.count->closed, 2 * i + 1);
        cr_assert_eq(other->state, CLIENT_OPEN);
        close(peer);
        shardlet_turn(&shard);
        cr_assert_eq(open_count(), before);
    }
}
