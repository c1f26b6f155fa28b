/* The new side alone: the old one is played by the test, over a socket. */

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frontd/shard/client/acceptor.h"
#include "frontd/shard/handover/receiver.h"
#include "frontd/shard/push/push.h"
#include "frontd/shard/turn.h"
#include "tests/unit/support/descriptors.h"
#include "tests/unit/support/move_conf.h"
#include "tests/unit/support/sealed.h"
#include "tests/unit/support/shardlet.h"

enum { OLD_SEAT = 2, NEW_SEAT = 3, CLIENTS = 3, TURNS = 4, BATCH = 7 };

static struct shardlet from, to;
static struct acceptor acceptor;
static size_t open_before;
static int sock; /* the old side's end; -1: closed */
static int peers[CLIENTS];
static struct client *clients[CLIENTS];
static struct sealed_peer sealed[CLIENTS];

static void turns(void)
{
    for (int i = 0; i < TURNS; i++) {
        uv_run(&to.ctx.loop, UV_RUN_NOWAIT);
        turn_expire(&to.ctx);
        turn_end(&to.ctx, &acceptor.clients);
    }
}

static void connect_sides(void)
{
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    cr_assert_eq(receiver_add(to.ctx.receiver, OLD_SEAT, pair[1]), 0);
    sock = pair[0];
}

static void hang_up(void)
{
    close(sock);
    sock = -1;
}

/* The next message of the new side; 0 or -errno. */
static int next(struct handover_message *ret_message)
{
    int fds[FDPASS_FDS_MAX];
    size_t nfds = 0;
    turns();
    int r = handover_receive(sock, ret_message, fds, &nfds);
    cr_assert_eq(nfds, 0u);
    return r;
}

static void set_up(void)
{
    struct handover_message hello;
    shardlet_init(&from, MOVE_CONF, OLD_SEAT);
    shardlet_init(&to, MOVE_CONF, NEW_SEAT);
    open_before = open_count();
    cr_assert_eq(acceptor_init(&acceptor, &to.ctx, 0), 0);
    receiver_init(to.ctx.receiver, &acceptor);
    to.ctx.transport = &sealed_ops;
    for (size_t i = 0; i < CLIENTS; i++) {
        clients[i] = shardlet_client(&from, "lines", &peers[i]);
        clients[i]->transport = sealed_new(&sealed[i]);
    }
    shardlet_turn(&from);
    connect_sides();
    cr_assert_eq(next(&hello), 0);
    cr_assert_eq(hello.type, HANDOVER_HELLO);
    cr_assert_eq(hello.flags, HANDOVER_TWICE);
}

/* Those that were not given are at their old side still. */
static void tear_down(void)
{
    receiver_shut(to.ctx.receiver);
    if (sock >= 0)
        hang_up();
    for (size_t i = 0; i < CLIENTS; i++)
        close(peers[i]);
    for (size_t i = 0; i < CLIENTS; i++) {
        if (clients[i] != NULL && clients[i]->moving)
            client_thaw(clients[i]);
    }
    shardlet_turn(&from);
    turns();
    cr_expect(list_empty(&acceptor.clients));
    acceptor_close(&acceptor);
    acceptor_deinit(&acceptor);
    to.ctx.used = &to.clients;
    cr_expect_eq(open_count(), open_before);
    cr_expect_eq(sealed_count(), 0u);
    shardlet_deinit(&to);
    shardlet_deinit(&from);
    sealed_forget();
}

TestSuite(handover_receiver, .init = set_up, .fini = tear_down, .timeout = 60);

static void put_state(int fd, const struct buf *state)
{
    uint32_t n = (uint32_t)buf_len(state);
    uint8_t head[4] = {(uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16), (uint8_t)(n >> 24)};
    cr_assert_eq(write(fd, head, 4), 4);
    cr_assert_eq(write(fd, buf_data(state), n), (ssize_t)n);
}

/* Sends a batch with all clients. spoiled: their states are none. */
static void send_batch(uint8_t flags, bool spoiled)
{
    struct handover_message batch = {.batch = BATCH, .count = CLIENTS, .flags = flags};
    int fds[CLIENTS + 1] = {memfd_create("states", MFD_CLOEXEC)};
    for (size_t i = 0; i < CLIENTS; i++) {
        struct buf state = {0};
        if (!clients[i]->moving)
            client_freeze(clients[i]);
        cr_assert_eq(client_save(clients[i], &state), 0);
        if (spoiled)
            buf_data(&state)[0] = 0;
        put_state(fds[0], &state);
        buf_deinit(&state);
        fds[i + 1] = clients[i]->fd;
    }
    cr_assert_eq(handover_send(sock, HANDOVER_BATCH, &batch, fds, CLIENTS + 1), 0);
    close(fds[0]);
}

/* A batch that is sent is taken as a whole, or, where it is spoiled, not at all. */
static void offer(uint8_t flags, bool spoiled)
{
    struct handover_message answer;
    send_batch(flags, spoiled);
    cr_assert_eq(next(&answer), 0);
    cr_assert(answer.type == HANDOVER_TAKEN && answer.batch == BATCH && answer.count == CLIENTS);
    cr_assert_eq(answer.taken[0], spoiled ? 0 : (1 << CLIENTS) - 1);
    cr_assert_eq(answer.flags, 0);
}

static void release_all(void)
{
    for (size_t i = 0; i < CLIENTS; i++) {
        client_release(clients[i]);
        clients[i] = NULL;
    }
}

static void thaw_all(void)
{
    for (size_t i = 0; i < CLIENTS; i++)
        client_thaw(clients[i]);
}

static int say_yours(uint32_t batch)
{
    struct handover_message yours = {.batch = batch, .count = CLIENTS};
    return handover_send(sock, HANDOVER_YOURS, &yours, NULL, 0);
}

static void ask(size_t i)
{
    char record[64];
    size_t n = sealed_wrap(&sealed[i], (struct span){"{}\n", 3}, record);
    cr_assert_eq(send(peers[i], record, n, MSG_NOSIGNAL), (ssize_t)n);
}

static void ask_all(void)
{
    for (size_t i = 0; i < CLIENTS; i++)
        ask(i);
}

/* Whether a client has been answered by now; not where its connection is closed. */
static bool is_answered(size_t i)
{
    char bytes[1024];
    char out[2048];
    ssize_t n = recv(peers[i], bytes, sizeof(bytes), 0);
    if (n <= 0)
        return false;
    n = (ssize_t)sealed_unwrap(&sealed[i], bytes, (size_t)n, out);
    return memmem(out, (size_t)n, "-32600", 6) != NULL;
}

static size_t answers(void)
{
    size_t n = 0;
    for (size_t i = 0; i < CLIENTS; i++)
        n += is_answered(i);
    return n;
}

/* What was sent before counts only then. */
Test(handover_receiver, waits_for_yours)
{
    ask(0);
    offer(HANDOVER_TWICE, false);
    ask(1);
    for (int i = 0; i < TURNS; i++)
        turns();
    cr_assert_eq(to.ctx.open, CLIENTS);
    cr_assert_eq(answers(), 0u);
    release_all();
    cr_assert_eq(say_yours(BATCH), 0);
    ask(2);
    turns();
    cr_expect_eq(answers(), CLIENTS);
}

Test(handover_receiver, the_end_of_the_socket_says_the_same)
{
    ask_all();
    offer(HANDOVER_TWICE, false);
    turns();
    cr_assert_eq(answers(), 0u);
    release_all();
    hang_up();
    turns();
    cr_expect_eq(answers(), CLIENTS);
}

Test(handover_receiver, without_keys_taken_is_enough)
{
    ask_all();
    offer(HANDOVER_TWICE, true); /* none is taken: nothing is to be waited for */
    cr_expect_eq(to.ctx.open, 0u);
    send_batch(0, false);
    release_all();
    turns();
    cr_expect_eq(answers(), CLIENTS);
}

/* It ends before YOURS: the old side is told so when it says it, and keeps them. */
Test(handover_receiver, ends_before_yours)
{
    ask_all();
    offer(HANDOVER_TWICE, false);
    receiver_shut(to.ctx.receiver);
    cr_expect_eq(to.ctx.open, 0u);
    cr_expect_eq(say_yours(BATCH), -EPIPE);
    thaw_all();
    shardlet_turn(&from);
    turns();
    cr_expect_eq(answers(), CLIENTS);
}

Test(handover_receiver, yours_that_lies_there_counts)
{
    ask_all();
    offer(HANDOVER_TWICE, false);
    release_all();
    cr_assert_eq(say_yours(BATCH), 0);
    receiver_shut(to.ctx.receiver);
    turns();
    cr_expect_eq(answers(), CLIENTS);
}

/* Whatever else comes in place of YOURS, it waits for nothing any more, and keeps nothing. */
Test(handover_receiver, breaks_the_order)
{
    static const struct {
        enum handover_type type;
        uint32_t batch;
    } rows[] = {
        {HANDOVER_HELLO, 0},
        {HANDOVER_TAKEN, BATCH},
        {HANDOVER_BATCH, BATCH + 1},
        {HANDOVER_YOURS, BATCH + 1},
        {HANDOVER_YOURS, BATCH - 1},
        {HANDOVER_YOURS + 1, BATCH},
    };
    ask_all();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct handover_message message = {.batch = rows[i].batch};
        struct handover_message hello;
        bool batch = rows[i].type == HANDOVER_BATCH;
        offer(HANDOVER_TWICE, false);
        for (int k = 0; k < 2; k++) /* nor does what lies there behind it count */
            cr_assert_eq(
                handover_send(sock, rows[i].type, &message, batch ? peers : NULL, batch), 0);
        turns();
        cr_expect_eq(answers(), 0u, "row %zu", i);
        cr_expect_eq(to.ctx.open, 0u, "row %zu", i);
        cr_expect_eq(say_yours(BATCH), -EPIPE, "row %zu", i);
        hang_up();
        connect_sides();
        cr_assert_eq(next(&hello), 0);
    }
}

/* What is not waited for breaks the order, too. */
Test(handover_receiver, yours_of_nothing)
{
    struct handover_message message;
    cr_assert_eq(say_yours(BATCH), 0);
    cr_expect_eq(next(&message), -EPIPE);
    cr_expect_eq(to.ctx.open, 0u);
}

/* Connections that have never been used are closed for others, but not those that wait. */
Test(handover_receiver, makes_no_room_of_those_that_wait)
{
    offer(HANDOVER_TWICE, false);
    usleep(150 * 1000);
    turns();
    cr_expect_eq(acceptor_make_room(&acceptor, 1), 0u);
    release_all();
    cr_assert_eq(say_yours(BATCH), 0);
    ask_all();
    turns();
    cr_expect_eq(answers(), CLIENTS);
}

/* A push waits, too, and comes before what follows it. */
Test(handover_receiver, pushes_wait)
{
    char record[256];
    char out[2048];
    static const struct push_from sibling;
    offer(HANDOVER_TWICE, false);
    for (int i = 0; i < 2; i++) {
        struct frame frame = {
            .head = {.type = FRAME_PUSH, .conn = clients[0]->conn.id}, .body = SPAN("news")};
        push_handle(&to.ctx, &sibling, &frame);
        turns();
    }
    cr_expect_eq(recv(peers[0], record, sizeof(record), 0), -1);
    release_all();
    cr_assert_eq(say_yours(BATCH), 0);
    turns();
    ssize_t n = recv(peers[0], record, sizeof(record), 0);
    cr_assert_gt(n, 0);
    n = (ssize_t)sealed_unwrap(&sealed[0], record, (size_t)n, out);
    cr_expect(n == 10 && memcmp(out, "news\nnews\n", 10) == 0);
}
