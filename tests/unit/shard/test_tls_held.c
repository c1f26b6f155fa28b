#include "frontd/shard/tls/tls_held.h"

#include <criterion/criterion.h>
#include <errno.h>

#include "common/alloc.h"

static void add(struct tls_held **held, struct span bytes)
{
    cr_assert_eq(tls_held_add_in(held, bytes.p, bytes.n, 7), 0);
}

Test(tls_held, where_a_record_ends)
{
    static const char record[] = "\x17\x03\x03\0\x03"
                                 "abc";
    struct tls_held *held = NULL;
    cr_expect(tls_held_in(held) == 0 && tls_held_out(held) == 0 && tls_held_record(held) == 0);
    cr_expect_not(tls_held_is_part(held, 0));
    for (size_t n = 0; n < 8; n++) {
        cr_expect_eq(tls_held_record(held), 0u, "%zu bytes", n);
        cr_expect_eq(tls_held_is_part(held, 7 - n), n >= 5, "%zu bytes", n);
        cr_expect_not(tls_held_is_part(held, 8 - n), "it would be whole");
        add(&held, (struct span){record + n, 1});
    }
    cr_expect_eq(tls_held_record(held), 8u);
    add(&held, SPAN("\x17"));
    cr_expect_eq(tls_held_record(held), 8u, "of two the first");
    cr_expect_eq(held->since, 7u);
    buf_consume(&held->in, 9);
    tls_held_tidy(&held);
    cr_expect_null(held);
    cr_expect_eq(mem_in_use(), 0u);
}

/* At the limit a record is waited for; past it, its header is enough. */
Test(tls_held, records_that_are_too_long)
{
    enum { MOST = TLS_HELD_RECORD_MAX - TLS_HEADER_SIZE };
    for (unsigned over = 0; over < 2; over++) {
        struct tls_held *held = NULL;
        const unsigned size = MOST + over;
        const char head[] = {0x17, 3, 3, (char)(size >> 8), (char)size};
        add(&held, (struct span){head, sizeof(head)});
        cr_expect_eq(tls_held_record(held), over ? 5u : 0u);
        cr_expect_eq(tls_held_is_part(held, 0), !over);
        tls_held_free(&held);
    }
}

Test(tls_held, moves)
{
    struct buf saved = {0};
    struct pack pack = {.out = &saved};
    struct tls_held *held = NULL, *restored = NULL;
    tls_held_save(NULL, &pack);
    add(&held, SPAN("in"));
    cr_assert_eq(tls_held_add_out(&held, "out", 3), 0);
    tls_held_save(held, &pack);
    struct unpack unpack = {.left = {buf_data(&saved), buf_len(&saved)}};
    cr_expect(tls_held_restore(&restored, &unpack, 99) == 0 && restored == NULL, "nothing");
    cr_assert_eq(tls_held_restore(&restored, &unpack, 99), 0);
    cr_expect(unpack_end(&unpack) == 0 && restored->since == 99);
    cr_expect(tls_held_in(restored) == 2 && memcmp(buf_data(&restored->in), "in", 2) == 0);
    cr_expect(tls_held_out(restored) == 3 && memcmp(buf_data(&restored->out), "out", 3) == 0);
    tls_held_free(&held);
    tls_held_free(&restored);
    for (size_t n = 8; n < buf_len(&saved); n++) { /* the second one, cut */
        unpack = (struct unpack){.left = {buf_data(&saved) + 8, n - 8}};
        cr_expect_eq(tls_held_restore(&restored, &unpack, 99), -EBADMSG, "%zu", n);
        tls_held_free(&restored);
    }
    buf_deinit(&saved);
}

/* No shard reads more than one record that it does not open. */
Test(tls_held, believes_no_size)
{
    static char many[TLS_HELD_RECORD_MAX + 1];
    for (size_t over = 0; over < 2; over++) {
        struct buf saved = {0};
        struct pack pack = {.out = &saved};
        struct tls_held *restored = NULL;
        pack_bytes(&pack, (struct span){many, TLS_HELD_RECORD_MAX + over});
        pack_bytes(&pack, (struct span){0});
        struct unpack unpack = {.left = {buf_data(&saved), buf_len(&saved)}};
        cr_expect_eq(tls_held_restore(&restored, &unpack, 0), over ? -EBADMSG : 0);
        tls_held_free(&restored);
        buf_deinit(&saved);
    }
}
