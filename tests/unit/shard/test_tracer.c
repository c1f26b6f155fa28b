#include <criterion/criterion.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frontd/ipc/trace_record.h"
#include "frontd/shard/request/tracer.h"
#include "tests/unit/support/talk.h"

/* There is no worker: calls wait in the queue until they are answered by hand. */
#define CONF(keys)                                                                                 \
    "slow_log: off\n"                                                                              \
    "tracing: {endpoint: \"http://127.0.0.1:9\", " keys "}\n"                                      \
    "listeners:\n"                                                                                 \
    "  - name: web\n"                                                                              \
    "    address: 127.0.0.1:8080\n"                                                                \
    "    routes:\n"                                                                                \
    "      - {path: /rpc, kind: jsonrpc, pool: app, timeout: 1h}\n"                                \
    "pools:\n"                                                                                     \
    "  - {name: app, workers: [\"unix:/nonexistent/app.sock\"], wait_for_worker: 1h}\n"

#define CALL   "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}"
#define ANSWER "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-77,\"message\":\"\"}}"
#define TRACE  "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"

static struct shardlet shard;
static int exporter;

static void begin(const char *conf)
{
    int pair[2];
    shardlet_init(&shard, conf, 0);
    for (uint16_t kind = 0; kind < EXPECT_KINDS; kind++)
        expect_answered(&shard.ctx.expect, kind, 100); /* so that calls start at once */
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
    exporter = pair[0];
    cr_assert_eq(tracer_use(&shard.ctx, pair[1]), 0);
}

static void end(struct talk *talk)
{
    close(talk->peer);
    shardlet_turn(&shard);
    shardlet_deinit(&shard);
    close(exporter);
}

/* Calls with this head; what the worker would get of it is *ret_meta. */
static void call(struct talk *talk, const char *fields, char *ret_meta, size_t size)
{
    char text[512];
    int n = snprintf(text, sizeof(text),
        "POST /rpc HTTP/1.1\r\nHost: h\r\n%sContent-Length: %zu\r\n\r\n" CALL, fields,
        strlen(CALL));
    say(talk, (struct span){text, (size_t)n});
    struct request *request = list_first(&talk->client->requests, struct request, node);
    struct call *call = list_first(&request->calls, struct call, node);
    const char *frame = buf_data(&call->job.frame);
    const char *body = memmem(frame, buf_len(&call->job.frame), CALL, strlen(CALL));
    snprintf(
        ret_meta, size, "%.*s", (int)(body - frame) - FRAME_HEAD_SIZE, frame + FRAME_HEAD_SIZE);
    shardlet_answer(call, SPAN(ANSWER), SPAN(""));
    talk->n = 0;
}

static bool receive(struct trace_record *ret)
{
    static char message[TRACE_MESSAGE_MAX];
    bool bad;
    tracer_flush(shard.ctx.tracer);
    ssize_t n = recv(exporter, message, sizeof(message), 0);
    struct span left = {message, n < 0 ? 0 : (size_t)n};
    return trace_record_next(&left, ret, &bad);
}

Test(tracer, a_call)
{
    char meta[256], span[17] = "", trace[33] = "";
    struct trace_record record;
    begin(CONF("ratio: 0"));
    struct talk talk = talk_open(&shard, "web");
    call(&talk, "traceparent: " TRACE "01\r\ntracestate: a=1\r\n", meta, sizeof(meta));
    cr_assert(receive(&record));
    traceparent_hex(record.span, sizeof(record.span), span);
    traceparent_hex(record.trace, sizeof(record.trace), trace);
    char wanted[256];
    snprintf(wanted, sizeof(wanted), "{\"traceparent\":\"00-%s-%s-01\",\"tracestate\":\"a=1\"}",
        trace, span);
    cr_expect_str_eq(meta, wanted);
    cr_expect_eq(strncmp(TRACE, wanted + 16, 36), 0);
    cr_expect_eq(record.parent[0], 0xb7);
    cr_expect(record.error == -77 && record.failed && record.status == 200);
    cr_expect_eq(record.texts[TRACE_METHOD].n, 1);
    cr_expect_eq(record.texts[TRACE_ID].n, 1);
    end(&talk);
}

Test(tracer, which_are_recorded)
{
    static const struct {
        const char *keys;
        const char *fields;
        bool recorded;
    } rows[] = {
        {CONF("ratio: 0"), "", false},
        {CONF("ratio: 1"), "", true},
        {CONF("ratio: 1"), "traceparent: " TRACE "00\r\n", false},
        {CONF("ratio: 1, parent: false"), "traceparent: " TRACE "00\r\n", true},
        {CONF("ratio: 0, parent: false"), "traceparent: " TRACE "01\r\n", false},
        {CONF("ratio: 1"), "traceparent: " TRACE "00\r\ntraceparent: " TRACE "00\r\n", true},
        {CONF("ratio: 0"), "traceparent: " TRACE "01x\r\n", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char meta[256];
        struct trace_record record;
        begin(rows[i].keys);
        struct talk talk = talk_open(&shard, "web");
        call(&talk, rows[i].fields, meta, sizeof(meta));
        cr_expect_eq(receive(&record), rows[i].recorded, "%zu", i);
        const char *flags = meta + strlen("{\"traceparent\":\"") + 53;
        cr_expect_eq(flags[1] & 1, rows[i].recorded, "%s", meta);
        end(&talk);
    }
}

/* A process that does not take spans costs those, and nothing else. */
Test(tracer, a_full_socket)
{
    char meta[256];
    begin(CONF("ratio: 1"));
    struct talk talk = talk_open(&shard, "web");
    for (unsigned i = 0; i < 5000 && atomic_load(shard.ctx.count->spans_lost) == 0; i++) {
        call(&talk, "", meta, sizeof(meta));
        tracer_flush(shard.ctx.tracer);
    }
    cr_expect_eq(atomic_load(shard.ctx.count->spans_lost), 1);
    end(&talk);
}

/* Spans of some turns go in one message, which goes by itself after a while. */
Test(tracer, many_in_a_message)
{
    char meta[256];
    static char message[TRACE_MESSAGE_MAX];
    struct trace_record record;
    unsigned records = 0;
    ssize_t n = -1;
    bool bad;
    begin(CONF("ratio: 1"));
    struct talk talk = talk_open(&shard, "web");
    for (unsigned i = 0; i < 3; i++)
        call(&talk, "", meta, sizeof(meta));
    for (unsigned i = 0; i < 1000 && n < 0; i++) {
        usleep(5000);
        shardlet_turn(&shard);
        n = recv(exporter, message, sizeof(message), 0);
    }
    struct span left = {message, n < 0 ? 0 : (size_t)n};
    while (trace_record_next(&left, &record, &bad))
        records++;
    cr_expect_eq(records, 3);
    cr_expect_not(wheel_armed(&shard.ctx.tracer->timer));
    end(&talk);
}
