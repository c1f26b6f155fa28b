#include "frontd/shard/tls/tls_info.h"

#include <criterion/criterion.h>

#include "common/alloc.h"

/* What many connections have is in memory once. */
Test(tls_info, one_of_each)
{
    struct tls_infos infos;
    tls_infos_init(&infos);
    struct tls_info *one = tls_info_get(&infos, SPAN("{\"version\":\"TLSv1.3\"}"));
    struct tls_info *other = tls_info_get(&infos, SPAN("{\"version\":\"TLSv1.2\"}"));
    cr_assert(one != NULL && other != NULL && one != other);
    cr_expect_eq(tls_info_get(&infos, SPAN("{\"version\":\"TLSv1.3\"}")), one);
    struct span text = tls_info_text(one);
    cr_expect(text.n == 21 && memcmp(text.p, "{\"version\":\"TLSv1.3\"}", 21) == 0);
    cr_expect_null(tls_info_unref(&infos, one));
    cr_expect_eq(tls_info_text(one).p, text.p, "the other reference");
    tls_info_unref(&infos, one);
    tls_info_unref(&infos, other);
    tls_info_unref(&infos, NULL);
    tls_infos_deinit(&infos);
    cr_expect_eq(mem_in_use(), 0u);
}

Test(tls_info, without_memory)
{
    for (long nth = 0; nth < 4; nth++) {
        struct tls_infos infos;
        tls_infos_init(&infos);
        mem_fail_after(nth);
        struct tls_info *info = tls_info_get(&infos, SPAN("{}"));
        mem_fail_after(-1);
        cr_expect_eq(info != NULL, nth == 3, "it, its table, the table's places");
        tls_info_unref(&infos, info);
        tls_infos_deinit(&infos);
        cr_expect_eq(mem_in_use(), 0u);
    }
}

/* Workers get the text as it is. */
Test(tls_info, valid)
{
    static char large[TLS_INFO_MAX + 2] = "{\"a\":\"";
    memset(large + 6, 'x', sizeof(large) - 6);
    cr_expect(tls_info_valid(SPAN("{}")) && tls_info_valid(SPAN("{\"sni\":\"\\u0000\"}")));
    cr_expect_not(tls_info_valid(SPAN("")));
    cr_expect_not(tls_info_valid(SPAN("[]")));
    cr_expect_not(tls_info_valid(SPAN("{} ,\"peer\":1")));
    cr_expect_not(tls_info_valid(SPAN("{\"a\":\"\xff\"}")));
    for (size_t over = 0; over < 2; over++) {
        size_t n = TLS_INFO_MAX + over;
        large[n - 2] = '"';
        large[n - 1] = '}';
        cr_expect_eq(tls_info_valid((struct span){large, n}), !over);
        large[n - 2] = large[n - 1] = 'x';
    }
}
