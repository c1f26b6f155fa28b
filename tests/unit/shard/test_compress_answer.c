/* Answers on routes with `compress`: what a client gets by what it takes, and by what the answer
 * is. */

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/shard/upstream/worker.h"
#include "tests/unit/support/decoded.h"
#include "tests/unit/support/fake_clock.h"
#include "tests/unit/support/fake_worker.h"
#include "tests/unit/support/talk.h"

enum { FROM = 100, UP_TO = 2000 };

static struct shardlet shard;
static struct fake_worker worker;
static struct talk talk;
static char text[UP_TO + 2], back[1 << 20];

static void set_up(void)
{
    struct frame frame;
    char conf[2048];
    fake_worker_listen(&worker);
    snprintf(conf, sizeof(conf),
        "listeners:\n"
        "  - name: web\n"
        "    address: 127.0.0.1:8080\n"
        "    routes:\n"
        "      - {path: /, kind: http, pool: app, compress: {from: %d, up_to: %d}}\n"
        "      - {path: /all, kind: http, pool: app, compress: {from: 1, credentials: true}}\n"
        "      - {path: /br, kind: http, pool: app, compress: {from: 1, encodings: [br]}}\n"
        "      - {path: /off, kind: http, pool: app}\n"
        "      - {path: /rpc, kind: jsonrpc, pool: app, compress: {from: %d, up_to: %d}}\n"
        "pools:\n"
        "  - {name: app, workers: [\"unix:%s\"]}\n",
        FROM, UP_TO, FROM, UP_TO, worker.path);
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = "{\"abc\": 12345, }"[i % 16];
    fake_clock_stop();
    shardlet_init(&shard, conf, 0);
    cr_assert_eq(pool_open(&shard.pools[0]), 0);
    shardlet_turn(&shard);
    cr_assert(fake_worker_accept(&worker));
    cr_assert_eq(fake_worker_next(&worker, &frame), FRAME_HELLO);
    fake_worker_send(&worker, FRAME_HELLO, 0, 0,
        "{\"protocol\":1,\"concurrency\":512,\"features\":[\"stream\"]}");
    shardlet_turn(&shard);
    talk = talk_open(&shard, "web");
}

static void tear_down(void)
{
    close(talk.peer);
    shardlet_turn(&shard);
    cr_expect_eq(shard.ctx.open, 0u);
    cr_expect_eq(shard.parts.compression.coders, 0u);
    shardlet_deinit(&shard);
    fake_worker_end(&worker);
    cr_expect_eq(mem_in_use(), (size_t)0);
}

TestSuite(compress_answer, .init = set_up, .fini = tear_down);

/* Sends a request; returns its call. */
static uint64_t ask(struct talk *of, const char *line, const char *fields)
{
    struct frame frame;
    char request[512];
    unsigned type;
    int n = snprintf(request, sizeof(request), "%s HTTP/1.1\r\nHost: h\r\n%s\r\n", line, fields);
    cr_assert((size_t)n < sizeof(request));
    of->n = 0;
    say(of, (struct span){request, (size_t)n});
    do
        type = fake_worker_next(&worker, &frame);
    while (type == FRAME_PING || type == FRAME_WINDOW || type == FRAME_CANCEL);
    cr_assert_eq(type, FRAME_REQUEST);
    return frame.head.call;
}

/* headers: JSON members of the result behind its status, with the comma. */
static void answer(uint64_t call, unsigned status, const char *headers, struct span body, bool more)
{
    static char bytes[1 << 16];
    int n = snprintf(bytes + FRAME_HEAD_SIZE, sizeof(bytes) - FRAME_HEAD_SIZE,
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"status\":%u%s}}", status, headers);
    const struct frame_head head = {
        .type = FRAME_RESPONSE,
        .flags = more ? FRAME_F_MORE : 0,
        .call = call,
        .length = (uint32_t)((size_t)n + body.n),
        .blob_len = (uint32_t)body.n,
    };
    size_t size = FRAME_HEAD_SIZE + (size_t)n;
    frame_head_write(&head, (uint8_t *)bytes);
    cr_assert_lt(size + body.n, sizeof(bytes));
    if (body.n > 0)
        memcpy(bytes + size, body.p, body.n);
    cr_assert_eq(write(worker.fd, bytes, size + body.n), (ssize_t)(size + body.n));
    say(&talk, SPAN(""));
}

static void data(uint64_t call, struct span bytes, bool more)
{
    fake_worker_send_bytes(&worker, FRAME_DATA, more ? FRAME_F_MORE : 0, call, bytes);
    say(&talk, SPAN(""));
}

/* The body of the answer that has come, of what is there of its chunks, at `out`; its bytes. */
static size_t body_of(const struct talk *of, char *out)
{
    const char *p = memmem(of->out, of->n, "\r\n\r\n", 4), *end = of->out + of->n;
    size_t n = 0;
    cr_assert_not_null(p);
    p += 4;
    if (!has(of, "Transfer-Encoding: chunked")) {
        memcpy(out, p, (size_t)(end - p));
        return (size_t)(end - p);
    }
    while (p < end) {
        char *data_at;
        const size_t size = strtoul(p, &data_at, 16);
        if (size == 0)
            break;
        memcpy(out + n, data_at + 2, size);
        n += size;
        p = data_at + 2 + size + 2;
    }
    return n;
}

static void expect_body(enum content_coding coding, const char *wanted, size_t n, const char *what)
{
    char coded[4096];
    const size_t size = body_of(&talk, coded);
    char length[64];
    if (coding == CODING_IDENTITY) {
        cr_expect(
            size == n && memcmp(coded, wanted, n) == 0, "%s: %.*s", what, (int)talk.n, talk.out);
        cr_expect(!has(&talk, "Content-Encoding"), "%s", what);
    } else {
        cr_expect_eq(
            decoded(coding, (struct span){coded, size}, back, sizeof(back)), (long)n, "%s", what);
        cr_expect_eq(memcmp(back, wanted, n), 0, "%s", what);
        cr_expect(has(&talk, coding == CODING_BR ? "\r\nContent-Encoding: br\r\n"
                                                 : "\r\nContent-Encoding: gzip\r\n"),
            "%s", what);
    }
    snprintf(length, sizeof(length), "\r\nContent-Length: %zu\r\n", size);
    cr_expect(has(&talk, "chunked") || has(&talk, length), "%s", what);
}

#define JSON   ",\"headers\":[[\"content-type\",\"application/json\"]]"
#define ACCEPT "Accept-Encoding: gzip, br\r\n"
#define VARY   "\r\nVary: Accept-Encoding\r\n"

Test(compress_answer, by_request)
{
    static const struct {
        const char *line, *fields;
        enum content_coding coding;
        bool varies;
    } rows[] = {
        {"GET /", ACCEPT, CODING_BR, true},
        {"POST /", ACCEPT, CODING_BR, true},
        {"GET /", "Accept-Encoding: x-gzip\r\n", CODING_GZIP, true},
        {"GET /", "Accept-Encoding: br;q=0.5\r\naccept-encoding: gzip\r\n", CODING_GZIP, true},
        {"GET /", "", CODING_IDENTITY, true},
        {"GET /", "Accept-Encoding: zstd, deflate\r\n", CODING_IDENTITY, true},
        {"GET /", ACCEPT "Cookie: a=b\r\n", CODING_IDENTITY, true},
        {"GET /", ACCEPT "authorization: Basic x\r\n", CODING_IDENTITY, true},
        {"GET /all", ACCEPT "Cookie: a=b\r\nAuthorization: x\r\n", CODING_BR, true},
        {"GET /br", "Accept-Encoding: gzip\r\n", CODING_IDENTITY, true},
        {"GET /br", ACCEPT, CODING_BR, true},
        {"GET /off", ACCEPT, CODING_IDENTITY, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char what[32];
        snprintf(what, sizeof(what), "row %zu", i);
        answer(
            ask(&talk, rows[i].line, rows[i].fields), 200, JSON, (struct span){text, 1600}, false);
        expect_body(rows[i].coding, text, 1600, what);
        cr_expect_eq(has(&talk, VARY), rows[i].varies, "%s", what);
    }
}

/* Each field of the worker's, each status, each size. */
Test(compress_answer, by_answer)
{
#define WITH(more) ",\"headers\":[[\"content-type\",\"text/html; charset=utf-8\"]," more "]"
    static const struct {
        unsigned status;
        const char *headers;
        size_t size;
        bool coded;
        const char *has;
    } rows[] = {
        {200, JSON, FROM, true, VARY},
        {200, JSON, FROM - 1, false, NULL},
        {200, JSON, UP_TO, true, VARY},
        {200, JSON, UP_TO + 1, false, NULL},
        {404, JSON, 1000, true, VARY},
        {500, JSON, 1000, true, VARY},
        {206, JSON, 1000, false, NULL},
        {200, "", 1000, false, NULL},
        {200, ",\"headers\":[[\"content-type\",\"image/png\"]]", 1000, false, NULL},
        {200, WITH("[\"content-encoding\",\"zstd\"]"), 1000, false, NULL},
        {200, WITH("[\"content-range\",\"bytes 0-999/5000\"]"), 1000, false, NULL},
        {200, WITH("[\"cache-control\",\"no-transform\"]"), 1000, false, NULL},
        {200, WITH("[\"repr-digest\",\"x\"]"), 1000, false, NULL},
        {200, WITH("[\"etag\",\"\\\"a\\\"\"]"), 1000, true, "\r\nETag: W/\"a\"\r\n"},
        {200, WITH("[\"vary\",\"origin\"]"), 1000, true, "\r\nvary: origin, Accept-Encoding\r\n"},
        {200, WITH("[\"accept-ranges\",\"bytes\"]"), 1000, true, VARY},
        {200, WITH("[\"content-length\",\"7\"]"), 1000, true, VARY},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const bool own = strstr(rows[i].headers, "zstd") != NULL;
        answer(ask(&talk, "GET /", ACCEPT), rows[i].status, rows[i].headers,
            (struct span){text, rows[i].size}, false);
        cr_expect_eq(has(&talk, "Content-Encoding: br"), rows[i].coded, "row %zu: %.*s", i,
            (int)talk.n, talk.out);
        cr_expect(rows[i].has == NULL ? !has(&talk, "Vary") : has(&talk, rows[i].has),
            "row %zu: %.*s", i, (int)talk.n, talk.out);
        cr_expect(!rows[i].coded || !has(&talk, "ccept-Ranges"), "row %zu", i);
        if (!own && rows[i].coded)
            expect_body(CODING_BR, text, rows[i].size, "a row");
    }
}

/* What does not become smaller goes as it is. */
Test(compress_answer, noise)
{
    char noise[500];
    unsigned state = 7;
    for (size_t i = 0; i < sizeof(noise); i++) {
        state = state * 1664525 + 1013904223;
        noise[i] = (char)(state >> 24);
    }
    answer(ask(&talk, "GET /", ACCEPT), 200, JSON, (struct span){noise, sizeof(noise)}, false);
    expect_body(CODING_IDENTITY, noise, sizeof(noise), "noise");
    cr_expect(has(&talk, VARY));
}

/* HEAD is answered as GET would be, but for a length that is not known; and so is what has not been
 * modified. */
Test(compress_answer, without_body)
{
#define TAG "[\"etag\",\"\\\"a\\\"\"]"
    answer(ask(&talk, "HEAD /", ACCEPT), 200, WITH(TAG ",[\"content-length\",\"1000\"]"), SPAN(""),
        false);
    cr_expect(has(&talk, "Content-Encoding: br") && has(&talk, "ETag: W/\"a\"") &&
              has(&talk, VARY) && !has(&talk, "ontent-Length"));
    answer(
        ask(&talk, "HEAD /", ""), 200, WITH(TAG ",[\"content-length\",\"1000\"]"), SPAN(""), false);
    cr_expect(!has(&talk, "Content-Encoding") && has(&talk, "etag: \"a\"") && has(&talk, VARY) &&
              has(&talk, "Content-Length: 1000"));
    answer(ask(&talk, "HEAD /", ACCEPT), 200, WITH("[\"content-length\",\"99\"]"), SPAN(""), false);
    cr_expect(!has(&talk, "Content-Encoding") && has(&talk, "Content-Length: 99"));

    answer(ask(&talk, "GET /", ACCEPT), 200, JSON, (struct span){text, 1000}, false);
    const char *line = memmem(talk.out, talk.n, "Content-Length: ", 16);
    cr_assert_not_null(line);
    char length[40];
    snprintf(length, sizeof(length), "%.*s", (int)(strcspn(line, "\r")), line);
    answer(ask(&talk, "HEAD /", ACCEPT), 200, JSON, (struct span){text, 1000}, false);
    cr_expect(has(&talk, length) && has(&talk, "Content-Encoding: br"));
    cr_expect_eq(body_of(&talk, back), 0u);

    answer(ask(&talk, "GET /", ACCEPT), 304, WITH(TAG ",[\"content-length\",\"1000\"]"), SPAN(""),
        false);
    cr_expect(has(&talk, "ETag: W/\"a\"") && has(&talk, VARY) && !has(&talk, "Content-Encoding") &&
              !has(&talk, "ontent-Length"));
    answer(ask(&talk, "GET /", ""), 304, WITH(TAG), SPAN(""), false);
    cr_expect(has(&talk, "etag: \"a\"") && has(&talk, VARY));
    answer(ask(&talk, "GET /", ACCEPT), 204, WITH(TAG), SPAN(""), false);
    cr_expect(has(&talk, "etag: \"a\"") && !has(&talk, "Vary"));
}

static void call_rpc(const char *fields, size_t n)
{
    char request[512], reply[4096];
    struct frame frame;
    unsigned type;
    static const char body[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}";
    int size = snprintf(request, sizeof(request),
        "POST /rpc HTTP/1.1\r\nHost: h\r\n%sContent-Length: %zu\r\n\r\n%s", fields,
        sizeof(body) - 1, body);
    talk.n = 0;
    say(&talk, (struct span){request, (size_t)size});
    do
        type = fake_worker_next(&worker, &frame);
    while (type == FRAME_PING);
    cr_assert_eq(type, FRAME_REQUEST);
    snprintf(reply, sizeof(reply), "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"%.*s\"}", (int)n,
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    fake_worker_send(&worker, FRAME_RESPONSE, 0, frame.head.call, reply);
    say(&talk, SPAN(""));
    expect_body(
        strstr(fields, "gzip") != NULL && strlen(reply) >= FROM ? CODING_GZIP : CODING_IDENTITY,
        reply, strlen(reply), fields);
    cr_expect_eq(has(&talk, VARY), strlen(reply) >= FROM);
}

Test(compress_answer, rpc)
{
    call_rpc("Accept-Encoding: gzip\r\n", FROM);
    call_rpc("Accept-Encoding: gzip\r\n", 10);
    call_rpc("Accept-Encoding: deflate\r\n", FROM);
}

/* In parts: what a turn has brought can be read at its end, and the end is the end of all. */
Test(compress_answer, parts)
{
    char coded[4096];
    uint64_t call = ask(&talk, "GET /", ACCEPT);
    answer(call, 200, WITH("[\"etag\",\"\\\"a\\\"\"],[\"content-length\",\"900\"]"),
        (struct span){text, 300}, true);
    cr_expect(has(&talk, "Content-Encoding: gzip") && has(&talk, "chunked") && has(&talk, VARY) &&
              has(&talk, "ETag: W/\"a\"") && !has(&talk, "ontent-Length"));
    cr_expect_eq(shard.parts.compression.coders, 1u);
    for (size_t at = 300; at < 900; at += 100) {
        size_t n = body_of(&talk, coded);
        cr_expect_eq(decoded_so_far((struct span){coded, n}, back, sizeof(back)), at);
        data(call, (struct span){text + at, 100}, at < 800);
    }
    expect_body(CODING_GZIP, text, 900, "parts");
    cr_expect(memcmp(talk.out + talk.n - 5, "0\r\n\r\n", 5) == 0);
    cr_expect_eq(shard.parts.compression.coders, 0u);

    /* a client that takes br alone, and one on a route with br alone, get it as it is */
    call = ask(&talk, "GET /", "Accept-Encoding: br\r\n");
    answer(call, 200, JSON, (struct span){text, 300}, true);
    data(call, (struct span){text + 300, 100}, false);
    expect_body(CODING_IDENTITY, text, 400, "br alone");
    cr_expect(has(&talk, VARY));
    call = ask(&talk, "GET /br", ACCEPT);
    answer(call, 200, JSON, (struct span){text, 300}, true);
    data(call, SPAN(""), false);
    expect_body(CODING_IDENTITY, text, 300, "route with br");

    /* its length is known, and small */
    call = ask(&talk, "GET /", ACCEPT);
    answer(call, 200, WITH("[\"content-length\",\"99\"]"), (struct span){text, 9}, true);
    data(call, (struct span){text + 9, 90}, false);
    cr_expect(has(&talk, "Content-Length: 99") && !has(&talk, "gzip") && !has(&talk, "Vary"));
}

/* Server-Sent Events: each part at once. */
Test(compress_answer, events)
{
    char coded[4096];
    uint64_t call = ask(&talk, "GET /", ACCEPT);
    answer(call, 200, ",\"headers\":[[\"content-type\",\"text/event-stream\"]]", SPAN(""), true);
    for (size_t i = 1; i <= 5; i++) {
        data(call, SPAN("data: x\n\n"), true);
        size_t n = body_of(&talk, coded);
        cr_expect_eq(decoded_so_far((struct span){coded, n}, back, sizeof(back)), i * 9);
    }
    data(call, SPAN("data: y\n\n"), false);
    expect_body(CODING_GZIP, "data: x\n\ndata: x\n\ndata: x\n\ndata: x\n\ndata: x\n\ndata: y\n\n",
        54, "events");
}

/* More or less than the worker has said is broken off, though the client is told no length. */
Test(compress_answer, parts_of_wrong_length)
{
    for (int more = 0; more <= 1; more++) {
        uint64_t call = ask(&talk, "GET /", ACCEPT);
        answer(call, 200, WITH("[\"content-length\",\"500\"]"), (struct span){text, 300}, true);
        data(call, (struct span){text, more ? 201 : 199}, false);
        cr_expect(has(&talk, "Content-Encoding: gzip"));
        cr_expect(memcmp(talk.out + talk.n - 5, "0\r\n\r\n", 5) != 0);
        cr_expect_eq(read(talk.peer, back, 1), 0, "the connection has ended");
        close(talk.peer);
        talk = talk_open(&shard, "web");
        cr_expect_eq(shard.parts.compression.coders, 0u);
    }
}

/* At the limit of states, and past it. */
Test(compress_answer, many_parts)
{
    enum { MANY = COMPRESS_STREAMS_MAX + 1 };
    static struct talk talks[MANY];
    static uint64_t calls[MANY];
    for (size_t i = 0; i < MANY; i++) {
        talks[i] = talk_open(&shard, "web");
        calls[i] = ask(&talks[i], "GET /", ACCEPT);
        answer(calls[i], 200, JSON, (struct span){text, 300}, true);
        say(&talks[i], SPAN(""));
        cr_expect_eq(has(&talks[i], "Content-Encoding: gzip"), i < COMPRESS_STREAMS_MAX, "%zu", i);
    }
    cr_expect_eq(shard.parts.compression.coders, (uint32_t)COMPRESS_STREAMS_MAX);
    close(talks[0].peer); /* a client that leaves gives its state back */
    shardlet_turn(&shard);
    cr_expect_eq(shard.parts.compression.coders, (uint32_t)COMPRESS_STREAMS_MAX - 1);
    answer(ask(&talk, "GET /", ACCEPT), 200, JSON, (struct span){text, 300}, true);
    cr_expect(has(&talk, "Content-Encoding: gzip"));
    for (size_t i = 1; i < MANY; i++)
        close(talks[i].peer);
    shardlet_turn(&shard);
    cr_expect_eq(shard.parts.compression.coders, 1u);
}

/* Where memory is short an answer goes as it is; where it runs out in a part, the answer ends. */
Test(compress_answer, without_memory)
{
    uint64_t call = ask(&talk, "GET /", ACCEPT);
    shard.ctx.memory.limit = mem_held() / 95 * 100; /* SHORT */
    shard.ctx.memory.next = 1;
    answer(call, 200, JSON, (struct span){text, 1000}, false);
    expect_body(CODING_IDENTITY, text, 1000, "short");
    cr_expect_null(shard.parts.compression.store.arena);
    memory_init(&shard.ctx.memory, 0);
    answer(ask(&talk, "GET /", ACCEPT), 200, JSON, (struct span){text, 1000}, false);
    expect_body(CODING_BR, text, 1000, "enough");
}
