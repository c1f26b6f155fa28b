#include <criterion/criterion.h>
#include <nghttp2/nghttp2.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/codec/h2_hpack.h"

enum { LIMIT = 16384 };

static char room[LIMIT];

/* A block's fields as lines. */
static void describe(char *out, size_t size, struct span text)
{
    struct h2_field field;
    size_t n = 0;
    out[0] = '\0';
    while (h2_list_next(&text, &field))
        n += (size_t)snprintf(out + n, size - n, "%.*s=%.*s\n", (int)field.name.n, field.name.p,
            (int)field.value.n, field.value.p);
    cr_assert_eq(text.n, 0u);
}

static enum h2_fault decode(
    struct h2_hpack *hpack, struct span block, uint32_t limit, char *out, size_t size, bool *over)
{
    struct h2_list list = {.text = room, .room = sizeof(room)};
    char *copy = malloc(block.n + 1); /* so that ASan sees a read past the end */
    memcpy(copy, block.p, block.n);
    enum h2_fault fault = h2_hpack_decode(hpack, (struct span){copy, block.n}, limit, &list);
    free(copy);
    *over = list.over;
    if (fault == H2_OK)
        describe(out, size, (struct span){room, list.n});
    return fault;
}

static void expect(struct h2_hpack *hpack, struct span block, const char *fields)
{
    char out[4096];
    bool over;
    cr_assert_eq(decode(hpack, block, LIMIT, out, sizeof(out), &over), H2_OK);
    cr_expect(!over && strcmp(out, fields) == 0, "%s", out);
}

/* RFC 7541 appendix C.3 and C.4: requests, without and with Huffman coding. */
Test(h2_hpack, rfc7541)
{
    static const char *const fields[] = {
        ":method=GET\n:scheme=http\n:path=/\n:authority=www.example.com\n",
        ":method=GET\n:scheme=http\n:path=/\n:authority=www.example.com\ncache-control=no-cache\n",
        ":method=GET\n:scheme=https\n:path=/index.html\n:authority=www.example.com\n"
        "custom-key=custom-value\n",
    };
    const struct span plain[] = {
        SPAN("\x82\x86\x84\x41\x0fwww.example.com"),
        SPAN("\x82\x86\x84\xbe\x58\x08no-cache"),
        SPAN("\x82\x87\x85\xbf\x40\x0a"
             "custom-key\x0c"
             "custom-value"),
    };
    const struct span huffman[] = {
        SPAN("\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"),
        SPAN("\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf"),
        SPAN("\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8"
             "\xe8\xb4\xbf"),
    };
    struct h2_hpack *a = h2_hpack_new(), *b = h2_hpack_new();
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        expect(a, plain[i], fields[i]);
        expect(b, huffman[i], fields[i]);
    }
    h2_hpack_free(a);
    h2_hpack_free(b);
    cr_expect_null(h2_hpack_free(NULL));
}

/* What is no block. */
Test(h2_hpack, faults)
{
    const struct span blocks[] = {
        SPAN("\x80"), /* index 0 */
        SPAN("\xbe"), /* beyond the tables */
        SPAN("\x40\x0a"
             "custom"),                                       /* not whole */
        SPAN("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"), /* an integer over 32 bits */
        SPAN("\x3f\xe2\x1f"),                                 /* a table of more than 4,096 bytes */
        SPAN("\x82\x20"),                                     /* a size update behind a field */
        SPAN("\x41\x81\x00"), /* Huffman: padding that is not of ones */
        SPAN("\x82\x41"),
    };
    char out[1024];
    bool over;
    for (size_t i = 0; i < ARRAY_LEN(blocks); i++) {
        struct h2_hpack *hpack = h2_hpack_new();
        cr_expect_eq(decode(hpack, blocks[i], LIMIT, out, sizeof(out), &over), H2_FAULT_COMPRESSION,
            "block %zu", i);
        h2_hpack_free(hpack);
    }
}

/* A list of exactly the limit, and of one byte more; the table goes on in either case. */
Test(h2_hpack, limit)
{
    const struct span block = SPAN("\x40\x01"
                                   "a\x03"
                                   "bcd");
    char out[256];
    bool over;
    for (uint32_t limit = 35; limit <= 36; limit++) {
        struct h2_hpack *hpack = h2_hpack_new();
        cr_expect_eq(decode(hpack, block, limit, out, sizeof(out), &over), H2_OK);
        cr_expect_eq(over, limit == 35);
        expect(hpack, SPAN("\xbe"), "a=bcd\n");
        h2_hpack_free(hpack);
    }
}

/* A few bytes that stand for megabytes are decoded, and not kept. */
Test(h2_hpack, bomb)
{
    struct h2_hpack *hpack = h2_hpack_new();
    static char block[5000];
    static char out[LIMIT];
    bool over;
    size_t n = 6;
    memcpy(block,
        "\x40\x01"
        "a\x7f\xa1\x1e",
        6); /* a value of 4,000 bytes */
    memset(block + n, 'x', 4000);
    n += 4000;
    memset(block + n, '\xbe', 900); /* 900 times the same */
    n += 900;
    cr_expect_eq(decode(hpack, (struct span){block, n}, LIMIT, out, sizeof(out), &over), H2_OK);
    cr_expect(over);
    h2_hpack_free(hpack);
}

/* Crumbs are joined where the first one is, wherever the others are. */
Test(h2_hpack, cookies)
{
    struct h2_hpack *hpack = h2_hpack_new();
    expect(hpack,
        SPAN("\x60\x03"
             "a=1"
             "\x60\x03"
             "b=2"
             "\x00\x01"
             "x\x01"
             "y"
             "\x60\x00"
             "\x60\x03"
             "c=3"),
        "cookie=a=1; b=2; ; c=3\nx=y\n");
    h2_hpack_free(hpack);
}

/* A list that is none. */
Test(h2_hpack, lists)
{
    const uint32_t entries[][2] = {{5, 0}, {1, 4}, {UINT32_MAX, 1}, {0, UINT32_MAX}};
    struct h2_field field;
    for (size_t i = 0; i < ARRAY_LEN(entries); i++) {
        char bytes[12] = {0};
        memcpy(bytes, entries[i], 8);
        struct span text = {bytes, sizeof(bytes)};
        cr_expect_not(h2_list_next(&text, &field), "%zu", i);
        cr_expect_eq(text.n, sizeof(bytes));
    }
    cr_expect_not(h2_list_next(&(struct span){"\0\0\0", 3}, &field));
}

/* Random requests of one encoder; the decoder is replaced by a thawed one again and again. */
static void move_through(unsigned seed)
{
    nghttp2_hd_deflater *encoder;
    struct h2_hpack *stays = h2_hpack_new(), *moves = h2_hpack_new();
    char stayed[8192], moved[8192];
    bool over;
    srand(seed);
    cr_assert_eq(nghttp2_hd_deflate_new(&encoder, 4096), 0);
    for (unsigned round = 0; round < 60; round++) {
        static char names[8][40], values[8][300];
        nghttp2_nv fields[8];
        uint8_t block[8192];
        size_t count = 1 + (size_t)rand() % 8;
        if (rand() % 8 == 0)
            nghttp2_hd_deflate_change_table_size(encoder, (size_t)rand() % 4097);
        for (size_t i = 0; i < count; i++) {
            int id = rand() % 30;
            snprintf(names[i], sizeof(names[i]), "x-header-%d", id);
            snprintf(values[i], sizeof(values[i]), "%d-%0*d", rand() % 6, rand() % 200 + 1, id);
            fields[i] = (nghttp2_nv){(uint8_t *)names[i], (uint8_t *)values[i], strlen(names[i]),
                strlen(values[i]), NGHTTP2_NV_FLAG_NONE};
        }
        ssize_t n = nghttp2_hd_deflate_hd(encoder, block, sizeof(block), fields, count);
        cr_assert(n > 0);
        struct span span = {(const char *)block, (size_t)n};
        cr_assert_eq(decode(stays, span, LIMIT, stayed, sizeof(stayed), &over), H2_OK);
        cr_assert_eq(decode(moves, span, LIMIT, moved, sizeof(moved), &over), H2_OK);
        cr_assert_str_eq(stayed, moved);
        struct buf frozen = {0};
        cr_assert_eq(h2_hpack_freeze(moves, &frozen), 0);
        cr_expect_leq(buf_len(&frozen), 4096u + 128u * 3u);
        h2_hpack_free(moves);
        cr_assert_eq(
            h2_hpack_thaw((struct span){buf_data(&frozen), buf_len(&frozen)}, &moves), H2_OK);
        buf_deinit(&frozen);
    }
    nghttp2_hd_deflate_del(encoder);
    h2_hpack_free(stays);
    h2_hpack_free(moves);
}

Test(h2_hpack, freeze)
{
    for (unsigned seed = 1; seed <= 50; seed++)
        move_through(seed);
}

/* Nothing learned takes nothing; what is no frozen table is refused. */
Test(h2_hpack, thaw)
{
    struct h2_hpack *hpack = NULL;
    struct buf frozen = {0};
    cr_assert_eq(h2_hpack_thaw((struct span){0}, &hpack), H2_OK);
    cr_expect(h2_hpack_freeze(hpack, &frozen) == 0 && buf_len(&frozen) == 0);
    h2_hpack_free(hpack);
    const struct span wrong[] = {
        SPAN("\0\x05"
             "abc"),                /* not whole */
        SPAN("\x3f"), SPAN("\x40"), /* no such entry */
        SPAN("\x3e\x01"),           /* a copy of nothing */
        SPAN("\x01\x01"
             "a\x3e\x02"),
        SPAN("\x01\x01"
             "a\x3e\x00"),
        SPAN("\x01\x01"
             "a\x3f\x21"),        /* a size behind an entry */
        SPAN("\x3f\x3f\xe1\x1f"), /* the size that it has anyway */
        SPAN("\x3f\x41"),
        SPAN("\x01\x81"
             "a"), /* Huffman, which is not written */
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        cr_expect_eq(h2_hpack_thaw(wrong[i], &hpack), H2_FAULT_COMPRESSION, "%zu", i);
}

/* Names of the static table, and copies, take a byte or two. */
Test(h2_hpack, frozen_size)
{
    struct h2_hpack *hpack = h2_hpack_new(), *thawed;
    struct buf frozen = {0};
    char out[1024];
    bool over;
    const struct span block = SPAN("\x40\x04"
                                   "etag\x02"
                                   "ab"
                                   "\x40\x01"
                                   "x\x01"
                                   "y"
                                   "\x40\x04"
                                   "etag\x02"
                                   "ab"
                                   "\x40\x01"
                                   "x\x01"
                                   "y");
    cr_assert_eq(decode(hpack, block, LIMIT, out, sizeof(out), &over), H2_OK);
    cr_assert_eq(h2_hpack_freeze(hpack, &frozen), 0);
    struct span image = {buf_data(&frozen), buf_len(&frozen)};
    const struct span wanted = SPAN("\x22\x02"
                                    "ab"
                                    "\0\x01x\x01y"
                                    "\x3e\x02\x3e\x02");
    cr_expect(image.n == wanted.n && memcmp(image.p, wanted.p, image.n) == 0);
    cr_assert_eq(h2_hpack_thaw(image, &thawed), H2_OK);
    expect(thawed, SPAN("\xbe\xbf\xc0\xc1"), "x=y\netag=ab\nx=y\netag=ab\n");
    h2_hpack_free(thawed);
    h2_hpack_free(hpack);
    buf_deinit(&frozen);
}

/* Each allocation fails once. */
Test(h2_hpack, memory)
{
    const struct span block = SPAN("\x40\x01"
                                   "a\x03"
                                   "bcd");
    size_t before = mem_in_use();
    unsigned failed = 0;
    for (long n = 0; n < 100; n++) {
        char out[64];
        bool over;
        struct buf frozen = {0};
        mem_trim();
        mem_fail_after(n);
        struct h2_hpack *hpack = h2_hpack_new();
        bool right = hpack != NULL;
        if (right)
            right = decode(hpack, block, LIMIT, out, sizeof(out), &over) == H2_OK &&
                    h2_hpack_freeze(hpack, &frozen) == 0;
        h2_hpack_free(hpack);
        mem_fail_after(-1);
        buf_deinit(&frozen);
        cr_assert_eq(mem_in_use(), before);
        failed += !right;
        if (right)
            break;
    }
    cr_expect_gt(failed, 2u);
}
