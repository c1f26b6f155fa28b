#include "frontd/supervisor/asks.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "common/alloc.h"
#include "frontd/supervisor/generation.h"
#include "proto/json_read.h"
#include "proto/jsonrpc.h"
#include "tests/unit/support/descriptors.h"

enum { SHARDS = 14, LIMIT_MS = 30000 /* more than any test takes */ };

static struct front front;
static struct generation generations[2];
static struct shard_process processes[2][SHARDS];
static int shards[2][SHARDS]; /* the shards' ends of their control sockets */
static struct asks asks;
static struct buf result; /* of the last question that is done */
static unsigned parts;
static size_t open_before;

static void add_generation(size_t g, enum generation_role role, uint32_t n)
{
    generations[g] = (struct generation){
        .front = &front, .role = role, .number = g + 1, .processes = processes[g], .nprocesses = n};
    front.generations[g] = &generations[g];
    for (uint32_t i = 0; i < n; i++) {
        int pair[2];
        cr_assert_eq(
            socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
        shards[g][i] = pair[1];
        processes[g][i] = (struct shard_process){.generation = &generations[g],
            .sock = pair[0],
            .pid = (pid_t)(100 * (g + 1) + i),
            .shard = i,
            .state = SHARD_PROCESS_READY,
            .asks = true};
    }
}

static void set_up(void)
{
    cr_assert_eq(uv_loop_init(&front.loop), 0); /* libuv keeps a pipe of the first one */
    cr_assert_eq(uv_loop_close(&front.loop), 0);
    open_before = open_count();
    cr_assert_eq(uv_loop_init(&front.loop), 0);
    asks_init(&asks, &front);
}

static void tear_down(void)
{
    asks_close(&asks);
    uv_run(&front.loop, UV_RUN_DEFAULT);
    cr_assert_eq(uv_loop_close(&front.loop), 0);
    for (size_t g = 0; g < 2; g++) {
        for (uint32_t i = 0; i < generations[g].nprocesses; i++) {
            fdpass_close(&shards[g][i], 1);
            fdpass_close(&processes[g][i].sock, 1);
        }
    }
    buf_deinit(&result);
    cr_assert_eq(open_count(), open_before);
    cr_assert_eq(mem_in_use(), (size_t)0);
}

TestSuite(asks, .init = set_up, .fini = tear_down);

static void on_done(void *data, struct json_writer *done)
{
    cr_expect_eq(data, &front);
    json_end(done, '}');
    cr_assert(!done->failed);
    buf_deinit(&result);
    result = done->out;
    cr_assert_eq(jsonrpc_validate(buf_data(&result), buf_len(&result)), 0, "%.*s",
        (int)buf_len(&result), buf_data(&result));
}

static void on_part(
    struct ask *ask, void *data, const struct shard_process *process, struct span part)
{
    cr_expect_eq(data, &front);
    cr_expect_eq(part.n, 2);
    cr_expect_eq(process, &processes[0][0]);
    asks_note_lost(ask);
    parts++;
}

static const struct ask_ops ops = {.part = on_part, .done = on_done};

static struct ask *ask(uint64_t limit_ms, bool one)
{
    struct ask *made;
    uv_update_time(&front.loop);
    cr_assert_eq(asks_start(&asks, CTL_QUESTION_CONNS, SPAN("{\"a\":1}"), limit_ms, one, &ops,
                     &front, &made),
        0);
    return made;
}

/* The question that a shard has got. Returns its id; 0: none has come. */
static uint64_t got(int shard, enum ctl_question question, const char *params)
{
    struct ctl_message message;
    int fds[FDPASS_FDS_MAX];
    size_t nfds;
    struct buf text = {0};
    if (ctl_receive(shard, &message, fds, &nfds) == -EAGAIN)
        return 0;
    cr_assert_eq(message.type, CTL_ASK);
    cr_assert_eq(message.u.ask.question, question);
    cr_assert_eq(ctl_read_text(fds[0], CTL_ASK_MAX, &text), 0);
    cr_expect(params == NULL || (buf_len(&text) == strlen(params) &&
                                    memcmp(buf_data(&text), params, buf_len(&text)) == 0));
    fdpass_close(fds, nfds);
    buf_deinit(&text);
    return message.u.ask.id;
}

static void tell(struct shard_process *process, uint64_t id, bool more, struct span text)
{
    struct ctl_tell told = {.id = id, .more = more};
    asks_told(&asks, process, &told, text);
}

static void run_until_done(void)
{
    for (int i = 0; i < 20 && buf_len(&result) == 0; i++) /* of half a second at most */
        uv_run(&front.loop, UV_RUN_ONCE);
    cr_assert_gt(buf_len(&result), 0);
}

static size_t count(const char *key)
{
    return json_read_count(
        json_read_member((struct span){buf_data(&result), buf_len(&result)}, key));
}

/* Both generations are asked, and the last answer ends the question. */
Test(asks, all_answer)
{
    add_generation(0, GENERATION_SERVING, 2);
    add_generation(1, GENERATION_LEAVING, 1);
    ask(LIMIT_MS, false);
    uint64_t id = got(shards[0][0], CTL_QUESTION_CONNS, "{\"a\":1}");
    cr_expect_gt(id, 0);
    cr_expect_eq(got(shards[0][1], CTL_QUESTION_CONNS, NULL), id);
    cr_expect_eq(got(shards[1][0], CTL_QUESTION_CONNS, NULL), id);
    tell(&processes[0][0], id, true, SPAN("{}"));
    tell(&processes[0][0], id, false, SPAN("{\"x\":1}"));
    tell(&processes[1][0], id, false, SPAN("{\"x\":2}"));
    tell(&processes[1][0], id, false, SPAN("{\"x\":3}")); /* again: it is left out */
    tell(&processes[0][1], id + 1, false, SPAN("{\"x\":4}"));
    uv_run(&front.loop, UV_RUN_NOWAIT);
    cr_expect_eq(buf_len(&result), 0, "one is missing");
    tell(&processes[0][1], id, false, SPAN("{\"x\":5}"));
    run_until_done();
    static const char text[] =
        "{\"shards\":[{\"shard\":0,\"generation\":1,\"pid\":100,\"answer\":{\"x\":1}},"
        "{\"shard\":0,\"generation\":2,\"pid\":200,\"answer\":{\"x\":2}},"
        "{\"shard\":1,\"generation\":1,\"pid\":101,\"answer\":{\"x\":5}}],"
        "\"silent\":[],\"lost\":1}";
    cr_expect_eq(buf_len(&result), strlen(text));
    cr_expect_eq(memcmp(buf_data(&result), text, strlen(text)), 0, "%.*s", (int)buf_len(&result),
        buf_data(&result));
    cr_expect_eq(parts, 1);
}

/* Those that cannot be asked are silent, and so are those that say nothing in time. */
Test(asks, silence)
{
    struct ctl_message message = {0};
    add_generation(0, GENERATION_SERVING, 5);
    add_generation(1, GENERATION_STARTING, 1);
    processes[0][1].asks = false;
    processes[0][2].state = SHARD_PROCESS_STARTING;
    while (ctl_send(processes[0][3].sock, CTL_OPEN, &message, NULL, 0) == 0)
        ; /* it reads nothing */
    ask(50, false);
    uint64_t id = got(shards[0][0], CTL_QUESTION_CONNS, NULL);
    cr_expect_eq(
        got(shards[0][1], CTL_QUESTION_CONNS, NULL), 0, "an older program would end of it");
    cr_expect_eq(got(shards[0][2], CTL_QUESTION_CONNS, NULL), 0);
    cr_expect_eq(got(shards[1][0], CTL_QUESTION_CONNS, NULL), 0, "it does not serve");
    tell(&processes[0][0], id, false, SPAN("{}"));
    run_until_done();
    cr_expect_eq(count("shards"), 1);
    cr_expect_eq(count("silent"), 4);
    /* What comes too late is dropped; where more would follow, it is said that none is wanted. */
    cr_expect_eq(got(shards[0][4], CTL_QUESTION_CONNS, NULL), id);
    tell(&processes[0][4], id, false, SPAN("{}"));
    cr_expect_eq(got(shards[0][4], CTL_QUESTION_STOP, NULL), 0);
    tell(&processes[0][4], id, true, SPAN("{}"));
    char of[40];
    snprintf(of, sizeof(of), "{\"of\":%llu}", (unsigned long long)id);
    cr_expect_gt(got(shards[0][4], CTL_QUESTION_STOP, of), 0);
}

/* A process that has ended is not waited for, and one that has taken its place is not believed. */
Test(asks, a_shard_ends)
{
    add_generation(0, GENERATION_SERVING, 1);
    ask(LIMIT_MS, false);
    uint64_t id = got(shards[0][0], CTL_QUESTION_CONNS, NULL);
    processes[0][0].pid = 77;
    tell(&processes[0][0], id, false, SPAN("{}"));
    run_until_done();
    cr_expect_eq(count("shards"), 0);
    cr_expect_eq(count("silent"), 1);
}

Test(asks, one)
{
    add_generation(0, GENERATION_SERVING, 3);
    add_generation(1, GENERATION_LEAVING, 1);
    processes[0][0].asks = false;
    ask(LIMIT_MS, true);
    uint64_t id = got(shards[0][1], CTL_QUESTION_CONNS, NULL);
    cr_expect_gt(id, 0);
    cr_expect_eq(got(shards[0][2], CTL_QUESTION_CONNS, NULL), 0);
    cr_expect_eq(got(shards[1][0], CTL_QUESTION_CONNS, NULL), 0);
    tell(&processes[0][1], id, false, SPAN("{}"));
    run_until_done();
    cr_expect_eq(count("shards"), 1);
}

/* As many as may be, and one more; one that is stopped makes room, and shards hear of it. */
Test(asks, as_many_as_may_be)
{
    struct ask *all[ASKS_MAX], *more;
    add_generation(0, GENERATION_SERVING, 1);
    for (size_t i = 0; i < ASKS_MAX; i++) {
        all[i] = ask(LIMIT_MS, false);
        cr_expect_gt(got(shards[0][0], CTL_QUESTION_CONNS, NULL), 0);
    }
    cr_expect_eq(
        asks_start(&asks, CTL_QUESTION_CONNS, SPAN("{}"), LIMIT_MS, false, &ops, &front, &more),
        -EBUSY);
    asks_stop(all[7]);
    cr_expect_gt(got(shards[0][0], CTL_QUESTION_STOP, NULL), 0);
    ask(LIMIT_MS, false);
    cr_expect_eq(buf_len(&result), 0, "done() does not come");
}

/* More than ASKS_RESULT_MAX together: what has no room is an error of that shard. */
Test(asks, long_answers)
{
    static char text[CTL_TELL_MAX];
    add_generation(0, GENERATION_SERVING, SHARDS);
    ask(LIMIT_MS, false);
    memset(text, ' ', sizeof(text));
    text[0] = '{';
    text[sizeof(text) - 1] = '}';
    uint64_t id = got(shards[0][0], CTL_QUESTION_CONNS, NULL);
    for (size_t i = 0; i < SHARDS; i++)
        tell(&processes[0][i], id, false, (struct span){text, sizeof(text)});
    run_until_done();
    cr_expect_eq(count("shards"), SHARDS);
    cr_expect_leq(buf_len(&result), ASKS_RESULT_MAX + 4096);
    cr_expect_gt(buf_len(&result), ASKS_RESULT_MAX - CTL_TELL_MAX);
    cr_expect_not_null(memmem(buf_data(&result), buf_len(&result), "too long together", 17));
}

Test(asks, no_memory)
{
    add_generation(0, GENERATION_SERVING, 2);
    for (long n = 0; n < 5; n++) {
        struct ask *made;
        mem_fail_after(n);
        int r = asks_start(
            &asks, CTL_QUESTION_CONNS, SPAN("{}"), LIMIT_MS, false, &ops, &front, &made);
        mem_fail_after(-1);
        cr_expect(r == 0 || r == -ENOMEM);
        if (r == 0)
            asks_stop(made);
    }
    cr_expect_eq(asks.count, 0);
}
