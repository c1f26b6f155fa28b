/* Bodies of requests with a content coding: what a call has, and what is refused. */

#include <criterion/criterion.h>
#include <string.h>
#include <zlib.h>

#include "common/alloc.h"
#include "frontd/shard/request/request.h"
#include "tests/unit/support/talk.h"

/* There is no worker: calls wait in the queue. */
#define CONF                                                                                       \
    "limits: {body: 2KiB, memory: 16MiB}\n"                                                        \
    "listeners:\n"                                                                                 \
    "  - name: web\n"                                                                              \
    "    address: 127.0.0.1:8082\n"                                                                \
    "    routes:\n"                                                                                \
    "      - {path: /rpc, kind: jsonrpc, pool: app, timeout: 1h}\n"                                \
    "      - {path: /strict, kind: jsonrpc, pool: app, request_encodings: []}\n"                   \
    "      - {path: /http, kind: http, pool: app, request_encodings: [gzip], timeout: 1h}\n"       \
    "      - {path: /as-is, kind: http, pool: app, timeout: 1h}\n"                                 \
    "pools:\n"                                                                                     \
    "  - {name: app, workers: [\"unix:/nonexistent/app.sock\"], wait_for_worker: 1h}\n"
#define CALL "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}"

static struct shardlet shard;

static void set_up(void)
{
    shardlet_init(&shard, CONF, 0);
}

static void tear_down(void)
{
    shardlet_deinit(&shard);
}

TestSuite(coded_body, .init = set_up, .fini = tear_down);

static void end(struct talk *talk)
{
    close(talk->peer);
    shardlet_turn(&shard);
    cr_expect_eq(shard.ctx.open, 0u);
}

static size_t pack(const char *p, size_t n, char *out, size_t size)
{
    z_stream stream = {0};
    cr_assert_eq(deflateInit2(&stream, 9, Z_DEFLATED, 31, 9, Z_DEFAULT_STRATEGY), Z_OK);
    stream.next_in = (unsigned char *)(uintptr_t)p;
    stream.avail_in = (unsigned)n;
    stream.next_out = (unsigned char *)out;
    stream.avail_out = (unsigned)size;
    cr_assert_eq(deflate(&stream, Z_FINISH), Z_STREAM_END);
    deflateEnd(&stream);
    return size - stream.avail_out;
}

/* Sends a body with that coding. */
static struct talk post(const char *path, const char *coding, struct span body)
{
    char text[8192];
    struct talk talk = talk_open(&shard, "web");
    int n = snprintf(text, sizeof(text),
        "POST %s HTTP/1.1\r\nHost: h\r\nContent-Encoding: %s\r\nContent-Length: %zu\r\n\r\n", path,
        coding, body.n);
    cr_assert((size_t)n + body.n < sizeof(text));
    memcpy(text + n, body.p, body.n);
    say(&talk, (struct span){text, (size_t)n + body.n});
    return talk;
}

/* The frame of the only call. */
static struct span frame_of(const struct client *client)
{
    struct request *request = list_first(&client->requests, struct request, node);
    cr_assert(!list_empty(&client->requests) && !list_empty(&request->calls));
    const struct job *job = &list_first(&request->calls, struct call, node)->job;
    return (struct span){buf_data(&job->frame), buf_len(&job->frame)};
}

static bool contains(struct span where, const char *text)
{
    return memmem(where.p, where.n, text, strlen(text)) != NULL;
}

Test(coded_body, rpc)
{
    static const char *const codings[] = {"gzip", "x-gzip", "identity, GZIP"};
    char packed[256];
    const size_t n = pack(CALL, strlen(CALL), packed, sizeof(packed));
    for (size_t i = 0; i < ARRAY_LEN(codings); i++) {
        struct talk talk = post("/rpc", codings[i], (struct span){packed, n});
        cr_expect(contains(frame_of(talk.client), "\"method\":\"m\""), "%s", codings[i]);
        end(&talk);
    }
}

/* What was sent counts as well where clients take turns: blocks from which nothing comes. */
Test(coded_body, turns)
{
    static const char head[10] = {0x1f, (char)0x8b, 8};
    char packed[2000];
    size_t n = sizeof(head);
    memcpy(packed, head, n);
    for (; n + 15 < sizeof(packed); n += 5)
        memcpy(packed + n, "\0\0\0\xff\xff", 5);
    memcpy(packed + n, "\3\0", 2);
    memset(packed + n + 2, 0, 8); /* the checksum and length of nothing */
    struct talk talk = post("/rpc", "gzip", (struct span){packed, n + 10});
    cr_expect(has(&talk, "-32700"), "no JSON");
    cr_expect_geq(shard.ctx.taken, (unsigned)(n >> 9));
    end(&talk);
}

Test(coded_body, chunked_and_cut)
{
    char packed[256], text[512];
    const size_t n = pack(CALL, strlen(CALL), packed, sizeof(packed));
    size_t len = (size_t)snprintf(text, sizeof(text),
        "POST /rpc HTTP/1.1\r\nHost: h\r\nContent-Encoding: gzip\r\n"
        "Transfer-Encoding: chunked\r\n\r\n");
    for (size_t i = 0; i < n; i++) {
        len += (size_t)snprintf(text + len, sizeof(text) - len, "1\r\n");
        text[len++] = packed[i];
        memcpy(text + len, "\r\n", 2);
        len += 2;
        cr_assert(len + 16 < sizeof(text));
    }
    memcpy(text + len, "0\r\n\r\n", 5);
    len += 5;
    for (size_t cut = 1; cut < len; cut += 7) {
        struct talk talk = talk_open(&shard, "web");
        say(&talk, (struct span){text, cut});
        say(&talk, (struct span){text + cut, len - cut});
        cr_expect(contains(frame_of(talk.client), "\"method\":\"m\""), "cut at %zu", cut);
        end(&talk);
    }
}

/* A worker of an http route is told of what it gets; where the route does not say so, that is what
 * was sent. */
Test(coded_body, http)
{
    char packed[256];
    const size_t n = pack("the body", 8, packed, sizeof(packed));
    struct talk talk = post("/http", "gzip", (struct span){packed, n});
    struct span frame = frame_of(talk.client);
    cr_expect(contains(frame, "[[\"host\",\"h\"],[\"content-length\",\"8\"]]}}"), "%.*s",
        (int)frame.n, frame.p);
    cr_expect(memcmp(frame.p + frame.n - 8, "the body", 8) == 0);
    end(&talk);

    talk = post("/http", "gzip", SPAN(""));
    frame = frame_of(talk.client);
    cr_expect(contains(frame, "[\"content-encoding\",\"gzip\"],[\"content-length\",\"0\"]"));
    end(&talk);

    talk = post("/as-is", "gzip", (struct span){packed, n});
    frame = frame_of(talk.client);
    cr_expect(contains(frame, "[\"content-encoding\",\"gzip\"]"));
    cr_expect(memcmp(frame.p + frame.n - n, packed, n) == 0);
    end(&talk);
}

Test(coded_body, refused)
{
    char text[2049], full[256], over[256], bad[256];
    memset(text, ' ', sizeof(text));
    memcpy(text, CALL, strlen(CALL));
    const size_t nfull = pack(text, 2048, full, sizeof(full));
    const size_t nover = pack(text, 2049, over, sizeof(over));
    memcpy(bad, full, nfull);
    bad[nfull - 5] ^= 1;
    const struct {
        const char *path, *coding;
        struct span body;
        const char *said; /* NULL: it becomes a call */
    } rows[] = {
        {"/rpc", "gzip", {full, nfull}, NULL},
        {"/http", "gzip", {full, nfull}, NULL},
        {"/rpc", "gzip", {over, nover}, "HTTP/1.1 413 "},
        {"/rpc", "gzip", {over, nover}, "-32005"},
        {"/http", "gzip", {over, nover}, "HTTP/1.1 413 "},
        {"/rpc", "gzip", {full, nfull - 1}, "HTTP/1.1 400 "},
        {"/rpc", "gzip", {bad, nfull}, "HTTP/1.1 400 "},
        {"/http", "gzip", {bad, nfull}, "HTTP/1.1 400 "},
        {"/rpc", "gzip", {CALL, strlen(CALL)}, "HTTP/1.1 400 "},
        {"/rpc", "gzip", {"", 0}, "-32700"},
        {"/rpc", "br", {full, nfull}, "HTTP/1.1 415 "},
        {"/rpc", "gzip, gzip", {full, nfull}, "\r\nAccept-Encoding: gzip\r\n"},
        {"/http", "deflate", {full, nfull}, "\r\nAccept-Encoding: gzip\r\n"},
        {"/as-is", "deflate", {full, nfull}, NULL},
        {"/strict", "gzip", {full, nfull}, "HTTP/1.1 415 "},
        {"/strict", "gzip", {full, nfull}, "\r\nAccept-Encoding: identity\r\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct talk talk = post(rows[i].path, rows[i].coding, rows[i].body);
        if (rows[i].said == NULL)
            cr_expect(talk.n == 0 && frame_of(talk.client).n > 0, "row %zu: %.*s", i, (int)talk.n,
                talk.out);
        else
            cr_expect(has(&talk, rows[i].said) && !has(&talk, "Connection: close"), "row %zu: %.*s",
                i, (int)talk.n, talk.out);
        end(&talk);
    }
}

/* A body counts as what it inflates to against limits.memory, before it is there. */
Test(coded_body, memory)
{
    static char text[2048];
    char packed[256];
    memset(text, ' ', sizeof(text));
    memcpy(text, CALL, strlen(CALL));
    const size_t n = pack(text, sizeof(text), packed, sizeof(packed));
    struct talk warm = post("/rpc", "gzip", (struct span){packed, n}); /* its buffers are there */
    end(&warm);
    shard.ctx.memory.next = UINT64_MAX; /* the level does not rise, so that only this is tried */
    shard.ctx.memory.limit = mem_held() + 512;
    struct talk talk = post("/rpc", "gzip", (struct span){packed, n});
    cr_expect(has(&talk, "HTTP/1.1 503 ") && has(&talk, "-32001"), "%.*s", (int)talk.n, talk.out);
    end(&talk);
    shard.ctx.memory.limit = mem_held() + (1 << 20);
    talk = post("/rpc", "gzip", (struct span){packed, n});
    cr_expect(frame_of(talk.client).n > 0);
    end(&talk);

    shard.ctx.memory.limit = mem_held() / 95 * 100; /* SHORT */
    shard.ctx.memory.next = 1;
    talk = post("/rpc", "gzip", (struct span){packed, n});
    cr_expect(has(&talk, "HTTP/1.1 503 "), "%.*s", (int)talk.n, talk.out);
    end(&talk);
}
