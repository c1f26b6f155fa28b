/* Compressed messages of WebSockets: what is agreed on, what comes and goes, and what moves. */

#include <criterion/criterion.h>
#include <string.h>
#include <zlib.h>

#include "frontd/codec/ws_deflate.h"
#include "frontd/shard/push/fanout.h"
#include "frontd/shard/push/push.h"
#include "frontd/shard/request/request.h"
#include "tests/unit/support/talk.h"

/* There is no worker: calls wait in the queue. */
#define CONF       CONF_OF("2KiB")
#define LARGE_CONF CONF_OF("1MiB")
#define CONF_OF(body)                                                                              \
    "limits: {body: " body "}\n"                                                                   \
    "listeners:\n"                                                                                 \
    "  - name: web\n"                                                                              \
    "    address: 127.0.0.1:8081\n"                                                                \
    "    routes:\n"                                                                                \
    "      - {path: /ws, kind: websocket, pool: app, compression: true}\n"                         \
    "      - {path: /plain, kind: websocket, pool: app}\n"                                         \
    "pools:\n"                                                                                     \
    "  - {name: app, workers: [\"unix:/nonexistent/app.sock\"], wait_for_worker: 1h}\n"

#define SHAKE(path, extensions)                                                                    \
    "GET " path " HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"            \
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" extensions      \
    "\r\n"
#define OFFER "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
#define AGREED                                                                                     \
    "\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; "               \
    "client_no_context_takeover\r\n\r\n"
#define CALL     "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}"
#define HELLO    "\xf2\x48\xcd\xc9\xc9\x07\x00" /* RFC 7692 section 7.2.3.1 */
#define BODY_MAX 2048

static struct shardlet shard, other;
static struct deflater deflater;

static void set_up(void)
{
    shardlet_init(&shard, CONF, 0);
    shardlet_init(&other, CONF, 1);
    for (uint16_t kind = 0; kind < EXPECT_KINDS; kind++) {
        expect_answered(&shard.ctx.expect, kind, 100); /* so that calls start at once */
        expect_answered(&other.ctx.expect, kind, 100);
    }
}

static void tear_down(void)
{
    deflater_deinit(&deflater);
    shardlet_deinit(&shard);
    shardlet_deinit(&other);
}

TestSuite(ws_compress, .init = set_up, .fini = tear_down);

static struct talk begin(const char *handshake)
{
    struct talk talk = talk_open(&shard, "web");
    say(&talk, (struct span){handshake, strlen(handshake)});
    cr_assert(has(&talk, "HTTP/1.1 101 "));
    return talk;
}

static struct talk agreed(void)
{
    struct talk talk = begin(SHAKE("/ws", OFFER));
    cr_assert(has(&talk, AGREED));
    talk.n = 0;
    return talk;
}

static void end(struct talk *talk)
{
    close(talk->peer);
    shardlet_turn(talk->shard);
    cr_expect_eq(talk->shard->ctx.open, 0u);
}

/* A client's frame with a mask of zero. */
static struct span framed(unsigned first, struct span payload)
{
    static char out[4096];
    size_t at = ws_head_write((uint8_t *)out, WS_TEXT, payload.n);
    cr_assert_lt(at + 4 + payload.n, sizeof(out));
    out[0] = (char)first;
    out[1] = (char)((unsigned char)out[1] | 0x80);
    memset(out + at, 0, 4);
    memcpy(out + at + 4, payload.p, payload.n);
    return (struct span){out, at + 4 + payload.n};
}

/* A message compressed as well as zlib can. */
static struct span squeezed(const char *p, size_t n)
{
    static char out[4096];
    z_stream stream = {0};
    cr_assert_eq(deflateInit2(&stream, 9, Z_DEFLATED, -15, 9, Z_DEFAULT_STRATEGY), Z_OK);
    stream.next_in = (unsigned char *)(uintptr_t)p;
    stream.avail_in = (unsigned)n;
    stream.next_out = (unsigned char *)out;
    stream.avail_out = sizeof(out);
    cr_assert(deflate(&stream, Z_SYNC_FLUSH) == Z_OK && stream.avail_out > 0);
    deflateEnd(&stream);
    return (struct span){out, sizeof(out) - stream.avail_out - 4};
}

/* The payload of the one frame that has come, whose first byte is told. */
static struct span only_frame(struct talk *talk, unsigned *ret_first)
{
    cr_assert_geq(talk->n, 2);
    const uint8_t *p = (const uint8_t *)talk->out;
    size_t n = p[1] & 0x7f, head = 2;
    *ret_first = p[0];
    if (n == 126) {
        n = (size_t)p[2] << 8 | p[3];
        head = 4;
    }
    cr_assert_eq(talk->n, head + n);
    talk->n = 0;
    return (struct span){talk->out + head, n};
}

/* Whether the one frame that has come is a compressed message with this text. */
static bool inflates_to(struct talk *talk, struct span text)
{
    struct buf out = {0};
    unsigned first;
    struct span payload = only_frame(talk, &first);
    bool same = first == 0xc1 && payload.n < text.n &&
                ws_inflate(&deflater, payload, 1 << 20, &out) == 0 && buf_len(&out) == text.n &&
                memcmp(buf_data(&out), text.p, text.n) == 0;
    buf_deinit(&out);
    return same;
}

static bool is_plain(struct talk *talk, struct span text)
{
    unsigned first;
    struct span payload = only_frame(talk, &first);
    return first == 0x81 && payload.n == text.n && memcmp(payload.p, text.p, text.n) == 0;
}

static bool closed_with(struct talk *talk, unsigned code)
{
    unsigned first;
    struct span payload = only_frame(talk, &first);
    return first == 0x88 && payload.n >= 2 &&
           ((uint8_t)payload.p[0] << 8 | (uint8_t)payload.p[1]) == (int)code;
}

static struct call *only_call(const struct client *client)
{
    struct request *request = list_first(&client->requests, struct request, node);
    cr_assert(!list_empty(&client->requests) && !list_empty(&request->calls));
    return list_first(&request->calls, struct call, node);
}

static struct span long_answer(void)
{
    static char text[1000];
    size_t n = (size_t)snprintf(text, sizeof(text), "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"");
    memset(text + n, 'r', 600);
    memcpy(text + n + 600, "\"}", 3);
    return (struct span){text, n + 602};
}

Test(ws_compress, agreed_on_where_the_route_has_it)
{
    static const struct {
        const char *handshake;
        bool agreed;
    } rows[] = {
        {SHAKE("/ws", OFFER), true},
        {SHAKE("/ws", ""), false},
        {SHAKE("/plain", OFFER), false},
        {SHAKE("/ws", "Sec-WebSocket-Extensions: permessage-deflate; x\r\n"), false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct talk talk = begin(rows[i].handshake);
        cr_expect_eq(has(&talk, AGREED), rows[i].agreed, "row %zu", i);
        cr_expect_eq(has(&talk, "Extensions"), rows[i].agreed, "row %zu", i);
        talk.n = 0;
        struct span packed = squeezed(CALL, sizeof(CALL) - 1);
        say(&talk, framed(0xc1, packed));
        if (rows[i].agreed) {
            shardlet_answer(only_call(talk.client), long_answer(), (struct span){0});
            say(&talk, (struct span){0});
            cr_expect(inflates_to(&talk, long_answer()), "row %zu", i);
        } else {
            cr_expect(closed_with(&talk, 1002), "row %zu", i);
        }
        end(&talk);
    }
}

/* A call reaches the worker as it was before it was compressed; what is short is answered plainly.
 */
Test(ws_compress, calls)
{
    static const char answer[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":true}";
    struct talk talk = agreed();
    say(&talk, framed(0xc1, squeezed(CALL, sizeof(CALL) - 1)));
    struct call *call = only_call(talk.client);
    cr_expect(buf_len(&call->job.frame) > sizeof(CALL) &&
              memmem(buf_data(&call->job.frame), buf_len(&call->job.frame), CALL,
                  sizeof(CALL) - 1) != NULL);
    shardlet_answer(call, SPAN(answer), (struct span){0});
    say(&talk, (struct span){0});
    cr_expect(is_plain(&talk, SPAN(answer)));
    /* Messages that are not compressed may come all the same. */
    say(&talk, framed(0x81, SPAN(CALL)));
    shardlet_answer(only_call(talk.client), long_answer(), (struct span){0});
    say(&talk, (struct span){0});
    cr_expect(inflates_to(&talk, long_answer()));
    end(&talk);
}

Test(ws_compress, refused)
{
    static char text[4096];
    memset(text, ' ', sizeof(text));
    memcpy(text, CALL, sizeof(CALL) - 1);
    struct talk talk = agreed();
    say(&talk, framed(0xc1, squeezed(text, BODY_MAX)));
    shardlet_answer(only_call(talk.client), long_answer(), (struct span){0});
    say(&talk, (struct span){0});
    cr_expect(inflates_to(&talk, long_answer()));
    say(&talk, framed(0xc1, squeezed(text, BODY_MAX + 1)));
    cr_expect(closed_with(&talk, 1009));
    end(&talk);
    talk = agreed();
    say(&talk, framed(0xc1, SPAN("\x06")));
    cr_expect(closed_with(&talk, 1007));
    end(&talk);
    talk = agreed();
    say(&talk, framed(0xc1, squeezed("\xff", 1)));
    cr_expect(closed_with(&talk, 1007));
    end(&talk);
    talk = agreed();
    say(&talk, framed(0xc2, squeezed("\xff", 1)));
    cr_expect(closed_with(&talk, 1003), "JSON-RPC is text, compressed or not");
    buf_truncate(&shard.ctx.ws_compression->read, 0);
    say(&talk, framed(0xc1, squeezed(CALL, sizeof(CALL) - 1)));
    cr_expect(talk.n == 0 && talk.client->state == CLIENT_OPEN &&
                  buf_len(&shard.ctx.ws_compression->read) == 0,
        "not inflated after our Close");
    end(&talk);
    talk = agreed();
    say(&talk, framed(0xc1, SPAN(HELLO)));
    cr_expect(has(&talk, "-32700"), "no JSON");
    end(&talk);
}

/* Blocks from which nothing comes count as well, where clients take turns. */
Test(ws_compress, turns)
{
    static char blocks[BODY_MAX];
    for (size_t i = 0; i + 5 < BODY_MAX; i += 5)
        memcpy(blocks + i, "\0\0\0\xff\xff", 5);
    struct talk talk = agreed();
    say(&talk, framed(0xc1, (struct span){blocks, BODY_MAX / 5 * 5 + 1}));
    cr_expect(has(&talk, "-32700"), "no JSON");
    cr_expect_geq(shard.ctx.taken, BODY_MAX / 512u);
    end(&talk);
}

/* What a large message takes is given back after it, and is within limits.memory. */
Test(ws_compress, memory)
{
    enum { SIZE = 300000, ROOM = 100000 /* less than a window's worth of what grows */ };
    static struct shardlet large;
    char *text = mem_zalloc(SIZE);
    cr_assert_not_null(text);
    memset(text, ' ', SIZE);
    memcpy(text, CALL, sizeof(CALL) - 1);
    shardlet_init(&large, LARGE_CONF, 2);
    struct talk talk = talk_open(&large, "web");
    say(&talk, SPAN(SHAKE("/ws", OFFER)));
    cr_assert(has(&talk, AGREED));
    talk.n = 0;
    say(&talk, framed(0xc1, squeezed(text, SIZE)));
    struct call *call = only_call(talk.client);
    cr_expect_geq(large.ctx.taken, SIZE / 4096u, "counts, where clients take turns");
    cr_expect_leq(large.ctx.ws_compression->read.size, 65536u);
    memset(text, 'r', SIZE);
    memcpy(text, long_answer().p, 100);
    memcpy(text + SIZE - 2, "\"}", 2);
    shardlet_answer(call, (struct span){text, SIZE}, (struct span){0});
    say(&talk, (struct span){0});
    cr_expect(inflates_to(&talk, (struct span){text, SIZE}));
    cr_expect_leq(large.ctx.ws_compression->written.size, 65536u);
    struct shared shared = {.payload = {text, SIZE}};
    client_session(talk.client)->deliver(talk.client, &shared);
    say(&talk, (struct span){0});
    cr_expect(inflates_to(&talk, shared.payload));
    shared_deinit(&shared);
    cr_expect_leq(large.ctx.ws_compression->written.size, 65536u);
    memory_init(&large.ctx.memory, mem_held() + (uint64_t)2 * ROOM);
    say(&talk, framed(0xc1, squeezed(text, SIZE)));
    cr_expect(closed_with(&talk, 1013));
    end(&talk);
    mem_free(text);
    shardlet_deinit(&large);
}

/* What is pushed goes to each as was agreed on with it. */
Test(ws_compress, pushes)
{
    static const struct push_from sibling;
    static char meta[] = "{\"topic\":\"t\"}";
    struct talk talks[] = {agreed(), begin(SHAKE("/ws", "")), agreed(),
        begin(SHAKE(
            "/ws", "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9\r\n"))};
    for (size_t i = 0; i < ARRAY_LEN(talks); i++) {
        struct frame frame = {
            .head = {.type = FRAME_SUBSCRIBE, .conn = talks[i].client->conn.id},
            .meta = SPAN(meta),
        };
        push_handle(&shard.ctx, &sibling, &frame);
        talks[i].n = 0;
    }
    struct frame frame = {
        .head = {.type = FRAME_PUBLISH}, .meta = SPAN(meta), .body = long_answer()};
    push_handle(&shard.ctx, &sibling, &frame);
    for (size_t i = 0; i < ARRAY_LEN(talks); i++) {
        say(&talks[i], (struct span){0});
        cr_expect(
            i == 1 ? is_plain(&talks[i], long_answer()) : inflates_to(&talks[i], long_answer()),
            "the %zuth", i);
    }
    for (size_t i = 0; i < ARRAY_LEN(talks); i++) {
        close(talks[i].peer);
        shardlet_turn(&shard);
    }
}

/* A message is compressed once for each size of window, in whatever order connections come, and
 * that is work that counts. */
Test(ws_compress, pushes_to_several_windows)
{
    static const char *const extensions[] = {
        SHAKE("/ws", "Sec-WebSocket-Extensions: permessage-deflate\r\n"),
        SHAKE("/ws", "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9\r\n"),
    };
    struct talk talks[6];
    struct shared shared = {.payload = long_answer()};
    struct message *first[2] = {NULL, NULL};
    for (size_t i = 0; i < ARRAY_LEN(talks); i++) {
        talks[i] = begin(extensions[i % 2]);
        talks[i].n = 0;
        const uint64_t before = shard.ctx.work;
        client_session(talks[i].client)->deliver(talks[i].client, &shared);
        cr_expect_eq(shard.ctx.work - before > WORK_WRITE + long_answer().n / 64, i < 2);
        struct message *of[] = {
            shared.deflated[WS_DEFLATE_WINDOWS - 1],
            shared.deflated[0],
        };
        cr_expect(i == 0 || (of[0] == first[0] && of[0] != NULL));
        cr_expect(i < 2 || (of[1] == first[1] && of[1] != NULL));
        memcpy(first, of, sizeof(first));
        say(&talks[i], (struct span){0});
        cr_expect(inflates_to(&talks[i], long_answer()), "the %zuth", i);
    }
    shared_deinit(&shared);
    for (size_t i = 0; i < ARRAY_LEN(talks); i++) {
        close(talks[i].peer);
        shardlet_turn(&shard);
    }
}

/* Cut at any byte of a compressed message in two fragments, it goes on in another shard. */
Test(ws_compress, moves)
{
    struct span packed = squeezed(CALL, sizeof(CALL) - 1);
    char bytes[256];
    size_t n = 0;
    struct span part = framed(0x41, (struct span){packed.p, 5});
    memcpy(bytes, part.p, part.n);
    n += part.n;
    part = framed(0x80, (struct span){packed.p + 5, packed.n - 5});
    memcpy(bytes + n, part.p, part.n);
    n += part.n;
    for (size_t cut = 0; cut < n; cut++) {
        struct talk talk = agreed();
        say(&talk, (struct span){bytes, cut});
        cr_assert_eq(shardlet_move(&talk.client, &other), 0, "cut at %zu", cut);
        talk.shard = &other;
        say(&talk, (struct span){bytes + cut, n - cut});
        shardlet_answer(only_call(talk.client), long_answer(), (struct span){0});
        say(&talk, (struct span){0});
        cr_expect(inflates_to(&talk, long_answer()), "cut at %zu", cut);
        end(&talk);
        shardlet_turn(&shard);
    }
}

/* Where there is no memory the connection ends, or the answer goes as it is; nothing is left. */
Test(ws_compress, no_memory)
{
    static char bytes[256];
    struct span message = framed(0xc1, squeezed(CALL, sizeof(CALL) - 1));
    memcpy(bytes, message.p, message.n);
    message.p = bytes;
    bool failed = true;
    for (long n = 0; failed; n++) {
        cr_assert_lt(n, 200);
        struct talk talk = agreed();
        ws_compression_deinit(shard.ctx.ws_compression);
        mem_fail_after(n);
        say(&talk, message);
        failed = shardlet_has_failed(n);
        if (shard.ctx.open > 0 && !list_empty(&talk.client->requests))
            shardlet_answer(only_call(talk.client), long_answer(), (struct span){0});
        shardlet_turn(&shard);
        if (!failed)
            shardlet_read(talk.peer, talk.out, sizeof(talk.out), &talk.n);
        end(&talk);
    }
}
