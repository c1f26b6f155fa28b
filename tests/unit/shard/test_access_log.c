#include <criterion/criterion.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "frontd/shard/request/access_log.h"
#include "tests/unit/support/talk.h"

/* There is no worker: calls wait in the queue until they are answered by hand. */
#define CONF(format)                                                                               \
    "request_id: x-id\n"                                                                           \
    "slow_log: off\n"                                                                              \
    "access_log: {path: /nowhere, format: \"" format "\"}\n"                                       \
    "listeners:\n"                                                                                 \
    "  - name: web\n"                                                                              \
    "    address: 127.0.0.1:8080\n"                                                                \
    "    routes:\n"                                                                                \
    "      - {path: /rpc, kind: jsonrpc, pool: app, timeout: 1h}\n"                                \
    "pools:\n"                                                                                     \
    "  - {name: app, workers: [\"unix:/nonexistent/app.sock\"], wait_for_worker: 1h}\n"

#define BATCH                                                                                      \
    "[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\"},{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":"   \
    "\"b\"}]"
#define POST(length, id)                                                                           \
    "POST /rpc HTTP/1.1\r\nHost: h\r\nX-Id: " id "\r\nContent-Length: " length "\r\n\r\n"
#define ANSWER "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":0}"

static struct shardlet shard;
static int file;

/* What is in the log so far; it is forgotten. */
static const char *lines(void)
{
    static char text[2 * ACCESS_BUFFER];
    access_log_flush(shard.ctx.access);
    ssize_t n = read(file, text, sizeof(text) - 1);
    text[n < 0 ? 0 : n] = '\0';
    return text;
}

static void begin(const char *conf)
{
    int pair[2];
    shardlet_init(&shard, conf, 0);
    for (uint16_t kind = 0; kind < EXPECT_KINDS; kind++)
        expect_answered(&shard.ctx.expect, kind, 100); /* so that calls start at once */
    cr_assert_eq(pipe2(pair, O_NONBLOCK | O_CLOEXEC), 0);
    file = pair[0];
    cr_assert_eq(access_log_use(&shard.ctx, pair[1]), 0);
}

static void end(struct talk *talk)
{
    close(talk->peer);
    shardlet_turn(&shard);
    shardlet_deinit(&shard);
    close(file);
}

static struct request *the_request(const struct talk *talk)
{
    return list_first(&talk->client->requests, struct request, node);
}

static struct call *first_call(const struct talk *talk)
{
    return list_first(&the_request(talk)->calls, struct call, node);
}

Test(access_log, a_line_when_all_has_ended)
{
    begin(CONF("${request_id} ${status} ${outcome} ${calls} ${rpc_method} ${bytes_in}"));
    struct talk talk = talk_open(&shard, "web");
    say(&talk, SPAN(POST("77", "b-1") BATCH));
    cr_expect_str_eq(lines(), "");
    shardlet_fail(first_call(&talk), RPC_WORKER_LOST);
    cr_expect_str_eq(lines(), "");
    shardlet_answer(first_call(&talk), SPAN(ANSWER), SPAN(""));
    cr_expect_str_eq(lines(), "b-1 200 ok 2 b 77\n");
    say(&talk, SPAN(""));
    cr_expect(has(&talk, "\r\nx-id: b-1\r\n"), "%.*s", (int)talk.n, talk.out);
    say(&talk, SPAN("GET /none HTTP/1.1\r\nHost: h\r\nX-Id: n\r\n\r\n"));
    cr_expect_str_eq(lines(), "n 404 404 0 - 0\n");
    say(&talk, SPAN("GARBAGE\r\n\r\n"));
    const char *line = lines();
    cr_expect_str_eq(line + 32, " 400 400 0 - 0\n", "%s", line);
    end(&talk);
}

Test(access_log, a_client_that_has_gone)
{
    begin(CONF("${request_id} ${status} ${outcome} ${calls}"));
    struct talk talk = talk_open(&shard, "web");
    say(&talk, SPAN(POST("77", "b-1") BATCH));
    shardlet_fail(first_call(&talk), RPC_WORKER_LOST);
    close(talk.peer);
    shardlet_turn(&shard);
    cr_expect_str_eq(lines(), "b-1 - cancelled 2\n");
    talk = talk_open(&shard, "web");
    end(&talk);
}

Test(access_log, ids_that_are_none_are_made)
{
    begin(CONF("${request_id}"));
    static const char *const wrong[] = {"", "a b", "\"", "\xe4", "x/y",
        "123456789-123456789-123456789-123456789-123456789-123456789-123456789-123456789-123456789-"
        "123456789-123456789-123456789-123456789"};
    struct talk talk = talk_open(&shard, "web");
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        char text[512];
        int n = snprintf(
            text, sizeof(text), "GET /n HTTP/1.1\r\nHost: h\r\nX-Id: %s\r\n\r\n", wrong[i]);
        say(&talk, (struct span){text, (size_t)n});
        const char *line = lines();
        cr_expect(
            strlen(line) == 33 && strspn(line, "0123456789abcdef") == 32, "%s: %s", wrong[i], line);
        talk.n = 0;
    }
    char longest[129];
    memset(longest, 'x', 128);
    longest[128] = '\0';
    char text[512];
    int n = snprintf(text, sizeof(text), "GET /n HTTP/1.1\r\nHost: h\r\nX-Id: %s\r\n\r\n", longest);
    say(&talk, (struct span){text, (size_t)n});
    cr_expect_eq(strncmp(lines(), longest, 128), 0);
    say(&talk, SPAN("GET /n HTTP/1.1\r\nHost: h\r\nX-Id: a\r\nX-Id: b\r\n\r\n"));
    cr_expect_eq(strlen(lines()), 33, "two are none");
    end(&talk);
}

/* What is in a full pipe is whole lines, and what does not fit into the buffer is counted. */
Test(access_log, a_pipe_that_is_full)
{
    begin(CONF("${path} ${request_id}"));
    struct talk talk = talk_open(&shard, "web");
    static char text[1100];
    int n = snprintf(text, sizeof(text), "GET /%01000d HTTP/1.1\r\nHost: h\r\nX-Id: e\r\n\r\n", 1);
    for (unsigned i = 0; i < 200; i++) {
        say(&talk, (struct span){text, (size_t)n});
        talk.n = 0;
        access_log_flush(shard.ctx.access);
    }
    uint64_t lost = atomic_load(shard.ctx.count->access_lost);
    cr_expect(lost > 0 && lost < 200);
    size_t have = 0;
    for (const char *got; (got = lines())[0] != '\0';) {
        cr_expect_eq(got[strlen(got) - 1], '\n');
        for (const char *line = got; *line != '\0'; line = strchr(line, '\n') + 1, have++)
            cr_assert_eq(strncmp(line, "/0000", 5), 0, "%.20s", line);
    }
    cr_expect_eq(have, 200 - lost);
    end(&talk);
}

Test(access_log, none_of_the_requests)
{
    begin(CONF("${status}\", sample: \"0"));
    struct talk talk = talk_open(&shard, "web");
    for (unsigned i = 0; i < 50; i++) {
        say(&talk, SPAN("GET /n HTTP/1.1\r\nHost: h\r\n\r\n"));
        talk.n = 0;
    }
    cr_expect_str_eq(lines(), "");
    end(&talk);
}
