#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/alloc.h"
#include "frontd/shard/upstream/channel.h"
#include "tests/unit/support/descriptors.h"
#include "tests/unit/support/fake_clock.h"
#include "tests/unit/support/fake_worker.h"
#include "tests/unit/support/move_conf.h"
#include "tests/unit/support/said.h"
#include "tests/unit/support/shardlet.h"

#define HELLO "{\"protocol\":1,\"concurrency\":2}"

enum { TIMEOUT_MS = 4000, CALL = 1 };

static struct shardlet shard;
static struct fake_worker worker;
static struct channel channel;
static size_t descriptors;

/* What the owner has been told, and what it answers. */
static uint64_t awaited;

static void on_opened(struct channel *of, const struct hello_worker *hello)
{
    say("opened %u;", hello->concurrency);
    cr_assert_eq(of, &channel);
}

static void on_frame(struct channel *of, struct idmap_node *call, const struct frame *frame)
{
    say("%u for %u;", frame->head.type, (unsigned)call->id);
    idmap_remove(&of->calls, call);
}

static void on_too_long(struct channel *of, struct idmap_node *call, const struct frame_head *head)
{
    (void)of;
    say("too long %u for %u;", head->type, (unsigned)call->id);
}

static void on_pushed(struct channel *of, const struct frame *frame)
{
    (void)of;
    say("pushed %u;", frame->head.type);
}

static void on_refused(struct channel *of, const struct frame_head *head, const char *what)
{
    (void)of;
    say("refused %u: %s;", head->type, what);
}

static void on_leaving(struct channel *of, const char *reason, uint64_t last_call)
{
    (void)of;
    say("leaving: %s, above %lld;", reason, (long long)last_call);
}

static void on_lost(struct channel *of, const char *why)
{
    size_t n = 0;
    for (struct idmap_node *call = idmap_take_above(&of->calls, 0); call != NULL; call = call->next)
        n++;
    say("lost with %zu: %s;", n, why);
}

static void on_closed(struct channel *of)
{
    (void)of;
    say("closed;");
}

static uint64_t on_awaited(struct channel *of)
{
    (void)of;
    return awaited;
}

static const struct channel_ops ops = {
    .opened = on_opened,
    .frame = on_frame,
    .too_long = on_too_long,
    .pushed = on_pushed,
    .refused = on_refused,
    .leaving = on_leaving,
    .lost = on_lost,
    .closed = on_closed,
    .awaited = on_awaited,
};

static void set_up(void)
{
    fake_clock_stop();
    shardlet_init(&shard, MOVE_CONF, 0);
    descriptors = open_count();
    fake_worker_listen(&worker);
    cr_assert_eq(channel_init(&channel, &shard.ctx, &ops, "app"), 0);
    channel.timeout = TIMEOUT_MS;
}

static void tear_down(void)
{
    channel_shut(&channel, "shutdown");
    shardlet_turn(&shard);
    channel_deinit(&channel);
    fake_worker_end(&worker);
    cr_expect_eq(open_count(), descriptors);
    shardlet_deinit(&shard);
    cr_expect_eq(mem_in_use(), (size_t)0);
}

TestSuite(channel, .init = set_up, .fini = tear_down);

static int dial(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, worker.path, strlen(worker.path));
    return channel_dial(&channel, (const struct sockaddr *)&address, sizeof(address));
}

/* Up to the front's HELLO. */
static void connect_it(void)
{
    struct frame frame;
    cr_assert_eq(dial(), 0);
    cr_assert_eq(channel.state, CHANNEL_CONNECTING);
    shardlet_turn(&shard);
    cr_assert(fake_worker_accept(&worker));
    cr_assert_eq(fake_worker_next(&worker, &frame), FRAME_HELLO);
    cr_assert_not_null(memmem(frame.body.p, frame.body.n, "\"app\"", 5));
    cr_assert_eq(channel.state, CHANNEL_GREETING);
}

static void open_it(void)
{
    connect_it();
    fake_worker_send(&worker, FRAME_HELLO, 0, 0, HELLO);
    shardlet_turn(&shard);
    cr_assert_eq(channel.state, CHANNEL_OPEN);
    expect_said("opened 2;");
}

static void pass_time(uint64_t ms)
{
    fake_clock_advance(ms);
    shardlet_turn(&shard);
}

/* The types of the frames that the worker has got by now. */
static void expect_sent(const char *text)
{
    char types[64] = "";
    struct frame frame;
    unsigned type;
    while ((type = fake_worker_next(&worker, &frame)) != 0)
        snprintf(types + strlen(types), sizeof(types) - strlen(types), "%u ", type);
    cr_expect_str_eq(types, text);
}

static struct idmap_node calls[2];

static uint64_t send_call(size_t n, bool notify)
{
    struct buf frame = {0};
    struct frame_head head = {.type = FRAME_REQUEST, .length = 2};
    uint64_t end;
    frame_head_write(&head, (uint8_t *)buf_room(&frame, FRAME_HEAD_SIZE));
    buf_added(&frame, FRAME_HEAD_SIZE);
    cr_assert_eq(buf_append(&frame, "{}", 2), 0);
    cr_assert_eq(channel_send_call(&channel, &calls[n], &frame, notify, &end), 0);
    buf_deinit(&frame);
    return end;
}

Test(channel_state, all_pairs)
{
    static const bool allowed[CHANNEL_STATES][CHANNEL_STATES] = {
        [CHANNEL_CLOSED] = {[CHANNEL_CONNECTING] = true},
        [CHANNEL_CONNECTING] = {[CHANNEL_GREETING] = true, [CHANNEL_CLOSING] = true},
        [CHANNEL_GREETING] = {[CHANNEL_OPEN] = true, [CHANNEL_CLOSING] = true},
        [CHANNEL_OPEN] = {[CHANNEL_LEAVING] = true, [CHANNEL_CLOSING] = true},
        [CHANNEL_LEAVING] = {[CHANNEL_LEAVING] = true, [CHANNEL_CLOSING] = true},
        [CHANNEL_CLOSING] = {[CHANNEL_CLOSED] = true},
    };
    for (int from = 0; from < CHANNEL_STATES; from++) {
        for (int to = 0; to < CHANNEL_STATES; to++)
            cr_expect_eq(channel_may_become((enum channel_state)from, (enum channel_state)to),
                allowed[from][to], "%d → %d", from, to);
    }
}

Test(channel_state, is_not_dialled_while_open, .signal = SIGABRT)
{
    struct channel open = {.state = CHANNEL_OPEN};
    channel_dial(&open, NULL, 0);
}

Test(channel_state, is_not_given_back_while_open, .signal = SIGABRT)
{
    struct channel open = {.state = CHANNEL_OPEN};
    channel_deinit(&open);
}

Test(channel, whose_worker_does_not_listen)
{
    close(worker.listener);
    worker.listener = -1;
    cr_expect_eq(dial(), -ECONNREFUSED);
    cr_expect_eq(channel.state, CHANNEL_CLOSED);
    expect_said("");
}

Test(channel, opens_and_is_shut)
{
    open_it();
    channel_shut(&channel, "reason");
    expect_said("lost with 0: reason;");
    expect_sent("7 ");
    cr_expect_eq(channel.state, CHANNEL_CLOSING);
    shardlet_turn(&shard);
    expect_said("closed;");
    cr_expect_eq(channel.state, CHANNEL_CLOSED);
    cr_expect(fake_worker_sees_end(&worker));
    fake_worker_hang_up(&worker);
    open_it(); /* it may be dialled again */
}

/* What comes before HELLO, or instead of it, ends the channel, and the worker is told why. */
Test(channel, refuses_a_hello)
{
    static const struct {
        enum frame_type type;
        const char *body;
        const char *said;
        const char *sent;
    } cases[] = {
        {FRAME_HELLO, "{\"protocol\":2}", "lost with 0: version;closed;", "7 "},
        {FRAME_HELLO, "[]", "lost with 0: bad HELLO;closed;", "7 "},
        {FRAME_RESPONSE, "{}", "lost with 0: HELLO comes first;closed;", "7 "},
        {FRAME_PUBLISH, "{}", "lost with 0: HELLO comes first;closed;", "7 "},
        {FRAME_GOAWAY, "{\"reason\":\"version\"}", "lost with 0: version;closed;", ""},
        {(enum frame_type)99, "", "lost with 0: unknown frame type;closed;", "7 "},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        connect_it();
        fake_worker_send(&worker, cases[i].type, 0, 0, cases[i].body);
        shardlet_turn(&shard);
        expect_said(cases[i].said);
        expect_sent(cases[i].sent);
        cr_expect_eq(channel.state, CHANNEL_CLOSED);
        fake_worker_hang_up(&worker);
    }
}

Test(channel, whose_hello_does_not_come)
{
    connect_it();
    pass_time(CHANNEL_HELLO_MS - 1);
    expect_said("");
    pass_time(1);
    expect_said("lost with 0: no HELLO in time;closed;");
    cr_expect(channel.mute);
}

Test(channel, a_second_hello_is_refused_alone)
{
    open_it();
    fake_worker_send(&worker, FRAME_HELLO, 0, 0, HELLO);
    fake_worker_send(&worker, FRAME_PING, 0, 0, "abc");
    fake_worker_send(&worker, FRAME_REQUEST, 0, 0, "{}");
    shardlet_turn(&shard);
    expect_said("refused 1: HELLO has come before;refused 2: only a front sends it;");
    expect_sent("6 ");
    cr_expect_eq(channel.state, CHANNEL_OPEN);
}

Test(channel, gives_answers_to_calls_that_are_in_progress)
{
    open_it();
    send_call(0, false);
    send_call(1, true); /* a notification is no call in progress */
    cr_expect(calls[0].id == 1 && calls[1].id == 2 && channel.calls.count == 1);
    shardlet_turn(&shard);
    expect_sent("2 2 ");
    fake_worker_send(&worker, FRAME_RESPONSE, 0, 2, "{}");
    fake_worker_send(&worker, FRAME_RESPONSE, 0, 1, "{}");
    fake_worker_send(&worker, FRAME_RESPONSE, 0, 1, "{}");
    fake_worker_send(&worker, FRAME_PUSH, 0, 0, "{}");
    shardlet_turn(&shard);
    expect_said("refused 3: the call is not in progress;3 for 1;"
                "refused 3: the call is not in progress;pushed 8;");
}

Test(channel, tells_what_has_been_written)
{
    open_it();
    uint64_t end = send_call(0, false);
    cr_expect_lt(channel.stream.written, end);
    shardlet_turn(&shard);
    cr_expect_eq(channel.stream.written, end);
}

Test(channel, takes_no_frame_that_the_worker_does_not_take)
{
    struct buf frame = {0};
    uint64_t end;
    open_it();
    channel.max_frame = 10;
    cr_assert_not_null(buf_room(&frame, FRAME_HEAD_SIZE + 11));
    buf_added(&frame, FRAME_HEAD_SIZE + 11);
    cr_expect_eq(channel_send_call(&channel, &calls[0], &frame, false, &end), -EMSGSIZE);
    cr_expect_eq(channel.calls.count, (size_t)0);
    buf_deinit(&frame);
}

Test(channel, says_which_calls_were_not_started)
{
    open_it();
    send_call(0, false);
    fake_worker_send(&worker, FRAME_GOAWAY, 0, 0, "{\"reason\":\"restart\",\"last_call\":1}");
    shardlet_turn(&shard);
    expect_said("leaving: restart, above 1;");
    cr_expect_eq(channel.state, CHANNEL_LEAVING);
    cr_expect(!channel_usable(&channel));
    fake_worker_send(&worker, FRAME_RESPONSE, 0, CALL, "{}");
    fake_worker_send(&worker, FRAME_GOAWAY, 0, 0, "{}");
    fake_worker_hang_up(&worker);
    shardlet_turn(&shard);
    expect_said("3 for 1;leaving: , above -1;lost with 0: the peer closed it;closed;");
}

Test(channel, is_lost_with_its_calls)
{
    open_it();
    send_call(0, false);
    send_call(1, false);
    fake_worker_hang_up(&worker);
    shardlet_turn(&shard);
    cr_expect(
        strncmp(said, "lost with 2: ", 13) == 0 && strstr(said, ";closed;") != NULL, "%s", said);
}

/* Nothing waits for the worker: it has 15 s, and 45 s more after a PING. */
Test(channel, pings_after_a_silence)
{
    open_it();
    for (int i = 0; i < 14; i++)
        pass_time(1000);
    expect_sent("");
    pass_time(1000);
    expect_sent("5 ");
    fake_worker_send(&worker, FRAME_PONG, 0, 0, "");
    shardlet_turn(&shard);
    for (int i = 0; i < 15; i++)
        pass_time(1000);
    expect_sent("5 ");
    for (int i = 0; i < 44; i++)
        pass_time(1000);
    expect_said("");
    cr_expect_eq(channel.state, CHANNEL_OPEN);
    pass_time(1000);
    expect_said("lost with 0: it does not answer;closed;");
    cr_expect(channel.hung);
}

/* Calls wait for it: it has `timeout`, with a PING after a quarter of it. */
Test(channel, is_given_up_after_its_timeout_while_calls_wait)
{
    open_it();
    send_call(0, false);
    shardlet_turn(&shard);
    expect_sent("2 ");
    awaited = ctx_now(&shard.ctx);
    for (int i = 0; i < 9; i++)
        pass_time(100);
    expect_sent("");
    pass_time(100);
    expect_sent("5 ");
    for (int i = 0; i < 29; i++)
        pass_time(100);
    expect_said("");
    pass_time(100);
    expect_said("lost with 1: it does not answer;closed;");
    cr_expect(channel.hung);
}

Test(channel, lives_as_long_as_it_answers_ping)
{
    open_it();
    send_call(0, false);
    awaited = ctx_now(&shard.ctx);
    for (int i = 0; i < 100; i++) {
        struct frame frame;
        unsigned type;
        pass_time(TIMEOUT_MS / 10);
        while ((type = fake_worker_next(&worker, &frame)) != 0) {
            if (type == FRAME_PING)
                fake_worker_send(&worker, FRAME_PONG, 0, 0, "");
        }
    }
    expect_said("");
    cr_expect_eq(channel.state, CHANNEL_OPEN);
}

/* A worker that handles one call at a time cannot answer PING meanwhile. */
Test(channel, may_be_silent_where_the_owner_says_so)
{
    open_it();
    awaited = CHANNEL_MAY_BE_SILENT;
    for (int i = 0; i < 120; i++)
        pass_time(1000);
    expect_said("");
    cr_expect_eq(channel.state, CHANNEL_OPEN);
}
