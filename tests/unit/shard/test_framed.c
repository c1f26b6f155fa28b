#include <criterion/criterion.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/shard/net/framed.h"
#include "tests/unit/support/move_conf.h"
#include "tests/unit/support/shardlet.h"

enum {
    SEAT = 4,
    MAX_FRAME = 16, /* bytes of payload */
    LONG = 150,     /* of one that is skipped: more than a few heads */
};

/* A stream, and what its owner has been told: "TYPE:CALL " of each frame, and what is below. */
static struct {
    struct stream stream;
    char said[512];
    bool skips;             /* what the owner says to a frame that is too long */
    struct stream *waiting; /* a PUBLISH that is carried out later */
    bool closed;
} test;

static void say(const char *what, const struct frame_head *head)
{
    size_t n = strlen(test.said);
    snprintf(test.said + n, sizeof(test.said) - n, "%s%u:%llu ", what, head->type,
        (unsigned long long)head->call);
}

static void on_frame(struct stream *stream, const struct frame *frame)
{
    say("", &frame->head);
    if (frame->head.type == FRAME_PUBLISH && stream->holder == NULL)
        stream_wait(stream, &test.waiting);
}

static bool on_too_long(struct stream *stream, const struct frame_head *head)
{
    (void)stream;
    say("long ", head);
    return test.skips;
}

static void on_broken(struct stream *stream, const char *why)
{
    size_t n = strlen(test.said);
    snprintf(test.said + n, sizeof(test.said) - n, "broken %s", why);
    stream_close(stream);
}

static void on_closed(struct stream *stream)
{
    (void)stream;
    test.closed = true;
}

static void on_drained(struct stream *stream)
{
    (void)stream;
    strcat(test.said, "drained ");
}

static const struct stream_ops ops = {.frame = on_frame,
    .too_long = on_too_long,
    .broken = on_broken,
    .closed = on_closed,
    .drained = on_drained};
static const struct stream_ops strict = {
    .frame = on_frame, .broken = on_broken, .closed = on_closed};

/* Returns the other end. */
static int begin(struct shardlet *shardlet, const struct stream_ops *of)
{
    int fds[2];
    memset(&test, 0, sizeof(test));
    test.skips = true;
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    cr_assert_eq(stream_open(&test.stream, &shardlet->ctx, of, fds[0], false), 0);
    test.stream.max_frame = MAX_FRAME;
    return fds[1];
}

static void end(struct shardlet *shardlet, int fd)
{
    stream_close(&test.stream);
    for (int i = 0; i < 100 && !test.closed; i++)
        shardlet_turn(shardlet);
    cr_assert(test.closed);
    close(fd);
}

static size_t put(char *out, enum frame_type type, uint64_t call, uint32_t length, uint32_t there)
{
    const struct frame_head head = {
        .type = (uint8_t)type, .call = call, .length = length, .blob_len = length};
    frame_head_write(&head, (uint8_t *)out);
    for (uint32_t i = 0; i < there; i++) /* it looks like heads of frames */
        out[FRAME_HEAD_SIZE + i] = (char)(i % FRAME_HEAD_SIZE == 4 ? FRAME_RESPONSE : 0);
    return FRAME_HEAD_SIZE + there;
}

static void feed(struct shardlet *shardlet, int fd, const char *p, size_t n)
{
    cr_assert_eq(write(fd, p, n), (ssize_t)n);
    shardlet_turn(shardlet);
}

static const char all[] = "3:1 long 3:2 13:3 long 200:4 3:5 ";

static size_t put_all(char *out)
{
    size_t n = put(out, FRAME_RESPONSE, 1, MAX_FRAME, MAX_FRAME);
    n += put(out + n, FRAME_RESPONSE, 2, LONG, LONG);
    n += put(out + n, FRAME_DATA, 3, 0, 0);
    n += put(out + n, (enum frame_type)200, 4, MAX_FRAME + 1, MAX_FRAME + 1);
    return n + put(out + n, FRAME_RESPONSE, 5, 1, 1);
}

/* However the bytes are cut, what is too long is skipped, and nothing else. */
Test(stream, frames_that_are_skipped)
{
    struct shardlet shardlet;
    char bytes[1024];
    size_t n = put_all(bytes);
    shardlet_init(&shardlet, MOVE_CONF, SEAT);
    for (size_t cut = 0; cut <= n; cut++) {
        int fd = begin(&shardlet, &ops);
        feed(&shardlet, fd, bytes, cut);
        uint64_t due = stream_due(&test.stream);
        cr_assert_eq(due, cut);
        feed(&shardlet, fd, bytes + cut, n - cut);
        cr_assert_str_eq(test.said, all, "cut at %zu", cut);
        cr_assert_eq(test.stream.consumed, n);
        cr_assert_eq(test.stream.skip, 0U);
        end(&shardlet, fd);
    }
    int fd = begin(&shardlet, &ops);
    for (size_t i = 0; i < n; i++)
        feed(&shardlet, fd, bytes + i, 1);
    cr_assert_str_eq(test.said, all);
    cr_assert_eq(test.stream.consumed, n);
    end(&shardlet, fd);
    shardlet_deinit(&shardlet);
}

Test(stream, what_is_not_skipped)
{
    static const struct {
        uint32_t length;
        bool skips;
        const struct stream_ops *ops;
        const char *said;
    } rows[] = {
        {FRAME_SKIP_MAX, true, &ops, "3:1 long 3:2 "},
        {FRAME_SKIP_MAX + 1U, true, &ops, "3:1 broken frame over max_frame"},
        {UINT32_MAX, true, &ops, "3:1 broken frame over max_frame"},
        {MAX_FRAME + 1, false, &ops, "3:1 long 3:2 broken frame over max_frame"},
        {MAX_FRAME + 1, true, &strict, "3:1 broken frame over max_frame"},
    };
    struct shardlet shardlet;
    shardlet_init(&shardlet, MOVE_CONF, SEAT);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char bytes[256];
        int fd = begin(&shardlet, rows[i].ops);
        test.skips = rows[i].skips;
        size_t n = put(bytes, FRAME_RESPONSE, 1, 0, 0);
        n += put(bytes + n, FRAME_RESPONSE, 2, rows[i].length, 8);
        feed(&shardlet, fd, bytes, n);
        cr_expect_str_eq(test.said, rows[i].said, "row %zu", i);
        end(&shardlet, fd);
    }
    shardlet_deinit(&shardlet);
}

/* It takes effect in its order: not while a frame before it is still being carried out. */
Test(stream, a_long_frame_waits_for_its_turn)
{
    struct shardlet shardlet;
    char bytes[512];
    shardlet_init(&shardlet, MOVE_CONF, SEAT);
    int fd = begin(&shardlet, &ops);
    size_t n = put(bytes, FRAME_PUBLISH, 1, 0, 0);
    n += put(bytes + n, FRAME_RESPONSE, 2, LONG, LONG);
    n += put(bytes + n, FRAME_RESPONSE, 3, 0, 0);
    feed(&shardlet, fd, bytes, n);
    cr_expect_str_eq(test.said, "9:1 ");
    cr_assert_eq(test.waiting, &test.stream);
    stream_release(&test.stream);
    shardlet_turn(&shardlet);
    cr_expect_str_eq(test.said, "9:1 long 3:2 3:3 ");
    end(&shardlet, fd);
    shardlet_deinit(&shardlet);
}

/* Without memory for what is incomplete it has the read buffer, and another one is made. */
Test(stream, goes_on_without_memory)
{
    enum { ALLOCATIONS = 3 };
    char bytes[512];
    struct shardlet shardlet;
    shardlet_init(&shardlet, MOVE_CONF, SEAT);
    size_t n = put(bytes, FRAME_RESPONSE, 1, MAX_FRAME, MAX_FRAME);
    n += put(bytes + n, FRAME_RESPONSE, 2, MAX_FRAME, MAX_FRAME);
    for (long fails = 0; fails < ALLOCATIONS; fails++) {
        for (size_t first = 1; first < n; first++) {
            int fd = begin(&shardlet, &ops);
            mem_fail_after(fails);
            feed(&shardlet, fd, bytes, first);
            feed(&shardlet, fd, bytes + first, (n - first) / 2);
            feed(&shardlet, fd, bytes + first + (n - first) / 2, n - first - (n - first) / 2);
            mem_fail_after(-1);
            shardlet_turn(&shardlet);
            cr_assert_str_eq(test.said, "3:1 3:2 ", "%ld, %zu: %s", fails, first, test.said);
            end(&shardlet, fd);
        }
    }
    shardlet_deinit(&shardlet);
}

/* Whoever asks is told once, when less than that waits for a peer that reads again. */
Test(stream, what_waits_is_less_again)
{
    enum { PIECE = 64 * 1024, DRAIN_TO = 2 * PIECE };
    static char bytes[PIECE];
    struct shardlet shardlet;
    shardlet_init(&shardlet, MOVE_CONF, SEAT);
    int fd = begin(&shardlet, &ops);
    while (buf_len(&test.stream.out) <= 4 * (size_t)PIECE) { /* the kernel takes some of it */
        cr_assert_not_null(stream_add_raw(&test.stream, bytes, sizeof(bytes)));
        shardlet_turn(&shardlet);
    }
    test.stream.drain_to = DRAIN_TO;
    shardlet_turn(&shardlet);
    cr_expect_str_eq(test.said, "");
    while (buf_len(&test.stream.out) > 0) {
        bool before = buf_len(&test.stream.out) >= DRAIN_TO;
        cr_assert_str_eq(test.said, before ? "" : "drained ");
        cr_assert_gt(read(fd, bytes, sizeof(bytes)), 0);
        shardlet_turn(&shardlet);
    }
    cr_expect_str_eq(test.said, "drained ");
    cr_expect_eq(test.stream.drain_to, (size_t)0);
    end(&shardlet, fd);
    shardlet_deinit(&shardlet);
}
