#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "common/alloc.h"
#include "frontd/codec/coding_memory.h"
#include "frontd/codec/gunzip.h"

static struct gunzip gunzip;
static size_t before;

static void set_up(void)
{
    before = mem_in_use();
}

static void tear_down(void)
{
    gunzip_deinit(&gunzip);
    cr_expect_eq(mem_in_use(), before);
    cr_expect_eq(coding_held(), 0u);
}

TestSuite(gunzip, .init = set_up, .fini = tear_down);

/* Appends a member that has these bytes. Returns its size. */
static size_t pack(struct buf *out, const void *p, size_t n)
{
    z_stream stream = {0};
    cr_assert_eq(deflateInit2(&stream, 9, Z_DEFLATED, 31, 9, Z_DEFAULT_STRATEGY), Z_OK);
    const size_t most = deflateBound(&stream, n);
    char *room = buf_room(out, most);
    cr_assert_not_null(room);
    stream.next_in = (unsigned char *)(uintptr_t)p;
    stream.avail_in = (unsigned)n;
    stream.next_out = (unsigned char *)room;
    stream.avail_out = (unsigned)most;
    cr_assert_eq(deflate(&stream, Z_FINISH), Z_STREAM_END);
    buf_added(out, most - stream.avail_out);
    deflateEnd(&stream);
    return most - stream.avail_out;
}

/* Inflates in memory that ends where the body ends. */
static int unpack(const struct buf *body, size_t limit, struct buf *out)
{
    char *copy = malloc(buf_len(body));
    cr_assert_not_null(copy);
    memcpy(copy, buf_data(body), buf_len(body));
    const int r = gunzip_body(&gunzip, (struct span){copy, buf_len(body)}, limit, out);
    free(copy);
    return r;
}

/* One more or less byte, anywhere, and it is no body. */
Test(gunzip, whole_or_nothing)
{
    static const char text[] = "a text, a text, a text, and \x00\xff another text";
    struct buf body = {0}, out = {0};
    pack(&body, text, sizeof(text));
    cr_expect_eq(unpack(&body, 1000, &out), 0);
    cr_expect(buf_len(&out) == sizeof(text) && memcmp(buf_data(&out), text, sizeof(text)) == 0);
    struct buf cut = {0};
    for (size_t n = 1; n < buf_len(&body); n++) {
        buf_truncate(&cut, 0);
        buf_append(&cut, buf_data(&body), n);
        cr_expect_eq(unpack(&cut, 1000, &out), -EBADMSG, "%zu bytes", n);
    }
    static const struct span rests[] = {
        {"\0", 1}, {"\x1f", 1}, {"\x1f\x8b", 2}, {"text", 4}, {"\0\0\0\0\0\0\0\0", 8}};
    for (size_t i = 0; i < ARRAY_LEN(rests); i++) {
        buf_truncate(&cut, 0);
        buf_append(&cut, buf_data(&body), buf_len(&body));
        buf_append(&cut, rests[i].p, rests[i].n);
        cr_expect_eq(unpack(&cut, 1000, &out), -EBADMSG, "rest %zu", i);
    }
    /* Its checksum and its length are the last eight bytes: RFC 1952 section 2.3.1. */
    for (size_t back = 1; back <= 8; back++) {
        buf_truncate(&cut, 0);
        buf_append(&cut, buf_data(&body), buf_len(&body));
        buf_data(&cut)[buf_len(&cut) - back] ^= 1;
        cr_expect_eq(unpack(&cut, 1000, &out), -EBADMSG, "byte %zu from the end", back);
    }
    buf_deinit(&cut);
    buf_deinit(&body);
    buf_deinit(&out);
}

Test(gunzip, other_formats)
{
    static const struct span bodies[] = {
        {"{}", 2}, {"\x78\x9c\xab\xae\x05\x00\x01\x75\x00\xf9", 10}, /* zlib's */
        {"\xab\xae\x05\x00", 4},                                     /* without a wrapper */
        {"\x1f\x8b\x07\0\0\0\0\0\0\0\x03\0", 12},   /* not deflate: RFC 1952 section 2.3.1 */
        {"\x1f\x8b\x08\xe0\0\0\0\0\0\0\x03\0", 12}, /* reserved flags */
    };
    struct buf out = {0};
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++)
        cr_expect_eq(gunzip_body(&gunzip, bodies[i], 1000, &out), -EBADMSG, "row %zu", i);
    buf_deinit(&out);
}

Test(gunzip, members)
{
    struct buf body = {0}, out = {0};
    for (int i = 0; i < GUNZIP_MEMBERS; i++)
        pack(&body, "ab", i == 3 ? 0 : 2);
    cr_expect_eq(unpack(&body, 2 * (GUNZIP_MEMBERS - 1), &out), 0);
    cr_expect(buf_len(&out) == 30 && memcmp(buf_data(&out), "ababab", 6) == 0);
    cr_expect_eq(unpack(&body, 2 * (GUNZIP_MEMBERS - 1) - 1, &out), -EMSGSIZE);
    pack(&body, "ab", 2);
    cr_expect_eq(unpack(&body, 1000, &out), -EBADMSG, "one more");
    buf_deinit(&body);
    buf_deinit(&out);
}

/* At each limit, and one byte past it. */
Test(gunzip, limits)
{
    enum { BIG = 3 << 20 };
    char *zeros = calloc(1, BIG);
    char *mixed = malloc(BIG); /* compresses, but not a hundredfold */
    cr_assert(zeros != NULL && mixed != NULL);
    for (size_t i = 0; i < BIG; i++)
        mixed[i] = (char)(i * i >> 7);
    struct buf body = {0}, out = {0};

    const size_t packed = pack(&body, mixed, BIG);
    cr_assert(packed < BIG && packed * GUNZIP_RATIO > BIG);
    cr_expect_eq(unpack(&body, BIG, &out), 0);
    cr_expect(buf_len(&out) == BIG && memcmp(buf_data(&out), mixed, BIG) == 0);
    cr_expect_eq(unpack(&body, BIG - 1, &out), -EMSGSIZE);

    buf_truncate(&body, 0);
    pack(&body, zeros, GUNZIP_FREE);
    cr_expect_eq(unpack(&body, BIG, &out), 0);
    cr_expect_eq(buf_len(&out), (size_t)GUNZIP_FREE);
    buf_truncate(&body, 0);
    pack(&body, zeros, GUNZIP_FREE + 1);
    cr_assert(buf_len(&body) * GUNZIP_RATIO < GUNZIP_FREE);
    cr_expect_eq(unpack(&body, BIG, &out), -EMSGSIZE);
    buf_deinit(&out); /* what a bomb has taken is not kept */

    /* A hundred times what was sent, exactly: with a name of that length (RFC 1952, FNAME). */
    enum { NAMED = 2000000 };
    buf_truncate(&body, 0);
    const size_t plain = pack(&body, zeros, NAMED);
    const size_t name = NAMED / GUNZIP_RATIO - plain;
    for (size_t less = 0; less <= 1; less++) {
        struct buf named = {0};
        buf_append(&named, buf_data(&body), 10);
        buf_data(&named)[3] = 8;
        for (size_t i = 1; i < name - less; i++)
            buf_append(&named, "n", 1);
        buf_append(&named, "", 1);
        buf_append(&named, buf_data(&body) + 10, plain - 10);
        cr_assert_eq(buf_len(&named), NAMED / GUNZIP_RATIO - less);
        cr_expect_eq(unpack(&named, BIG, &out), less == 0 ? 0 : -EMSGSIZE);
        buf_deinit(&named);
    }
    free(zeros);
    free(mixed);
    buf_deinit(&body);
    buf_deinit(&out);
}

Test(gunzip, without_memory)
{
    struct buf body = {0}, out = {0};
    int r = -ENOMEM;
    pack(&body, "some text", 9);
    for (long n = 0; r == -ENOMEM && n < 20; n++) {
        mem_fail_after(n);
        r = unpack(&body, 1000, &out);
        mem_fail_after(-1);
        buf_deinit(&out);
        cr_expect(r == 0 || r == -ENOMEM);
        cr_expect(r != 0 || n > 2);
    }
    cr_expect_eq(r, 0);
    buf_deinit(&body);
}
