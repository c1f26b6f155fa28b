#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "frontd/codec/ws_frame.h"
#include "proto/close_code.h"

/* The cases of text that is not UTF-8 are in test_ws_text.c. */

static const struct ws_limits roomy = {.message = 1 << 20, .frame = 1 << 20};

enum {
    FRAMES_MAX = 8,
    /* an incomplete control frame, or the head of a data frame */
    BESIDES_MAX = 2 + 4 + WS_CONTROL_MAX,
};

struct frame {
    uint8_t first; /* byte of the head */
    const char *payload;
    size_t n;
};

#define F(first, literal)                                                                          \
    {                                                                                              \
        first, literal, sizeof(literal) - 1                                                        \
    }
#define IN(literal) literal, sizeof(literal) - 1

/* Writes a client's frame: the shortest length, masked. Returns its bytes. */
static size_t put_frame(char *out, const struct frame *frame, const uint8_t mask[4])
{
    size_t at = ws_head_write((uint8_t *)out, WS_TEXT, frame->n);
    out[0] = (char)frame->first;
    out[1] = (char)((unsigned char)out[1] | 0x80);
    memcpy(out + at, mask, 4);
    at += 4;
    for (size_t i = 0; i < frame->n; i++)
        out[at++] = (char)((unsigned char)frame->payload[i] ^ mask[i % 4]);
    return at;
}

static void print_bytes(FILE *file, struct span bytes)
{
    fputc('"', file);
    for (size_t i = 0; i < bytes.n; i++) {
        const unsigned char c = (unsigned char)bytes.p[i];
        if (c >= ' ' && c < 0x7f && c != '"')
            fputc(c, file);
        else
            fprintf(file, "\\%02x", c);
    }
    fputs("\" ", file);
}

static void print_event(FILE *file, const struct ws_result *result)
{
    static const char *const names[] = {[WS_TEXT] = "text ",
        [WS_BINARY] = "binary ",
        [WS_CLOSE] = "close ",
        [WS_PING] = "ping ",
        [WS_PONG] = "pong "};
    if (result->event == WS_EVENT_ERROR) {
        fprintf(file, "error %u", result->code);
        return;
    }
    cr_assert(result->opcode < ARRAY_LEN(names) && names[result->opcode] != NULL);
    cr_assert_eq(result->event == WS_EVENT_CONTROL, result->opcode >= WS_CLOSE);
    if (result->compressed)
        fputs("compressed ", file);
    fputs(names[result->opcode], file);
    if (result->opcode == WS_CLOSE)
        fprintf(file, "%u ", result->code);
    print_bytes(file, result->payload);
}

/* The state as another process would have it, which is given the same bytes. */
static void move(struct ws *ws, const char *bytes, size_t n)
{
    struct buf state = {0};
    struct pack pack = {.out = &state};
    struct ws moved;
    ws_save(ws, &pack);
    struct unpack unpack = {.left = {buf_data(&state), buf_len(&state)}};
    const unsigned version = ws_save_version(ws);
    cr_assert_eq(version, ws->compressed   ? WS_SAVED_COMPRESSED
                          : ws->excess > 0 ? WS_SAVED_EXCESS
                                           : WS_SAVED);
    cr_assert(!pack.failed && ws_restore(&moved, &unpack, version, (struct span){bytes, n}) == 0);
    cr_assert_eq(unpack_end(&unpack), 0);
    cr_assert_eq(memcmp(ws, &moved, sizeof(moved)), 0);
    buf_deinit(&state);
}

/* How an input is fed. */
struct way {
    size_t first, step; /* bytes of the first part, and of each that follows */
    bool late;          /* after a control frame the next part is read before going on */
};

/*
 * What is kept and what is added are one copy on the heap that ends where the input so far ends,
 * so that ASan sees any look at the rest. Returns the bytes that were fed in the end.
 */
static size_t feed_parts(const char *input, size_t size, const struct ws_limits *limits,
    struct way way, char *out, size_t out_size)
{
    out[0] = '\0'; /* stays where nothing is written */
    FILE *file = fmemopen(out, out_size, "w");
    cr_assert_not_null(file);
    struct ws ws = {0};
    char *bytes = malloc(1), *control = malloc(WS_CONTROL_MAX);
    size_t n = 0, fed = 0, part = way.first;
    bool add = true;
    for (;;) {
        if (add) {
            move(&ws, bytes, n);
            part = MIN(part, size - fed);
            char *longer = malloc(n + part + 1);
            cr_assert(longer != NULL && control != NULL);
            memcpy(longer + 1, bytes, n); /* + 1: not aligned */
            memcpy(longer + 1 + n, input + fed, part);
            free(bytes);
            bytes = malloc(n + part + (n + part == 0));
            cr_assert_not_null(bytes);
            memcpy(bytes, longer + 1, n + part);
            free(longer);
            n += part;
            fed += part;
            part = way.step;
        }
        const struct ws_result result = ws_feed(&ws, bytes, n, limits, control);
        if (result.event == WS_EVENT_MORE) {
            cr_assert(result.kept <= n && result.kept <= ws.message + (size_t)BESIDES_MAX);
            cr_assert_eq(ws.gap, 0);
            n = result.kept;
            if (fed == size)
                break;
            add = true;
            continue;
        }
        print_event(file, &result);
        if (result.event == WS_EVENT_ERROR)
            break;
        if (result.event == WS_EVENT_CONTROL) {
            cr_assert(result.payload.p >= control &&
                      result.payload.p + result.payload.n <= control + WS_CONTROL_MAX);
            cr_assert_leq(result.kept, n);
            n = result.kept;
            add = way.late && fed < size;
        } else {
            cr_assert(result.used <= n && result.payload.p >= bytes &&
                      result.payload.p + result.payload.n <= bytes + result.used);
            const struct ws zero = {0};
            cr_assert_eq(memcmp(&ws, &zero, sizeof(ws)), 0);
            n -= result.used;
            memmove(bytes, bytes + result.used, n);
            /* what is left is a copy of its own size again */
            char *rest = malloc(n + (n == 0));
            cr_assert_not_null(rest);
            memcpy(rest, bytes, n);
            free(bytes);
            bytes = rest;
            add = false;
        }
    }
    free(bytes);
    free(control);
    fclose(file);
    return fed;
}

/* Whole, cut into two at every byte, and byte by byte. */
static void check_input(
    const char *input, size_t n, const struct ws_limits *limits, const char *events)
{
    char out[2048];
    for (int late = 0; late < 2; late++) {
        for (size_t split = 0; split <= n; split++) {
            feed_parts(input, n, limits, (struct way){split, n + 1, late}, out, sizeof(out));
            cr_assert_str_eq(out, events, "cut at %zu: %s, not %s", split, out, events);
        }
        for (size_t step = 1; step < 4; step++) {
            feed_parts(input, n, limits, (struct way){0, step, late}, out, sizeof(out));
            cr_assert_str_eq(out, events, "parts of %zu: %s, not %s", step, out, events);
        }
    }
}

struct row {
    struct frame frames[FRAMES_MAX]; /* up to one with a payload of NULL */
    const char *events;
};

static void check_rows(const struct row *rows, size_t count, const struct ws_limits *limits)
{
    static const uint8_t masks[][4] = {{0, 0, 0, 0}, {0x37, 0xfa, 0x21, 0x3d}, {0xff, 1, 0x80, 0}};
    for (size_t i = 0; i < count; i++) {
        for (size_t m = 0; m < ARRAY_LEN(masks); m++) {
            char input[1024];
            size_t n = 0;
            for (const struct frame *f = rows[i].frames;
                 f < rows[i].frames + FRAMES_MAX && f->payload != NULL; f++)
                n += put_frame(input + n, f, masks[(m + n) % ARRAY_LEN(masks)]);
            check_input(input, n, limits, rows[i].events);
        }
    }
}

Test(ws_frame, messages)
{
    static const struct row rows[] = {
        {{F(0x81, "Hello")}, "text \"Hello\" "},
        {{F(0x82, "\0\xff\x80")}, "binary \"\\00\\ff\\80\" "},
        {{F(0x81, "")}, "text \"\" "},
        {{F(0x81, "a"), F(0x82, ""), F(0x81, "bc")}, "text \"a\" binary \"\" text \"bc\" "},
        {{F(0x01, "Hel"), F(0x80, "lo")}, "text \"Hello\" "},
        {{F(0x02, "a"), F(0x00, "bcdefghijklmnopqrs"), F(0x00, "tu"), F(0x80, "v")},
            "binary \"abcdefghijklmnopqrstuv\" "},
        {{F(0x01, ""), F(0x00, ""), F(0x00, ""), F(0x80, "")}, "text \"\" "},
        {{F(0x01, ""), F(0x00, "abc"), F(0x80, "")}, "text \"abc\" "},
        {{F(0x01, "a"), F(0x80, "b"), F(0x02, "c"), F(0x80, "d"), F(0x81, "e")},
            "text \"ab\" binary \"cd\" text \"e\" "},
        {{F(0x01, "abc")}, ""},
        {{F(0x81, "a"), F(0x01, "abc"), F(0x00, "def")}, "text \"a\" "},
    };
    check_rows(rows, ARRAY_LEN(rows), &roomy);
    /* RFC 6455 section 5.7 */
    check_input(IN("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), &roomy, "text \"Hello\" ");
    check_input(IN("\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), &roomy, "pong \"Hello\" ");
}

#define X25  "xxxxxxxxxxxxxxxxxxxxxxxxx"
#define X125 X25 X25 X25 X25 X25

Test(ws_frame, control_frames)
{
    static const struct row rows[] = {
        {{F(0x89, "")}, "ping \"\" "},
        {{F(0x89, "abc"), F(0x8a, "de")}, "ping \"abc\" pong \"de\" "},
        {{F(0x89, X125)}, "ping \"" X125 "\" "},
        {{F(0x89, "\0\xff")}, "ping \"\\00\\ff\" "},
        {{F(0x01, "He"), F(0x89, "ping"), F(0x00, "l"), F(0x8a, ""), F(0x80, "lo"), F(0x81, "x")},
            "ping \"ping\" pong \"\" text \"Hello\" text \"x\" "},
        {{F(0x01, ""), F(0x89, "p"), F(0x89, "q"), F(0x89, "r"), F(0x80, "abcdefghijklmnop")},
            "ping \"p\" ping \"q\" ping \"r\" text \"abcdefghijklmnop\" "},
        {{F(0x89, "p"), F(0x89, "q"), F(0x81, "abc"), F(0x89, "r"), F(0x81, "d")},
            "ping \"p\" ping \"q\" text \"abc\" ping \"r\" text \"d\" "},
        {{F(0x89, "p"), F(0x01, "abc"), F(0x80, "def")}, "ping \"p\" text \"abcdef\" "},
        {{F(0x01, "abc"), F(0x89, X125)}, "ping \"" X125 "\" "},

        {{F(0x88, "")}, "close 1005 \"\" "},
        {{F(0x88, "\x03\xe8")}, "close 1000 \"\" "},
        {{F(0x88, "\x03\xe9going")}, "close 1001 \"going\" "},
        {{F(0x88, "\x0f\xa0\xc3\xa4")}, "close 4000 \"\\c3\\a4\" "},
        {{F(0x01, "a"), F(0x88, "\x03\xe8")}, "close 1000 \"\" "},
        {{F(0x88, "\x03\xe8"
                  "abc" X25 X25 X25 X25 "xxxxxxxxxxxxxxxxxxxx")},
            "close 1000 \"abc" X25 X25 X25 X25 "xxxxxxxxxxxxxxxxxxxx\" "},
        {{F(0x88, "\x03\xe8\xc3")}, "error 1002"},
        {{F(0x88, "\x03\xe8\xff")}, "error 1002"},
        {{F(0x88, "\x03\xe8"
                  "abcdefgh\xed\xa0\x80")},
            "error 1002"},
        {{F(0x88, "\x03\xed")}, "error 1002"},
    };
    check_rows(rows, ARRAY_LEN(rows), &roomy);
}

/* RFC 7692 section 6: RSV1 on the first frame says that the message is compressed. */
Test(ws_frame, compressed)
{
    static const struct ws_limits agreed = {.message = 1000, .frame = 1000, .deflate = true};
    static const struct row rows[] = {
        {{F(0xc1, "Hello")}, "compressed text \"Hello\" "},
        {{F(0xc2, ""), F(0x82, "")}, "compressed binary \"\" binary \"\" "},
        {{F(0xc1, "\xff"), F(0x81, "a")}, "compressed text \"\\ff\" text \"a\" "},
        {{F(0x41, "\xc3"), F(0x00, "\x28"), F(0x80, "b")}, "compressed text \"\\c3(b\" "},
        {{F(0x41, "a"), F(0x89, "p"), F(0x80, "b")}, "ping \"p\" compressed text \"ab\" "},
        {{F(0x41, ""), F(0x00, ""), F(0x80, "")}, "compressed text \"\" "},
        {{F(0x01, "\xc3"), F(0x80, "\x28")}, "error 1007"},
        {{F(0xc1, "a"), F(0x81, "\xff")}, "compressed text \"a\" error 1007"},
    };
    check_rows(rows, ARRAY_LEN(rows), &agreed);
    static const char *const refused[] = {
        "\xa1", "\x91", "\xe1", "\xf2", "\xc8", "\xc9", "\xca", "\xc3"};
    for (size_t i = 0; i < ARRAY_LEN(refused); i++)
        check_input(refused[i], 1, &agreed, "error 1002");
    static const struct row continued[] = {
        {{F(0x41, "a"), F(0xc0, "b")}, "error 1002"},
        {{F(0x41, "a"), F(0x40, "b")}, "error 1002"},
        {{F(0x01, "a"), F(0xc0, "b")}, "error 1002"},
    };
    check_rows(continued, ARRAY_LEN(continued), &agreed);
    uint8_t head[WS_HEAD_MAX];
    ws_head_write(head, WS_TEXT, 5);
    ws_head_set_compressed(head);
    cr_expect(head[0] == 0xc1 && head[1] == 5);
}

/* What another process says of a compressed message. */
Test(ws_frame, restore_compressed)
{
    static const struct {
        uint8_t message, utf8, opcode, compressed;
        int r;
    } rows[] = {
        {1, 0, WS_TEXT, 1, 0},
        {1, 0, WS_BINARY, 1, 0},
        {1, 0, WS_TEXT, 0, -EBADMSG},        /* has another version */
        {1, 1, WS_TEXT, 1, -EBADMSG},        /* it is no text yet */
        {0, 0, 0, 1, -EBADMSG},              /* none has begun */
        {1, 0, WS_TEXT | 0x40, 1, -EBADMSG}, /* no opcode */
        {1, 0, WS_TEXT, 2, -EBADMSG},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf state = {0};
        struct pack pack = {.out = &state};
        struct ws ws;
        pack_u32(&pack, 0);
        pack_u32(&pack, rows[i].message);
        pack_u32(&pack, 0);
        pack_raw(&pack, "\1\2\3\4", 4);
        pack_u8(&pack, rows[i].utf8);
        pack_u8(&pack, rows[i].opcode);
        pack_u8(&pack, 0);
        pack_u8(&pack, 0);
        pack_u32(&pack, 0);
        pack_u8(&pack, rows[i].compressed);
        struct unpack unpack = {.left = {buf_data(&state), buf_len(&state)}};
        int r = ws_restore(&ws, &unpack, WS_SAVED_COMPRESSED, SPAN("\xff"));
        cr_expect_eq(r, rows[i].r, "row %zu: %d", i, r);
        buf_deinit(&state);
    }
}

/* Each is an error with its last byte, and none before. */
Test(ws_frame, refused_as_soon_as_certain)
{
    static const struct {
        const char *input;
        size_t n;
        const char *events;
    } rows[] = {
        /* reserved bits */
        {IN("\xc1"), "error 1002"},
        {IN("\xa1"), "error 1002"},
        {IN("\x91"), "error 1002"},
        {IN("\x71"), "error 1002"},
        {IN("\xc9"), "error 1002"},
        /* reserved opcodes */
        {IN("\x83"), "error 1002"},
        {IN("\x84"), "error 1002"},
        {IN("\x85"), "error 1002"},
        {IN("\x86"), "error 1002"},
        {IN("\x87"), "error 1002"},
        {IN("\x03"), "error 1002"},
        {IN("\x8b"), "error 1002"},
        {IN("\x8c"), "error 1002"},
        {IN("\x8d"), "error 1002"},
        {IN("\x8e"), "error 1002"},
        {IN("\x8f"), "error 1002"},
        /* control frames in fragments */
        {IN("\x08"), "error 1002"},
        {IN("\x09"), "error 1002"},
        {IN("\x0a"), "error 1002"},
        /* continuation without a beginning, a beginning within a message */
        {IN("\x80"), "error 1002"},
        {IN("\x00"), "error 1002"},
        {IN("\x81\x80\0\0\0\0\x80"), "text \"\" error 1002"},
        {IN("\x01\x80\0\0\0\0\x80\x80\0\0\0\0\x80"), "text \"\" error 1002"},
        {IN("\x01\x80\0\0\0\0\x81"), "error 1002"},
        {IN("\x01\x80\0\0\0\0\x01"), "error 1002"},
        {IN("\x02\x81\0\0\0\0x\x02"), "error 1002"},
        {IN("\x02\x81\0\0\0\0x\x89\x80\0\0\0\0\x82"), "ping \"\" error 1002"},
        /* not masked */
        {IN("\x81\x05"), "error 1002"},
        {IN("\x81\x00"), "error 1002"},
        {IN("\x82\x7e"), "error 1002"},
        {IN("\x89\x00"), "error 1002"},
        {IN("\x88\x02"), "error 1002"},
        {IN("\x81\x81\0\0\0\0a\x81\x01"), "text \"a\" error 1002"},
        /* long control frames, Close with one byte */
        {IN("\x88\xfe"), "error 1002"},
        {IN("\x89\xfe"), "error 1002"},
        {IN("\x8a\xff"), "error 1002"},
        {IN("\x88\x81"), "error 1002"},
        /* lengths that have a shorter form */
        {IN("\x81\xfe\0\0"), "error 1002"},
        {IN("\x81\xfe\0\x7d"), "error 1002"},
        {IN("\x81\xff\0\0\0\0\0\0\0\0"), "error 1002"},
        {IN("\x81\xff\0\0\0\0\0\0\0\x7d"), "error 1002"},
        {IN("\x81\xff\0\0\0\0\0\0\xff\xff"), "error 1002"},
        /* the top bit */
        {IN("\x81\xff\x80\0\0\0\0\0\0\0"), "error 1002"},
        {IN("\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff"), "error 1002"},
        /* far over the limit */
        {IN("\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff"), "error 1009"},
        {IN("\x81\xff\0\0\0\1\0\0\0\0"), "error 1009"},
        {IN("\x81\xff\0\0\0\0\xff\xff\xff\xff"), "error 1009"},
        {IN("\x01\x81\0\0\0\0x\x80\xff\x7f\xff\xff\xff\xff\xff\xff\xff"), "error 1009"},
        {IN("\x01\x81\0\0\0\0x\x80\xff\0\0\0\0\xff\xff\xff\xff"), "error 1009"},
        /* codes that must not be sent */
        {IN("\x88\x82\0\0\0\0\x03\xed"), "error 1002"},
        {IN("\x88\x82\0\0\0\0\0\0"), "error 1002"},
        {IN("\x88\x83\0\0\0\0\x03\xe8\x80"), "error 1002"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char out[256];
        check_input(rows[i].input, rows[i].n, &roomy, rows[i].events);
        const size_t fed = feed_parts(
            rows[i].input, rows[i].n, &roomy, (struct way){0, 1, false}, out, sizeof(out));
        cr_assert_eq(fed, rows[i].n);
        feed_parts(
            rows[i].input, rows[i].n - 1, &roomy, (struct way){0, 1, false}, out, sizeof(out));
        cr_assert_null(strstr(out, "error"), "row %zu: too early", i);
        /* what follows changes nothing */
        char longer[64] = {0};
        memcpy(longer, rows[i].input, rows[i].n);
        check_input(longer, sizeof(longer), &roomy, rows[i].events);
    }
}

Test(ws_frame, limits)
{
    static const struct row rows[] = {
        {{F(0x82, "12345678")}, "binary \"12345678\" "},
        {{F(0x82, "123456789")}, "error 1009"},
        {{F(0x02, "123456789")}, "error 1009"},
        {{F(0x02, "12345678"), F(0x80, "1234")}, "binary \"123456781234\" "},
        {{F(0x02, "12345678"), F(0x80, "12345")}, "error 1009"},
        {{F(0x02, "1"), F(0x00, "12345678"), F(0x00, "123"), F(0x80, "")},
            "binary \"112345678123\" "},
        {{F(0x02, "1"), F(0x00, "12345678"), F(0x00, "123"), F(0x80, "x")}, "error 1009"},
        {{F(0x02, "12345678"), F(0x89, "0123456789abcdef"), F(0x80, "1234"), F(0x81, "x")},
            "ping \"0123456789abcdef\" binary \"123456781234\" text \"x\" "},
        {{F(0x82, "12345678"), F(0x82, "12345678"), F(0x82, "123456789")},
            "binary \"12345678\" binary \"12345678\" error 1009"},
    };
    static const struct ws_limits small = {.message = 12, .frame = 8};
    check_rows(rows, ARRAY_LEN(rows), &small);

    static const struct row none[] = {
        {{F(0x81, ""), F(0x89, "p"), F(0x02, ""), F(0x80, "")},
            "text \"\" ping \"p\" binary \"\" "},
        {{F(0x81, "x")}, "error 1009"},
    };
    static const struct ws_limits zero = {.message = 0, .frame = 0};
    check_rows(none, ARRAY_LEN(none), &zero);
}

/* They may be lowered within a message: a frame that was let in is finished, no other is let in. */
Test(ws_frame, limits_that_change)
{
    struct ws ws = {0};
    char control[WS_CONTROL_MAX], p[64] = "\x02\x84\0\0\0\0ab";
    struct ws_result result = ws_feed(&ws, p, 8, &roomy, control);
    cr_assert(result.event == WS_EVENT_MORE && result.kept == 2);
    memcpy(p + 2, "cd\x80\x81\0\0\0\0", 8);
    result = ws_feed(&ws, p, 4, &(struct ws_limits){.message = 1, .frame = 1}, control);
    cr_assert(result.event == WS_EVENT_MORE && result.kept == 4);
    result = ws_feed(&ws, p, 10, &(struct ws_limits){.message = 1, .frame = 1}, control);
    cr_assert(result.event == WS_EVENT_ERROR && result.code == WS_CODE_TOO_BIG);
}

/* Around each form of the length, at the limit and past it, in few parts. */
Test(ws_frame, lengths)
{
    static const size_t sizes[] = {0, 1, 125, 126, 127, 128, 65534, 65535, 65536, 65537, 200000};
    static char payload[200000], input[200000 + 16];
    static const uint8_t mask[4] = {1, 2, 3, 4};
    for (size_t i = 0; i < sizeof(payload); i++)
        payload[i] = (char)(i * 7 + i / 251);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        const uint32_t size = (uint32_t)sizes[i];
        const struct frame frame = {0x82, payload, size};
        const struct ws_limits exact = {.message = size, .frame = size};
        const size_t n = put_frame(input, &frame, mask);
        const size_t cuts[] = {0, 1, 2, 3, 6, 9, 10, 13, 14, 15, n / 2, n - 1, n};
        for (size_t c = 0; c < ARRAY_LEN(cuts); c++) {
            const size_t cut = MIN(cuts[c], n);
            char *bytes = malloc(n), control[WS_CONTROL_MAX];
            cr_assert_not_null(bytes);
            memcpy(bytes, input, n);
            struct ws ws = {0};
            struct ws_result result = ws_feed(&ws, bytes, cut, &exact, control);
            size_t end = n;
            if (cut < n) {
                cr_assert_eq(result.event, WS_EVENT_MORE);
                memmove(bytes + result.kept, bytes + cut, n - cut);
                end = result.kept + (n - cut);
                result = ws_feed(&ws, bytes, end, &exact, control);
            }
            cr_assert(result.event == WS_EVENT_MESSAGE && result.used == end);
            cr_assert(result.payload.n == size && memcmp(result.payload.p, payload, size) == 0);
            free(bytes);
        }
        if (size == 0)
            continue;
        const struct ws_limits less[] = {
            {.message = size, .frame = size - 1}, {.message = size - 1, .frame = size}};
        for (size_t l = 0; l < ARRAY_LEN(less); l++) {
            char control[WS_CONTROL_MAX];
            struct ws ws = {0};
            const size_t head = n - size;
            /* before the mask is there */
            const struct ws_result result = ws_feed(&ws, input, head - 4, &less[l], control);
            cr_assert(result.event == WS_EVENT_ERROR && result.code == WS_CODE_TOO_BIG);
        }
    }
}

/* Thousands of pings in one read, within a message: what is behind them is moved once. */
Test(ws_frame, many_control_frames)
{
    enum { PINGS = 10000 };
    static char input[PINGS * 7 + 32];
    static const uint8_t mask[4] = {9, 8, 7, 6};
    size_t n = put_frame(input, &(struct frame)F(0x01, "abc"), mask);
    for (size_t i = 0; i < PINGS; i++)
        n += put_frame(input + n, &(struct frame)F(0x89, "p"), mask);
    const size_t pings_end = n;
    n += put_frame(input + n, &(struct frame)F(0x80, "def"), mask);

    struct ws ws = {0};
    char control[WS_CONTROL_MAX];
    char last = input[n - 1];
    for (size_t i = 0; i < PINGS; i++) {
        const struct ws_result result = ws_feed(&ws, input, n, &roomy, control);
        cr_assert(result.event == WS_EVENT_CONTROL && result.kept == n);
        cr_assert(result.payload.n == 1 && result.payload.p[0] == 'p');
        cr_assert_eq(input[n - 1], last);
    }
    cr_assert_eq(ws.message + ws.gap, pings_end);
    const struct ws_result result = ws_feed(&ws, input, n, &roomy, control);
    cr_assert(result.event == WS_EVENT_MESSAGE && result.used == n && result.payload.n == 6);
    cr_assert_eq(memcmp(result.payload.p, "abcdef", 6), 0);
}

Test(ws_frame, all_close_codes)
{
    for (unsigned code = 0; code <= 0xffff; code++) {
        const bool valid = (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
                           (code >= 3000 && code <= 4999);
        cr_assert_eq(close_code_valid(code), valid, "%u", code);
        char p[8] = "\x88\x82", control[WS_CONTROL_MAX];
        p[6] = (char)(code >> 8);
        p[7] = (char)code;
        struct ws ws = {0};
        const struct ws_result result = ws_feed(&ws, p, sizeof(p), &roomy, control);
        cr_assert_eq(result.event, valid ? WS_EVENT_CONTROL : WS_EVENT_ERROR, "%u", code);
        cr_assert_eq(result.code, valid ? code : WS_CODE_PROTOCOL_ERROR, "%u", code);
    }
    cr_assert(!close_code_valid(0x10000 + 1000) && !close_code_valid(UINT32_MAX));
}

Test(ws_frame, heads)
{
    static const struct {
        enum ws_opcode opcode;
        uint64_t payload;
        const char *head;
        size_t n;
    } rows[] = {
        {WS_TEXT, 0, IN("\x81\0")},
        {WS_BINARY, 5, IN("\x82\5")},
        {WS_PING, 125, IN("\x89\x7d")},
        {WS_PONG, 1, IN("\x8a\1")},
        {WS_TEXT, 126, IN("\x81\x7e\0\x7e")},
        {WS_TEXT, 256, IN("\x81\x7e\1\0")},
        {WS_TEXT, 65535, IN("\x81\x7e\xff\xff")},
        {WS_TEXT, 65536, IN("\x81\x7f\0\0\0\0\0\1\0\0")},
        {WS_BINARY, UINT64_C(0x0102030405060708), IN("\x82\x7f\1\2\3\4\5\6\7\x08")},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint8_t *out = malloc(WS_HEAD_MAX);
        cr_assert_not_null(out);
        const size_t n = ws_head_write(out, rows[i].opcode, rows[i].payload);
        cr_assert(n == rows[i].n && memcmp(out, rows[i].head, n) == 0, "row %zu", i);
        free(out);
    }
}

Test(ws_frame, close_frames)
{
    static const struct {
        unsigned code;
        struct span reason;
        const char *frame;
        size_t n;
    } rows[] = {
        {WS_CODE_NONE, {NULL, 0}, IN("\x88\0")},
        {WS_CODE_NONE, {IN("not sent")}, IN("\x88\0")},
        {1000, {NULL, 0}, IN("\x88\2\x03\xe8")},
        {1012, {IN("restart")}, IN("\x88\x09\x03\xf4restart")},
        {4999, {IN("\xc3\xa4")}, IN("\x88\4\x13\x87\xc3\xa4")},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint8_t *out = malloc(2 + WS_CONTROL_MAX);
        cr_assert_not_null(out);
        const size_t n = ws_close_write(out, rows[i].code, rows[i].reason);
        cr_assert(n == rows[i].n && memcmp(out, rows[i].frame, n) == 0, "row %zu", i);
        free(out);
    }
}

/* A reason of 123 bytes fits; of a longer one, the characters that fit whole. */
Test(ws_frame, close_reason_is_cut_between_characters)
{
    static const char *const characters[] = {"x", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
    for (size_t c = 0; c < ARRAY_LEN(characters); c++) {
        const size_t width = strlen(characters[c]);
        for (size_t before = 110; before <= 130; before++) {
            char text[160], *reason;
            uint8_t *out = malloc(2 + WS_CONTROL_MAX);
            memset(text, 'a', sizeof(text));
            memcpy(text + before, characters[c], width);
            const size_t n = before + width;
            reason = malloc(n);
            cr_assert(out != NULL && reason != NULL);
            memcpy(reason, text, n);
            const size_t kept = n <= 123 ? n : MIN(before, 123);
            cr_assert_eq(ws_close_write(out, 1001, (struct span){reason, n}), 4 + kept);
            cr_assert(out[0] == 0x88 && out[1] == 2 + kept && out[2] == 0x03 && out[3] == 0xe9);
            cr_assert_eq(memcmp(out + 4, text, kept), 0);
            free(out);
            free(reason);
        }
    }
    char junk[200];
    uint8_t out[2 + WS_CONTROL_MAX];
    memset(junk, 0x80, sizeof(junk));
    cr_assert_eq(ws_close_write(out, 1001, (struct span){junk, sizeof(junk)}), 4);
}

/* Every length and alignment, at once and in two parts: the mask goes on where it was. */
Test(ws_frame, unmask)
{
    enum { SIZE = 48 };
    for (size_t offset = 0; offset < 8; offset++) {
        for (size_t n = 0; n <= SIZE; n++) {
            for (size_t cut = 0; cut <= n; cut++) {
                char *p = malloc(offset + n + 1);
                cr_assert_not_null(p);
                uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d}, turned[4];
                const uint8_t key[4] = {0x37, 0xfa, 0x21, 0x3d};
                p = realloc(p, MAX(offset + n, 1)); /* exactly */
                cr_assert_not_null(p);
                for (size_t i = 0; i < n; i++)
                    p[offset + i] = (char)(i * 5);
                ws_unmask(p + offset, cut, mask);
                ws_unmask(p + offset + cut, n - cut, mask);
                for (size_t i = 0; i < n; i++)
                    cr_assert_eq((uint8_t)p[offset + i], (uint8_t)(i * 5) ^ key[i % 4]);
                for (size_t i = 0; i < 4; i++)
                    turned[i] = key[(n + i) % 4];
                cr_assert_eq(memcmp(mask, turned, 4), 0);
                free(p);
            }
        }
    }
}

/* No state is believed that these bytes cannot have led to; and none that is crashes anything. */
Test(ws_frame, states_that_cannot_be)
{
    static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    static const struct frame frames[] = {
        F(0x01, "a\xc3"), F(0x89, "ping"), F(0x00, "\xa4 and more")};
    static const unsigned char flips[] = {0x01, 0x02, 0x06, 0x10, 0x80, 0xff};
    char input[128];
    size_t n = 0, refused = 0;
    for (size_t i = 0; i < ARRAY_LEN(frames); i++)
        n += put_frame(input + n, &frames[i], mask);
    for (size_t cut = 1; cut < n; cut++) {
        struct ws ws = {0};
        struct buf state = {0};
        struct pack pack = {.out = &state};
        char kept[256], control[WS_CONTROL_MAX];
        memcpy(kept, input, cut);
        struct ws_result result = ws_feed(&ws, kept, cut, &roomy, control);
        ws_save(&ws, &pack);
        for (size_t at = 0; at < buf_len(&state) * ARRAY_LEN(flips); at++) {
            struct ws moved;
            char *byte = buf_data(&state) + at / ARRAY_LEN(flips);
            *byte = (char)((unsigned char)*byte ^ flips[at % ARRAY_LEN(flips)]);
            struct unpack unpack = {.left = {buf_data(&state), buf_len(&state)}};
            unsigned version = ws_save_version(&ws);
            int r = ws_restore(&moved, &unpack, version, (struct span){kept, result.kept});
            *byte = (char)((unsigned char)*byte ^ flips[at % ARRAY_LEN(flips)]);
            cr_assert(r == 0 || r == -EBADMSG);
            refused += r < 0;
            if (r < 0)
                continue;
            char *bytes = malloc(result.kept + n - cut);
            cr_assert_not_null(bytes);
            memcpy(bytes, kept, result.kept);
            memcpy(bytes + result.kept, input + cut, n - cut);
            ws_feed(&moved, bytes, result.kept + n - cut, &roomy, control);
            free(bytes);
        }
        for (size_t part = 0; part < buf_len(&state); part++) {
            struct ws moved;
            struct unpack unpack = {.left = {buf_data(&state), part}};
            unsigned version = ws_save_version(&ws);
            int r = ws_restore(&moved, &unpack, version, (struct span){kept, result.kept});
            cr_assert_eq(r, -EBADMSG);
        }
        buf_deinit(&state);
    }
    cr_assert_gt(refused, 100);
}

Test(ws_frame, states_that_are_refused)
{
    static const struct {
        struct ws ws;
        const char *bytes;
        bool right;
    } rows[] = {
        {{.opcode = 0}, "", true},
        {{.gap = 2}, "abc", true},
        {{.opcode = WS_TEXT, .message = 3, .utf8 = 6}, "a\xc3", false}, /* more than is there */
        {{.opcode = WS_TEXT, .message = 2, .utf8 = 6}, "a\xc3", true},
        {{.opcode = WS_TEXT, .message = 2, .utf8 = 0}, "a\xc3", false},
        {{.opcode = WS_TEXT, .message = 2, .utf8 = 12}, "a\xc3", false},
        {{.opcode = WS_TEXT, .message = 2, .utf8 = 7}, "a\xc3", false},
        {{.opcode = WS_TEXT, .message = 2, .utf8 = 48}, "\xff\xff", false},
        {{.opcode = WS_BINARY, .message = 2}, "a\xc3", true},
        {{.opcode = WS_BINARY, .message = 2, .utf8 = 6}, "a\xc3", false},
        {{.opcode = WS_BINARY, .message = 1, .gap = 1}, "ab", true},
        {{.opcode = WS_BINARY, .message = 1, .gap = 2}, "ab", false},
        {{.opcode = WS_BINARY, .message = 1, .gap = UINT32_MAX}, "ab", false},
        {{.opcode = WS_BINARY, .message = 1, .left = 5, .in_frame = true}, "a", true},
        {{.opcode = WS_BINARY, .message = 1, .left = 5, .in_frame = true, .fin = true}, "a", true},
        {{.opcode = WS_BINARY, .message = 1, .left = UINT32_MAX, .in_frame = true}, "a", false},
        {{.opcode = WS_BINARY, .message = 1, .left = 0, .in_frame = true}, "a", false},
        {{.opcode = WS_BINARY, .message = 1, .left = 5}, "a", false},
        {{.opcode = WS_BINARY, .left = 5, .in_frame = true, .gap = 1}, "a", false},
        {{.opcode = WS_BINARY, .fin = true}, "", false},
        {{.opcode = 0, .message = 1}, "a", false},
        {{.opcode = 0, .left = 1, .in_frame = true}, "a", false},
        {{.opcode = WS_BINARY, .message = 1, .excess = 1}, "a", true},
        {{.opcode = WS_BINARY, .excess = UINT32_MAX}, "", true}, /* the limit was another one */
        {{.opcode = 0, .excess = 1}, "", false},
        {{.opcode = WS_PING}, "", false},
        {{.opcode = 3}, "", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf state = {0};
        struct pack pack = {.out = &state};
        struct ws ws;
        ws_save(&rows[i].ws, &pack);
        struct unpack unpack = {.left = {buf_data(&state), buf_len(&state)}};
        unsigned version = ws_save_version(&rows[i].ws);
        const struct span bytes = {rows[i].bytes, strlen(rows[i].bytes)};
        int r = ws_restore(&ws, &unpack, version, bytes);
        cr_assert_eq(r, rows[i].right ? 0 : -EBADMSG, "row %zu", i);
        buf_deinit(&state);
    }
}

/* As a version of the program wrote it that did not count heads, which is to be read; and as this
 * one never does. */
Test(ws_frame, versions_of_a_state)
{
    const struct ws plain = {.opcode = WS_BINARY, .message = 1};
    const struct span bytes = {"a", 1};
    struct buf state = {0};
    struct pack pack = {.out = &state};
    struct ws ws;
    ws_save(&plain, &pack);
    struct unpack unpack = {.left = {buf_data(&state), buf_len(&state)}};
    cr_assert(ws_restore(&ws, &unpack, WS_SAVED, bytes) == 0 && ws.excess == 0);
    pack_u32(&pack, 0);
    unpack = (struct unpack){.left = {buf_data(&state), buf_len(&state)}};
    cr_assert_eq(ws_restore(&ws, &unpack, WS_SAVED_EXCESS, bytes), -EBADMSG);
    buf_deinit(&state);
}

/* Feeds fragments of so many bytes, never the last one, until the message is refused. */
static size_t fragments_until_refused(size_t payload, uint32_t limit, bool pings)
{
    static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    const struct ws_limits limits = {.message = limit, .frame = limit};
    struct ws ws = {0};
    char *p = malloc(limit + 64), control[WS_CONTROL_MAX], text[32] = "";
    size_t n = 0;
    cr_assert_not_null(p);
    for (size_t i = 0;; i++) {
        const struct frame ping = F(0x89, "x");
        const struct frame frame = {.first = i == 0 ? 0x02 : 0x00, .payload = text, .n = payload};
        n += pings ? put_frame(p + n, &ping, mask) : 0;
        n += put_frame(p + n, &frame, mask);
        for (;;) {
            const struct ws_result result = ws_feed(&ws, p, n, &limits, control);
            if (result.event == WS_EVENT_ERROR) {
                cr_assert_eq(result.code, WS_CODE_TOO_BIG);
                free(p);
                return i;
            }
            n = result.kept;
            if (result.event == WS_EVENT_MORE)
                break;
        }
        move(&ws, p, n);
        cr_assert_lt(i, 1000000u, "they never end");
    }
}

/* A head has 6 bytes. Fragments that bring as much are held to the limit of the message alone. */
Test(ws_frame, heads_count_where_they_bring_little)
{
    for (int pings = 0; pings <= 1; pings++) {
        cr_assert_eq(fragments_until_refused(0, 6000, pings), 1000);
        cr_assert_eq(fragments_until_refused(0, 5999, pings), 999);
        cr_assert_eq(fragments_until_refused(1, 6000, pings), 1200);
        cr_assert_eq(fragments_until_refused(5, 6000, pings), 1200, "there are 6,000 bytes");
        cr_assert_eq(fragments_until_refused(6, 6000, pings), 1000);
        cr_assert_eq(fragments_until_refused(30, 6000, pings), 200);
        cr_assert_eq(fragments_until_refused(0, 1, pings), 128 / 6, "some are always free");
    }
    /* What is brought takes off again, and the last one is free. */
    static const struct row rows[] = {
        {{F(0x02, ""), F(0x00, ""), F(0x00, ""), F(0x00, ""), F(0x00, ""), F(0x00, ""), F(0x00, ""),
             F(0x80, "")},
            "binary \"\" "},
    };
    static const struct ws_limits small = {.message = 40, .frame = 40};
    check_rows(rows, ARRAY_LEN(rows), &small);
}

enum { AHEAD_ALL = 1 << WS_PING | 1 << WS_PONG | 1 << WS_CLOSE };

/* Reads a row with nothing taken up before its end: what is seen meanwhile, then what is left. */
static void check_ahead(const struct frame *frames, size_t count, size_t step, unsigned opcodes,
    const char *early, const char *late)
{
    static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    char input[2048], control[WS_CONTROL_MAX], out[512] = "";
    size_t size = 0, n = 0;
    for (size_t i = 0; i < count; i++)
        size += put_frame(input + size, &frames[i], mask);
    char *bytes = malloc(size + 1);
    FILE *file = fmemopen(out, sizeof(out), "w");
    cr_assert(bytes != NULL && file != NULL);
    struct ws ws = {0};
    for (size_t fed = 0; fed < size;) {
        const size_t part = MIN(step, size - fed);
        size_t hole = 0;
        memcpy(bytes + n, input + fed, part);
        n += part;
        fed += part;
        for (;;) {
            struct ws_result result = ws_ahead(&ws, bytes, n, &roomy, opcodes, &hole, control);
            if (result.event != WS_EVENT_CONTROL || result.opcode == WS_CLOSE) {
                n = result.kept;
                break;
            }
            print_event(file, &result);
        }
    }
    fclose(file);
    cr_assert_str_eq(out, early, "by %zu: %s, not %s", step, out, early);
    file = fmemopen(out, sizeof(out), "w");
    char *p = bytes;
    for (;;) {
        struct ws_result result = ws_feed(&ws, p, n, &roomy, control);
        if (result.event == WS_EVENT_MORE)
            break;
        print_event(file, &result);
        p += result.event == WS_EVENT_MESSAGE ? result.used : 0;
        n = result.event == WS_EVENT_MESSAGE ? n - result.used : result.kept;
        if (result.event == WS_EVENT_ERROR || result.opcode == WS_CLOSE)
            break;
    }
    fclose(file);
    cr_assert_str_eq(out, late, "by %zu: %s, not %s", step, out, late);
    free(bytes);
}

/* What is behind data is seen, and the data is as if it had not been there. */
Test(ws_frame, ahead)
{
    static const struct {
        struct frame frames[10];
        unsigned opcodes;
        const char *early, *late;
    } rows[] = {
        {{F(0x81, "a"), F(0x89, "p"), F(0x82, "bc"), F(0x8a, "q"), F(0x89, ""), F(0x81, "d")},
            AHEAD_ALL, "ping \"p\" pong \"q\" ping \"\" ", "text \"a\" binary \"bc\" text \"d\" "},
        {{F(0x01, "a"), F(0x89, "p"), F(0x00, "b"), F(0x89, "q"), F(0x80, X125), F(0x81, "d"),
             F(0x89, "r")},
            AHEAD_ALL, "ping \"p\" ping \"q\" ping \"r\" ", "text \"ab" X125 "\" text \"d\" "},
        {{F(0x81, "a"), F(0x89, "p"), F(0x88, "\x03\xe8"), F(0x89, "q")}, AHEAD_ALL, "ping \"p\" ",
            "text \"a\" close 1000 \"\" "},
        /* What is not wanted is a border. */
        {{F(0x81, "a"), F(0x8a, "p"), F(0x89, "q"), F(0x8a, "r"), F(0x88, "")},
            1 << WS_PONG | 1 << WS_CLOSE, "pong \"p\" ",
            "text \"a\" ping \"q\" pong \"r\" close 1005 \"\" "},
        {{F(0x81, "a"), F(0x8a, "p")}, 0, "", "text \"a\" pong \"p\" "},
        /* So is what is wrong, which is found when it is its turn. */
        {{F(0x81, "a"), F(0x89, "p"), F(0x83, "b"), F(0x89, "q")}, AHEAD_ALL, "ping \"p\" ",
            "text \"a\" error 1002"},
        {{F(0x81, "a"), F(0x89, "p"), F(0x80, "b"), F(0x89, "q")}, AHEAD_ALL,
            "ping \"p\" ping \"q\" ", "text \"a\" error 1002"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        size_t count = 0;
        while (count < ARRAY_LEN(rows[i].frames) && rows[i].frames[count].payload != NULL)
            count++;
        for (size_t step = 1; step < 40; step++)
            check_ahead(rows[i].frames, count, step, rows[i].opcodes, rows[i].early, rows[i].late);
        check_ahead(rows[i].frames, count, 2048, rows[i].opcodes, rows[i].early, rows[i].late);
    }
}
