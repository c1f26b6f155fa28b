#include <criterion/criterion.h>
#include <errno.h>

#include "common/alloc.h"
#include "frontd/codec/coding_memory.h"
#include "frontd/codec/compress.h"
#include "tests/unit/support/decoded.h"

enum { SIZE = 300000 };

static struct compress_store store;
static char text[SIZE], back[SIZE + 1];
static size_t before;

static void set_up(void)
{
    unsigned state = 1;
    before = mem_in_use();
    for (size_t at = 0; at + 40 < SIZE;) {
        state = state * 1664525 + 1013904223;
        at += (size_t)snprintf(text + at, SIZE - at, "{\"id\":%u,\"name\":\"user\"},", state >> 12);
    }
}

static void tear_down(void)
{
    compress_store_deinit(&store);
    cr_expect_eq(mem_in_use(), before);
    cr_expect_eq(coding_held(), 0u);
}

TestSuite(compress, .init = set_up, .fini = tear_down);

static void expect_back(enum content_coding coding, struct span body, const struct buf *out)
{
    const struct span coded = {buf_data(out), buf_len(out)};
    cr_expect_eq(decoded(coding, coded, back, sizeof(back)), (long)body.n);
    cr_expect_eq(memcmp(back, body.p, body.n), 0);
}

/* Each level, one after the other with the same state, whatever the last one was. */
Test(compress, whole)
{
    static const size_t sizes[] = {200, 16384, SIZE - 50};
    struct buf out = {0};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        for (unsigned level = 0; level <= COMPRESS_GZIP_MAX; level++) {
            const struct span body = {text, sizes[i]};
            if (level > 0) {
                cr_expect(compress_whole(&store, CODING_GZIP, level, body, &out));
                cr_expect_lt(buf_len(&out), body.n);
                expect_back(CODING_GZIP, body, &out);
            }
            if (level <= COMPRESS_BR_MAX) {
                cr_expect(compress_whole(&store, CODING_BR, level, body, &out));
                cr_expect_lt(buf_len(&out), body.n);
                expect_back(CODING_BR, body, &out);
            }
        }
    }
    buf_deinit(&out);
}

/* What would not become smaller stays; the next one is compressed all the same. */
Test(compress, not_smaller)
{
    struct buf out = {0};
    for (size_t i = 0; i < 2000; i++)
        text[i] = (char)(i * 2654435761U >> 13 ^ i * i * 40503U >> 3);
    for (enum content_coding coding = CODING_GZIP; coding <= CODING_BR; coding++) {
        for (size_t n = 0; n < 10; n++)
            cr_expect(!compress_whole(&store, coding, 2, (struct span){"0123456789", n}, &out));
        const struct span noise = {text, 2000}, body = {text + 2000, 2000};
        if (compress_whole(&store, coding, 1, noise, &out))
            expect_back(coding, noise, &out);
        cr_expect(compress_whole(&store, coding, 2, body, &out));
        expect_back(coding, body, &out);
    }
    buf_deinit(&out);
}

/* A shard has no more for it than this, once it has been used. */
Test(compress, memory)
{
    struct buf out = {0};
    cr_assert(compress_whole(&store, CODING_GZIP, 9, (struct span){text, 100000}, &out));
    buf_deinit(&out);
    const size_t gzip = mem_in_use() - before;
    cr_expect_geq(coding_held(), gzip / 2);
    cr_expect_leq(gzip, (size_t)280 << 10, "%zu", gzip);
    cr_assert(compress_whole(&store, CODING_BR, 5, (struct span){text, SIZE - 50}, &out));
    buf_deinit(&out);
    cr_expect_leq(mem_in_use() - before - gzip, (size_t)(1 << 20) + 4096);
    struct compressor compressor = {0};
    const size_t store_size = mem_in_use();
    cr_assert_eq(compressor_open(&compressor, 9), 0);
    const size_t part = mem_in_use() - store_size;
    cr_expect(part <= COMPRESS_STREAM_SIZE + 4096 && part > COMPRESS_STREAM_SIZE / 2, "%zu", part);
    compressor_close(&compressor);
    compressor_close(&compressor);
}

Test(compress, without_memory)
{
    for (enum content_coding coding = CODING_GZIP; coding <= CODING_BR; coding++) {
        bool done = false;
        for (long n = 0; !done && n < 40; n++) {
            struct buf out = {0};
            compress_store_deinit(&store);
            mem_fail_after(n);
            done = compress_whole(&store, coding, 5, (struct span){text, SIZE - 50}, &out);
            mem_fail_after(-1);
            if (done)
                expect_back(coding, (struct span){text, SIZE - 50}, &out);
            cr_expect(!done || n > 0);
            buf_deinit(&out);
        }
        cr_expect(done);
    }
    int r = -ENOMEM;
    for (long n = 0; r != 0 && n < 20; n++) {
        struct compressor compressor = {0};
        mem_fail_after(n);
        r = compressor_open(&compressor, 1);
        mem_fail_after(-1);
        compressor_close(&compressor);
    }
    cr_expect_eq(r, 0);
}

/* Cut anywhere: all that was fed can be read behind a flush, and it ends once. */
Test(compress, parts)
{
    static const size_t steps[] = {1, 7, 5000, 70000, SIZE};
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        const size_t all = steps[i] < 100 ? 2000 : SIZE - 50;
        struct compressor compressor = {0};
        struct buf out = {0};
        cr_assert_eq(compressor_open(&compressor, 3), 0);
        for (size_t at = 0, n = 0; at < all; n++) {
            const size_t part = MIN(steps[i], all - at);
            const bool flush = n % 3 == 2;
            cr_assert_eq(compressor_feed(&compressor, (struct span){text + at, part},
                             flush ? COMPRESS_FLUSH : COMPRESS_GATHER, &out),
                0);
            at += part;
            if (!flush || (steps[i] < 100 && n % 30 != 2))
                continue;
            const struct span so_far = {buf_data(&out), buf_len(&out)};
            cr_expect_eq(decoded_so_far(so_far, back, sizeof(back)), at);
            const size_t len = buf_len(&out); /* nothing is said twice */
            compressor_feed(&compressor, (struct span){0}, COMPRESS_GATHER, &out);
            cr_expect_eq(buf_len(&out), len);
        }
        cr_assert_eq(compressor_feed(&compressor, (struct span){0}, COMPRESS_FINISH, &out), 0);
        expect_back(CODING_GZIP, (struct span){text, all}, &out);
        compressor_close(&compressor);
        buf_deinit(&out);
    }
}
