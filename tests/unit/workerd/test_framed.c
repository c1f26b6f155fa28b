#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/alloc.h"
#include "workerd/framed.h"
#include "workerd/worker.h"

/* A connection of which the test is the front, and what its owner was told, as text. */
struct bench {
    struct workerd worker;
    struct framed framed;
    int front;
    char told[512];
    bool closes;   /* the owner closes on what it is told */
    size_t answer; /* bytes of a frame that answers each, 0: none does */
};

static struct bench *bench_of(struct framed *framed)
{
    return container_of(framed, struct bench, framed);
}

static void tell(struct framed *framed, const char *what, size_t n)
{
    struct bench *bench = bench_of(framed);
    size_t at = strlen(bench->told);
    snprintf(bench->told + at, sizeof(bench->told) - at, "%s%zu ", what, n);
    if (bench->closes) {
        bench->closes = false;
        framed_close(framed);
    }
}

static void on_frame(struct framed *framed, const struct frame *frame)
{
    struct bench *bench = bench_of(framed);
    if (bench->answer > 0) {
        const struct frame_head head = {.type = FRAME_PONG, .length = (uint32_t)bench->answer};
        memset(framed_frame(framed, &head), 'x', bench->answer);
    }
    tell(framed, "frame", frame->body.n);
}

static void on_no_frame(struct framed *framed, int error, const char *p, size_t n)
{
    cr_assert_eq(p == NULL, n == 0);
    tell(framed, "bad", (size_t)error);
}

static void on_heard(struct framed *framed)
{
    (void)framed;
}

static void on_ended(struct framed *framed)
{
    framed->ended = true;
    tell(framed, "ended", 0);
}

static void on_failed(struct framed *framed, enum framed_failure what, int error)
{
    tell(framed, "failed", (size_t)what);
    cr_assert_lt(error, 0);
}

static void on_touched(struct framed *framed)
{
    (void)framed;
}

static void on_closed(struct framed *framed)
{
    tell(framed, "closed", 0);
}

static const struct framed_ops ops = {
    .frame = on_frame,
    .no_frame = on_no_frame,
    .heard = on_heard,
    .ended = on_ended,
    .failed = on_failed,
    .touched = on_touched,
    .closed = on_closed,
};

static void open_bench(struct bench *bench)
{
    int pair[2];
    memset(bench, 0, sizeof(*bench));
    cr_assert_eq(uv_loop_init(&bench->worker.loop), 0);
    bench->worker.read_buffer = mem_zalloc(READ_SIZE);
    bench->worker.max_frame = 1000;
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    bench->front = pair[0];
    cr_assert_eq(framed_open(&bench->framed, &bench->worker, pair[1], &ops), 0);
}

static void turn(struct bench *bench)
{
    uv_run(&bench->worker.loop, UV_RUN_NOWAIT);
}

/* Closes it where that is not done, and sees that nothing is left. */
static void close_bench(struct bench *bench)
{
    if (!uv_is_closing((uv_handle_t *)&bench->framed.poll))
        framed_close(&bench->framed);
    uv_run(&bench->worker.loop, UV_RUN_DEFAULT);
    cr_assert_eq(uv_loop_close(&bench->worker.loop), 0);
    cr_assert_eq(bench->worker.nfull, 0);
    cr_assert_eq(fcntl(bench->framed.fd, F_GETFD), -1);
    close(bench->front);
    mem_free(bench->worker.read_buffer);
    cr_assert_eq(mem_in_use(), 0);
}

/* Encodes a frame with a body of `n` bytes. Returns its size. */
static size_t encode(char *to, size_t n)
{
    const struct frame_head head = {.type = FRAME_PING, .length = (uint32_t)n};
    frame_head_write(&head, (uint8_t *)to);
    memset(to + FRAME_HEAD_SIZE, 'b', n);
    return FRAME_HEAD_SIZE + n;
}

static void give(struct bench *bench, const char *p, size_t n)
{
    bool closed = uv_is_closing((uv_handle_t *)&bench->framed.poll);
    if (n > 0 && !closed)
        cr_assert_eq(send(bench->front, p, n, MSG_NOSIGNAL), (ssize_t)n);
    turn(bench);
}

Test(worker_framed, bytes_may_be_cut_anywhere)
{
    char bytes[300];
    size_t n = encode(bytes, 3);
    n += encode(bytes + n, 0);
    n += encode(bytes + n, 40);
    n += encode(bytes + n, 1);
    for (size_t first = 0; first <= n; first++) {
        struct bench bench;
        open_bench(&bench);
        give(&bench, bytes, first);
        give(&bench, bytes + first, n - first);
        cr_assert_str_eq(bench.told, "frame3 frame0 frame40 frame1 ", "%zu", first);
        cr_assert_eq(buf_len(&bench.framed.in), 0);
        close_bench(&bench);
    }
    struct bench bench;
    open_bench(&bench);
    for (size_t i = 0; i < n; i++)
        give(&bench, bytes + i, 1);
    cr_assert_str_eq(bench.told, "frame3 frame0 frame40 frame1 ");
    close_bench(&bench);
}

Test(worker_framed, the_owner_may_close_at_anything)
{
    char bytes[300];
    size_t n = encode(bytes, 3);
    n += encode(bytes + n, 4);
    for (size_t first = 0; first <= n; first++) {
        struct bench bench;
        open_bench(&bench);
        bench.closes = true;
        give(&bench, bytes, first);
        give(&bench, bytes + first, n - first);
        close_bench(&bench);
        cr_assert_str_eq(bench.told, "frame3 closed0 ", "%zu: %s", first, bench.told);
    }
}

Test(worker_framed, what_is_no_frame)
{
    static const size_t cuts[] = {0, 1, 31, 32};
    for (size_t i = 0; i < ARRAY_LEN(cuts); i++) {
        char bytes[1100];
        struct bench bench;
        size_t n = encode(bytes, 1001);
        open_bench(&bench);
        bench.closes = true;
        give(&bench, bytes, cuts[i]);
        if (cuts[i] < FRAME_HEAD_SIZE)
            give(&bench, bytes + cuts[i], n - cuts[i]);
        close_bench(&bench);
        char wanted[64];
        snprintf(wanted, sizeof(wanted), "bad%d closed0 ", FRAME_E_LIMIT);
        cr_assert_str_eq(bench.told, wanted, "%zu: %s", cuts[i], bench.told);
    }
}

Test(worker_framed, after_a_stop_bytes_are_thrown_away)
{
    char bytes[100];
    struct bench bench;
    open_bench(&bench);
    size_t n = encode(bytes, 3);
    give(&bench, bytes, 10);
    framed_shut(&bench.framed);
    give(&bench, bytes + 10, n - 10);
    give(&bench, bytes, n);
    cr_assert_eq(buf_len(&bench.framed.in), 0);
    cr_assert_eq(read(bench.front, bytes, 1), 0); /* our direction is closed */
    shutdown(bench.front, SHUT_WR);
    turn(&bench);
    cr_assert_str_eq(bench.told, "ended0 ");
    close_bench(&bench);
}

Test(worker_framed, reading_pauses_while_too_much_waits)
{
    enum { FRAMES = 4, ANSWER = FRAMED_OUT_MAX / 2 + 1000 };
    char bytes[FRAMES * 40];
    struct bench bench;
    size_t n = 0;
    open_bench(&bench);
    bench.answer = ANSWER;
    for (int i = 0; i < FRAMES; i++)
        n += encode(bytes + n, 1);
    give(&bench, bytes, n);
    /* Two of the answers are too many, until a part of the first is written. */
    cr_assert_str_eq(bench.told, "frame1 frame1 frame1 ");
    cr_assert(bench.framed.paused);
    cr_assert_eq(bench.worker.nfull, 1);
    cr_assert_eq(buf_len(&bench.framed.in), n / FRAMES);
    framed_wait(&bench.framed);
    give(&bench, bytes, FRAME_HEAD_SIZE + 1); /* not read while it is paused */
    cr_assert_eq(buf_len(&bench.framed.in), n / FRAMES);

    size_t total = 0;
    static char sink[64 * 1024];
    while (total < FRAMES * (size_t)(FRAME_HEAD_SIZE + ANSWER)) {
        ssize_t got = read(bench.front, sink, sizeof(sink));
        total += got > 0 ? (size_t)got : 0;
        cr_assert(got > 0 || buf_len(&bench.framed.out) > 0);
        cr_assert_eq(framed_write(&bench.framed), 0);
        if (bench.framed.paused && framed_has_half(&bench.framed))
            framed_resume(&bench.framed);
    }
    cr_assert_str_eq(bench.told, "frame1 frame1 frame1 frame1 ");
    cr_assert_eq(bench.worker.nfull, 0);
    cr_assert_not(bench.framed.paused);
    bench.answer = 0;
    framed_wait(&bench.framed);
    turn(&bench);
    cr_assert_str_eq(bench.told, "frame1 frame1 frame1 frame1 frame1 ");
    close_bench(&bench);
}

Test(worker_framed, the_ends_that_a_front_makes)
{
    struct bench bench;
    open_bench(&bench);
    shutdown(bench.front, SHUT_WR);
    turn(&bench);
    cr_assert_str_eq(bench.told, "ended0 ");
    close_bench(&bench);

    open_bench(&bench);
    const struct frame_head head = {.type = FRAME_PING};
    cr_assert_not_null(framed_frame(&bench.framed, &head));
    close(bench.front);
    cr_assert_eq(framed_write(&bench.framed), -EPIPE);
    bench.front = dup(0);
    close_bench(&bench);
}

Test(worker_framed, no_memory)
{
    char bytes[100];
    struct bench bench;
    open_bench(&bench);
    encode(bytes, 3);
    mem_fail_after(0);
    give(&bench, bytes, 10);
    char wanted[32];
    snprintf(wanted, sizeof(wanted), "failed%d ", FRAMED_MEMORY);
    cr_assert_str_eq(bench.told, wanted);
    mem_fail_after(0);
    const struct frame_head head = {.type = FRAME_PING};
    cr_assert_null(framed_frame(&bench.framed, &head));
    mem_fail_after(-1);
    close_bench(&bench);
}
