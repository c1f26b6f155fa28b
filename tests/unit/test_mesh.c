#include <criterion/criterion.h>
#include <sys/socket.h>
#include <unistd.h>

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

static void flush_streams(struct shardlet *shardlet)
{
    while (!list_empty(&shardlet->ctx.dirty_streams))
        stream_end_turn(list_first(&shardlet->ctx.dirty_streams, struct stream, dirty));
}

/* The other end of a socket to a sibling. */
static int sibling(struct shardlet *shardlet, unsigned seat)
{
    int fds[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    cr_assert_eq(mesh_add(&shardlet->ctx, seat, fds[0]), 0);
    return fds[1];
}

static void say_of(
    struct shardlet *shardlet, int fd, enum frame_type type, uint64_t number, uint64_t incarnation)
{
    const struct frame_head head = {.type = (uint8_t)type, .call = number, .conn = incarnation};
    uint8_t bytes[FRAME_HEAD_SIZE];
    frame_head_write(&head, bytes);
    cr_assert_eq(write(fd, bytes, sizeof(bytes)), (ssize_t)sizeof(bytes));
    shardlet_turn(shardlet);
}

static void say(struct shardlet *shardlet, int fd, enum frame_type type, uint64_t number)
{
    say_of(shardlet, fd, type, number, 0);
}

/* The type of the next frame that has come; its number must be this one. 0: none has. */
static int heard(struct shardlet *shardlet, int fd, uint64_t number)
{
    char bytes[FRAME_HEAD_SIZE];
    struct frame frame;
    size_t used;
    flush_streams(shardlet);
    if (read(fd, bytes, sizeof(bytes)) != (ssize_t)sizeof(bytes))
        return 0;
    cr_assert_eq(frame_read(bytes, sizeof(bytes), 0, &frame, &used), 0);
    cr_expect_eq(frame.head.call, number);
    return frame.head.type;
}

Test(mesh, those_that_are_there_are_asked_what_they_have_heard)
{
    struct shardlet shardlet;
    shardlet_init(&shardlet, MOVE_CONF, SEAT);
    cr_expect(mesh_answered(mesh_ask()), "there is nobody");
    int one = sibling(&shardlet, OTHER);
    int two = sibling(&shardlet, OTHER + 1);
    cr_expect_eq(heard(&shardlet, one, 0), FRAME_HELLO);

    uint64_t first = mesh_ask();
    uint64_t second = mesh_ask();
    int late = sibling(&shardlet, OTHER + 2);
    cr_expect_eq(heard(&shardlet, one, first), FRAME_PING);
    cr_expect_eq(heard(&shardlet, one, second), FRAME_PING);
    say(&shardlet, one, FRAME_PONG, first);
    cr_expect(!mesh_answered(first), "the other one has not answered");
    say(&shardlet, two, FRAME_PONG, first);
    cr_expect(mesh_answered(first));
    cr_expect(!mesh_answered(second));
    say(&shardlet, two, FRAME_PONG, second);
    cr_expect(!mesh_answered(second));
    close(one);
    shardlet_turn(&shardlet);
    cr_expect(mesh_answered(second), "who has ended is not waited for");

    cr_expect_eq(heard(&shardlet, late, 0), FRAME_HELLO);
    say(&shardlet, late, FRAME_PING, 77);
    cr_expect_eq(heard(&shardlet, late, 77), FRAME_PONG);
    mesh_shut();
    close(two);
    close(late);
    shardlet_turn(&shardlet);
    shardlet_deinit(&shardlet);
}

static struct position position_of(struct shardlet *shardlet, unsigned seat)
{
    struct positions positions;
    mesh_positions(&shardlet->ctx, &positions);
    return positions.of[seat];
}

/* A connection that is sent now has got what the one before has said. */
Test(mesh, what_was_heard_counts_until_the_next_on_that_seat_says_where_it_stands)
{
    struct shardlet shardlet;
    shardlet_init(&shardlet, MOVE_CONF, SEAT);
    for (int round = 0; round < 2; round++) {
        uint64_t incarnation = 10 + 2 * (uint64_t)round;
        int before = sibling(&shardlet, OTHER);
        say_of(&shardlet, before, FRAME_HELLO, 5, incarnation);
        cr_assert(mesh_complete(&shardlet.ctx));
        if (round > 0) { /* its end is seen first */
            close(before);
            shardlet_turn(&shardlet);
        }
        int after = sibling(&shardlet, OTHER);
        for (int i = 0; i < 2; i++) {
            struct position heard = position_of(&shardlet, OTHER);
            cr_expect(heard.incarnation == incarnation && heard.seq == 5, "round %d", round);
            shardlet_turn(&shardlet);
        }
        cr_expect_not(mesh_complete(&shardlet.ctx));
        say_of(&shardlet, after, FRAME_HELLO, 0, incarnation + 1);
        struct position heard = position_of(&shardlet, OTHER);
        cr_expect(heard.incarnation == incarnation + 1 && heard.seq == 0, "round %d", round);
        cr_expect(mesh_complete(&shardlet.ctx));
        close(after);
        if (round == 0)
            close(before);
        shardlet_turn(&shardlet);
    }
    mesh_shut();
    shardlet_turn(&shardlet);
    shardlet_deinit(&shardlet);
}
