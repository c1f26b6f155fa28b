#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "common/alloc.h"
#include "frontd/codec/ws_deflate.h"

/* Negotiation: the fields of a handshake, and what is answered. */

enum { FIELDS_MAX = 4 };

static struct ws_deflate choose(const char *const values[])
{
    struct http_head head = {.nfields = 1};
    struct http_field *fields = head.fields;
    fields[0] = (struct http_field){.name = SPAN("x-other"), .value = SPAN("permessage-deflate")};
    for (size_t i = 0; values[i] != NULL; i++) {
        cr_assert(head.nfields < FIELDS_MAX);
        fields[head.nfields++] = (struct http_field){
            .name = SPAN("Sec-WebSocket-Extensions"),
            .value = {values[i], strlen(values[i])},
        };
    }
    return ws_deflate_choose(&head);
}

static const struct {
    const char *offer;
    unsigned bits; /* 0: declined */
    bool told;
} offers[] = {
    {"permessage-deflate", 15, false},
    {"Permessage-Deflate", 15, false},
    {"permessage-deflate; client_max_window_bits", 15, false},
    {"permessage-deflate; client_max_window_bits=8", 15, false},
    {"permessage-deflate; client_max_window_bits=15", 15, false},
    {"permessage-deflate ;\tclient_no_context_takeover ; server_no_context_takeover", 15, false},
    {"permessage-deflate; server_max_window_bits=15", 15, true},
    {"permessage-deflate; server_max_window_bits=9", 9, true},
    {"permessage-deflate; server_max_window_bits=\"10\"; client_max_window_bits", 10, true},
    {"x-webkit-deflate-frame, permessage-deflate", 15, false},
    {", ,permessage-deflate,,", 15, false},
    /* a comma in a quoted string ends no offer */
    {"x; y=\"a, permessage-deflate, b\"", 0, false},
    {"x; y=\"a\\\", permessage-deflate, b\"", 0, false},
    {"x; y=\"a, b\", permessage-deflate; server_max_window_bits=9", 9, true},
    {"x; y=\"a, permessage-deflate", 0, false},
    {"permessage-deflate; server_max_window_bits=\"9, permessage-deflate", 0, false},
    /* zlib has no raw window of 256 bytes: the next offer counts */
    {"permessage-deflate; server_max_window_bits=8", 0, false},
    {"permessage-deflate; server_max_window_bits=8, permessage-deflate", 15, false},
    {"permessage-deflate; server_max_window_bits=10, permessage-deflate", 10, true},
    /* RFC 7692 section 7.1: unknown, invalid, twice */
    {"permessage-deflate; unknown", 0, false},
    {"permessage-deflate; server_max_window_bits", 0, false},
    {"permessage-deflate; server_max_window_bits=", 0, false},
    {"permessage-deflate; server_max_window_bits=7", 0, false},
    {"permessage-deflate; server_max_window_bits=16", 0, false},
    {"permessage-deflate; server_max_window_bits=09", 0, false},
    {"permessage-deflate; server_max_window_bits=+9", 0, false},
    {"permessage-deflate; server_max_window_bits=100", 0, false},
    {"permessage-deflate; server_max_window_bits=\"9", 0, false},
    {"permessage-deflate; client_max_window_bits=", 0, false},
    {"permessage-deflate; client_max_window_bits=16", 0, false},
    {"permessage-deflate; server_no_context_takeover=1", 0, false},
    {"permessage-deflate; client_no_context_takeover=", 0, false},
    {"permessage-deflate; server_no_context_takeover; server_no_context_takeover", 0, false},
    {"permessage-deflate; client_no_context_takeover; client_no_context_takeover", 0, false},
    {"permessage-deflate; client_max_window_bits; client_max_window_bits", 0, false},
    {"permessage-deflate; server_max_window_bits=9; server_max_window_bits=9", 0, false},
    {"permessage-deflate;; server_no_context_takeover", 0, false},
    {"permessage-deflat", 0, false},
    {"permessage-deflate-2", 0, false},
    {";", 0, false},
    {"", 0, false},
};

Test(ws_deflate, offers)
{
    for (size_t i = 0; i < ARRAY_LEN(offers); i++) {
        const char *const values[] = {offers[i].offer, NULL};
        struct ws_deflate chosen = choose(values);
        cr_expect_eq(chosen.bits, offers[i].bits, "%s: %u", offers[i].offer, chosen.bits);
        cr_expect_eq(chosen.told, offers[i].told, "%s", offers[i].offer);
    }
    const char *const none[] = {NULL};
    cr_expect_eq(choose(none).bits, 0);
    const char *const fields[] = {"permessage-deflate; unknown", "permessage-deflate", NULL};
    cr_expect_eq(choose(fields).bits, 15);
}

Test(ws_deflate, answer)
{
    char text[WS_DEFLATE_FIELD];
    cr_expect_eq(ws_deflate_field((struct ws_deflate){0}, text), 0);
    cr_expect_str_empty(text);
    const char *plain = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; "
                        "client_no_context_takeover\r\n";
    cr_expect_eq(ws_deflate_field((struct ws_deflate){.bits = 15}, text), strlen(plain));
    cr_expect_str_eq(text, plain);
    cr_expect_gt(ws_deflate_field((struct ws_deflate){.bits = 10, .told = true}, text), 0);
    cr_expect(strstr(text, "client_no_context_takeover; server_max_window_bits=10\r\n") != NULL);
}

/* Messages */

static struct deflater deflater;

/* What a message inflates to, in memory that ends where it ends; or the error. */
static int inflate_text(const char *p, size_t n, size_t limit, struct buf *out)
{
    char *copy = malloc(n + (n == 0));
    cr_assert_not_null(copy);
    memcpy(copy, p, n);
    int r = ws_inflate(&deflater, (struct span){copy, n}, limit, out);
    free(copy);
    return r;
}

static const struct {
    const char *payload;
    size_t n;
    const char *text; /* NULL: -EBADMSG */
} messages[] = {
#define M(payload, text)                                                                           \
    {                                                                                              \
        payload, sizeof(payload) - 1, text                                                         \
    }
    /* RFC 7692 section 7.2.3: one block; no compression; a final block; two blocks; empty */
    M("\xf2\x48\xcd\xc9\xc9\x07\x00", "Hello"),
    M("\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", "Hello"),
    M("\xf3\x48\xcd\xc9\xc9\x07\x00\x00", "Hello"),
    M("\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", "Hello"),
    M("\x00", ""),
    /* Without the byte that begins the last, empty block: of an empty message, behind a final block
     */
    M("", NULL),
    M("\xf3\x48\xcd\xc9\xc9\x07\x00", NULL),
    /* Section 7.2.3.2 takes the context over, which was refused: a distance before the beginning */
    M("\xf2\x00\x11\x00\x00", NULL),
    /* Cut: in a block, in the head of a stored one, in its bytes */
    M("\xf2\x48\xcd\xc9\xc9", NULL),
    M("\x00\x05\x00", NULL),
    M("\x00\x05\x00\xfa\xff\x48\x65", NULL),
    M("\xf2\x48\x05\x00\x00\x00\xff", NULL),
    /* A dynamic block whose code for its end is 14 ones: it has the tail for data, and ends two
     * bits before the tail does */
    M("\x04\xc0\x01\x92\x24\x49\x92\x24\xc9\xb7\x22\xb1\xa8\x79\x64\xf5\xec\xfd\x1f\x00\x00\x00\x0e"
      "\x00",
        NULL),
    /* The third type of block, a length that is not its complement's */
    M("\x06", NULL),
    M("\x00\x05\x00\xfa\xfe\x48\x65\x6c\x6c\x6f\x00", NULL),
};

Test(ws_deflate, messages)
{
    struct buf out = {0};
    for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
        int r = inflate_text(messages[i].payload, messages[i].n, 100, &out);
        if (messages[i].text == NULL) {
            cr_expect_eq(r, -EBADMSG, "message %zu: %d", i, r);
            continue;
        }
        cr_expect(r == 0 && buf_len(&out) == strlen(messages[i].text) &&
                      memcmp(buf_data(&out), messages[i].text, buf_len(&out)) == 0,
            "message %zu: %d", i, r);
    }
    buf_deinit(&out);
    deflater_deinit(&deflater);
    cr_expect_eq(mem_in_use(), 0u);
}

/* A message of a client that does its best to be small, with window bits of its own. */
static size_t squeeze(const char *p, size_t n, int bits, char *out, size_t size)
{
    z_stream stream = {0};
    cr_assert_eq(deflateInit2(&stream, 9, Z_DEFLATED, -bits, 9, Z_DEFAULT_STRATEGY), Z_OK);
    stream.next_in = (unsigned char *)(uintptr_t)p;
    stream.avail_in = (unsigned)n;
    stream.next_out = (unsigned char *)out;
    stream.avail_out = (unsigned)size;
    cr_assert(deflate(&stream, Z_SYNC_FLUSH) == Z_OK && stream.avail_out > 0);
    deflateEnd(&stream);
    return size - stream.avail_out - 4;
}

Test(ws_deflate, limit)
{
    enum { SIZE = 1 << 20 };
    char *text = malloc(SIZE), *packed = malloc(SIZE + 4096);
    struct buf out = {0};
    cr_assert(text != NULL && packed != NULL);
    uint32_t random = 1;
    for (size_t i = 0; i < SIZE; i++) {
        random = random * 1664525U + 1013904223U;
        text[i] = (char)("0123456789abcdef"[random >> 28]);
    }
    for (size_t n = 1; n <= SIZE; n = n * 3 + 1) {
        size_t m = squeeze(text, n, 15, packed, SIZE + 4096);
        cr_expect_eq(inflate_text(packed, m, n, &out), 0);
        cr_expect(buf_len(&out) == n && memcmp(buf_data(&out), text, n) == 0);
        cr_expect_eq(inflate_text(packed, m, n - 1, &out), -EMSGSIZE, "%zu", n);
    }
    free(text);
    free(packed);
    buf_deinit(&out);
    deflater_deinit(&deflater);
}

/* What inflates to a thousand times its size: up to 1 MiB it may, then to a hundred times. */
Test(ws_deflate, bomb)
{
    enum { SIZE = 4 << 20 };
    char *zeros = calloc(1, SIZE), packed[8192];
    struct buf out = {0};
    cr_assert_not_null(zeros);
    size_t m = squeeze(zeros, WS_DEFLATE_FREE, 15, packed, sizeof(packed));
    cr_assert(m * WS_DEFLATE_RATIO < WS_DEFLATE_FREE);
    cr_expect_eq(inflate_text(packed, m, SIZE, &out), 0);
    cr_expect_eq(buf_len(&out), (size_t)WS_DEFLATE_FREE);
    m = squeeze(zeros, WS_DEFLATE_FREE + 1, 15, packed, sizeof(packed));
    cr_expect_eq(inflate_text(packed, m, SIZE, &out), -EMSGSIZE);
    m = squeeze(zeros, SIZE, 15, packed, sizeof(packed));
    cr_expect_eq(inflate_text(packed, m, SIZE, &out), -EMSGSIZE);
    cr_expect_eq(buf_len(&out), (size_t)WS_DEFLATE_FREE + 1);
    /* Empty final blocks: each would cost a copy of the window. */
    for (size_t n = 16; n <= 17; n++) {
        for (size_t i = 0; i < n; i++)
            memcpy(packed + 2 * i, "\x03\x00", 2);
        packed[2 * n] = 0;
        cr_expect_eq(inflate_text(packed, 2 * n + 1, SIZE, &out), n == 16 ? 0 : -EBADMSG, "%zu", n);
    }
    free(zeros);
    buf_deinit(&out);
    deflater_deinit(&deflater);
}

/* What is behind a final block refers to the bytes before it. */
Test(ws_deflate, window_of_a_final_block)
{
    static const char text[] = "all that was said before is said again: ";
    char packed[256];
    struct buf out = {0};
    z_stream stream = {0};
    cr_assert_eq(deflateInit2(&stream, 9, Z_DEFLATED, -15, 9, Z_DEFAULT_STRATEGY), Z_OK);
    stream.next_in = (unsigned char *)(uintptr_t)text;
    stream.avail_in = sizeof(text) - 1;
    stream.next_out = (unsigned char *)packed;
    stream.avail_out = sizeof(packed);
    cr_assert_eq(deflate(&stream, Z_FINISH), Z_STREAM_END);
    cr_assert_eq(deflateReset(&stream), Z_OK);
    cr_assert_eq(
        deflateSetDictionary(&stream, (const unsigned char *)text, sizeof(text) - 1), Z_OK);
    stream.next_in = (unsigned char *)(uintptr_t)text;
    stream.avail_in = sizeof(text) - 1;
    cr_assert_eq(deflate(&stream, Z_SYNC_FLUSH), Z_OK);
    size_t n = sizeof(packed) - stream.avail_out - 4;
    deflateEnd(&stream);
    cr_assert_eq(inflate_text(packed, n, 1000, &out), 0);
    cr_expect(buf_len(&out) == 2 * (sizeof(text) - 1) &&
              memcmp(buf_data(&out) + sizeof(text) - 1, text, sizeof(text) - 1) == 0);
    buf_deinit(&out);
    deflater_deinit(&deflater);
}

Test(ws_deflate, there_and_back)
{
    struct buf packed = {0}, out = {0};
    char text[3000];
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = "{\"jsonrpc\":\"2.0\"}"[i % 17];
    for (unsigned bits = WS_DEFLATE_BITS_MIN; bits <= WS_DEFLATE_BITS_MAX; bits++) {
        for (size_t n = 40; n <= sizeof(text); n += 37) {
            struct span message = {text, n};
            cr_assert(ws_deflate(&deflater, bits, message, &packed), "%zu", n);
            cr_assert_lt(buf_len(&packed), n);
            struct span payload = {buf_data(&packed), buf_len(&packed)};
            cr_assert_eq(ws_inflate(&deflater, payload, n, &out), 0);
            cr_assert(buf_len(&out) == n && memcmp(buf_data(&out), text, n) == 0);
        }
    }
    buf_deinit(&packed);
    buf_deinit(&out);
    deflater_deinit(&deflater);
}

/*
 * No distance is larger than the window that was agreed on: a client has no more memory. zlib looks
 * no further than the window for what is not in the output of the same call, so that is small.
 */
Test(ws_deflate, window)
{
    enum { BITS = 9, SIZE = 4096, PIECE = 16 };
    unsigned char text[SIZE], result[SIZE];
    struct buf packed = {0};
    for (size_t i = 0; i < SIZE; i++) /* repeats after 1,000 bytes and not before */
        text[i] = (unsigned char)(i % 1000 * 2654435761U >> 13);
    struct span message = {(const char *)text, SIZE};
    cr_assert(ws_deflate(&deflater, 15, message, &packed));
    cr_assert_lt(buf_len(&packed), (size_t)SIZE / 2);
    memset(text, 'x', SIZE / 2); /* compressible within the small window as well */
    if (ws_deflate(&deflater, BITS, message, &packed)) {
        z_stream stream = {
            .next_in = (unsigned char *)buf_data(&packed),
            .avail_in = (unsigned)buf_len(&packed),
        };
        cr_assert_eq(inflateInit2(&stream, -BITS), Z_OK);
        for (size_t at = 0; at < SIZE; at += PIECE) {
            stream.next_out = result + at;
            stream.avail_out = PIECE;
            cr_assert(inflate(&stream, Z_SYNC_FLUSH) == Z_OK && stream.avail_out == 0, "%zu", at);
        }
        cr_expect_eq(memcmp(result, text, SIZE), 0);
        inflateEnd(&stream);
    } else {
        cr_assert_fail("nothing compressed");
    }
    buf_deinit(&packed);
    deflater_deinit(&deflater);
}

Test(ws_deflate, what_does_not_pay)
{
    struct buf packed = {0};
    char noise[1000];
    for (size_t i = 0; i < sizeof(noise); i++)
        noise[i] = (char)(i * 2654435761U >> 11 ^ i * i * 40503U >> 3);
    cr_expect_not(ws_deflate(&deflater, 15, (struct span){noise, sizeof(noise)}, &packed));
    cr_expect_not(ws_deflate(&deflater, 15, (struct span){noise, 0}, &packed));
    cr_expect_not(ws_deflate(&deflater, 15, SPAN("a"), &packed));
    cr_expect_eq(buf_len(&packed), 0);
    buf_deinit(&packed);
    deflater_deinit(&deflater);
}

Test(ws_deflate, no_memory)
{
    char text[2000];
    memset(text, 'a', sizeof(text));
    struct span message = {text, sizeof(text)};
    bool done = false;
    for (long n = 0; !done; n++) {
        struct buf packed = {0}, out = {0};
        cr_assert_lt(n, 100);
        mem_fail_after(n);
        done = ws_deflate(&deflater, 15, message, &packed);
        if (done) {
            struct span payload = {buf_data(&packed), buf_len(&packed)};
            int r = ws_inflate(&deflater, payload, sizeof(text), &out);
            done = r == 0;
            cr_expect(r == 0 || r == -ENOMEM);
        }
        mem_fail_after(-1);
        buf_deinit(&packed);
        buf_deinit(&out);
        deflater_deinit(&deflater);
        cr_assert_eq(mem_in_use(), 0u, "the %ldth", n);
    }
}
