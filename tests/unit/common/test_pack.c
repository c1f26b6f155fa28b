#include <criterion/criterion.h>
#include <errno.h>

#include "common/alloc.h"
#include "common/pack.h"

enum { TAG = 7, VERSION = 3 };

static void put_all(struct pack *pack)
{
    pack_u8(pack, 0xfe);
    pack_u16(pack, 0xfedc);
    pack_u32(pack, 0xfedcba98);
    pack_u64(pack, 0xfedcba9876543210);
    pack_u64(pack, 999);
    pack_u64(pack, 1001);
    pack_u8(pack, true);
    pack_raw(pack, "raw", 3);
    pack_bytes(pack, SPAN("a\0b"));
    pack_bytes(pack, (struct span){0});
    pack_text(pack, "text");
    pack_text(pack, "");
    pack_text(pack, NULL);
    size_t begun = pack_begin(pack, TAG, VERSION);
    pack_u16(pack, 1);
    pack_end(pack, begun);
}

/* Returns what unpack_end() says. */
static int get_all(struct span bytes, bool *ret_same)
{
    struct unpack unpack = {.left = bytes};
    struct unpack_section section = {0};
    char raw[3];
    bool same = unpack_u8(&unpack) == 0xfe;
    same = unpack_u16(&unpack) == 0xfedc && same;
    same = unpack_u32(&unpack) == 0xfedcba98 && same;
    same = unpack_u64(&unpack) == 0xfedcba9876543210 && same;
    same = unpack_time(&unpack, 1000) == 999 && same;
    same = unpack_time(&unpack, 1000) == 1000 && same;
    same = unpack_flag(&unpack) && same;
    unpack_raw(&unpack, raw, sizeof(raw));
    same = memcmp(raw, "raw", 3) == 0 && same;
    struct span three = unpack_bytes(&unpack);
    same = three.n == 3 && memcmp(three.p, "a\0b", 3) == 0 && same;
    same = unpack_bytes(&unpack).n == 0 && same;
    same = unpack_text_is(unpack_text(&unpack), "text") && same;
    struct span empty = unpack_text(&unpack);
    same = unpack_text_is(empty, "") && !unpack_text_is(empty, NULL) && same;
    struct span none = unpack_text(&unpack);
    same = unpack_text_is(none, NULL) && !unpack_text_is(none, "") && same;
    same = unpack_section(&unpack, &section) && same;
    same = section.tag == TAG && section.version == VERSION && same;
    same = unpack_u16(&section.body) == 1 && unpack_end(&section.body) == 0 && same;
    same = !unpack_section(&unpack, &section) && same;
    *ret_same = same;
    return unpack_end(&unpack);
}

Test(pack, round_trip)
{
    struct buf out = {0};
    struct pack pack = {.out = &out};
    bool same;
    cr_assert_eq(buf_append(&out, "before", 6), 0);
    put_all(&pack);
    cr_assert_not(pack.failed);
    buf_consume(&out, 6);
    size_t n = buf_len(&out);
    cr_assert_eq(get_all((struct span){buf_data(&out), n}, &same), 0);
    cr_assert(same);
    /* Cut off anywhere: never read past, and said in the end. */
    for (size_t cut = 0; cut < n; cut++) {
        char *copy = malloc(cut + (cut == 0));
        cr_assert_not_null(copy);
        memcpy(copy, buf_data(&out), cut);
        int r = get_all((struct span){copy, cut}, &same);
        cr_assert(!same && (r == -EBADMSG || cut == n - 8), "cut at %zu", cut); /* the section */
        free(copy);
    }
    buf_deinit(&out);
}

Test(pack, what_is_wrong_stays_wrong)
{
    const struct {
        struct span bytes;
        bool text; /* unpack_text(), else unpack_flag() */
    } rows[] = {
        {SPAN("\2"), false},
        {SPAN("\xff"), false},
        {SPAN(""), false},
        {SPAN("\2\0\0\0\0"), true},
        {SPAN("\1\3\0\0\0a\0b"), true},
        {SPAN("\1\xff\xff\xff\xff"
              "a"),
            true},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct unpack unpack = {.left = rows[i].bytes};
        if (rows[i].text)
            cr_assert_null(unpack_text(&unpack).p);
        else
            cr_assert_not(unpack_flag(&unpack));
        cr_assert(unpack.bad && unpack_u8(&unpack) == 0 && unpack_bytes(&unpack).p == NULL);
        cr_assert_eq(unpack_end(&unpack), -EBADMSG);
    }
    struct unpack left = {.left = SPAN("x")};
    cr_assert_eq(unpack_end(&left), -EBADMSG, "bytes that nobody asked for");
}

Test(pack, no_memory)
{
    for (long n = 0;; n++) {
        struct buf out = {0};
        struct pack pack = {.out = &out};
        mem_fail_after(n);
        put_all(&pack);
        for (int i = 0; i < 100; i++)
            pack_raw(&pack, "0123456789", 10);
        mem_fail_after(-1);
        bool done = !pack.failed;
        buf_deinit(&out);
        cr_assert_eq(mem_in_use(), 0);
        if (done)
            break;
        cr_assert_lt(n, 20);
    }
}
