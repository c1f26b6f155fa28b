#include <criterion/criterion.h>
#include <string.h>

#include "frontd/ipc/metric_carry.h"
#include "frontd/ipc/metric_sums.h"
#include "frontd/ipc/shm_names.h"
#include "tests/unit/support/shm.h"

TestSuite(metric_carry, .init = make_memory_of_test, .fini = unmap_memory_of_test);

static struct span member(struct json_writer *out)
{
    cr_assert_not(out->failed);
    static const char begin[] = "\"counts\":";
    const char *text = buf_data(&out->out);
    cr_assert_eq(memcmp(text, begin, sizeof(begin) - 1), 0);
    return (struct span){text + sizeof(begin) - 1, buf_len(&out->out) - sizeof(begin) + 1};
}

/* All words of all kinds, of two rows each, come to the rows of the same names. */
Test(metric_carry, all_words)
{
    unsigned listener = share_name_claim(share, METRIC_KIND_listener, 2, SPAN("we\"b"));
    unsigned route = share_name_claim(share, METRIC_KIND_route, listener, SPAN("/rpc"));
    unsigned pair = share_name_claim(share, METRIC_KIND_pair, route, SPAN("app"));
    unsigned method = share_name_claim(share, METRIC_KIND_method, 0, SPAN("demo.\x01"));
    const unsigned rows[METRIC_KINDS] = {[METRIC_KIND_listener] = listener,
        [METRIC_KIND_route] = route,
        [METRIC_KIND_pair] = pair,
        [METRIC_KIND_method] = method};
    for (unsigned kind = 0; kind < METRIC_KINDS; kind++) {
        for (unsigned seat = 1; seat < 3; seat++) {
            for (unsigned row = 0; row <= rows[kind]; row++) {
                _Atomic uint64_t *words = metric_row(share, seat, (enum metric_kind)kind, row);
                for (size_t w = 0; w < metric_words((enum metric_kind)kind); w++)
                    share_count(&words[w], w == 0 ? 1000000 : w + row + 1);
            }
        }
    }
    struct json_writer out = {0};
    metric_carry_save(share, &out);
    struct share *old = share;
    share_table_init(&table);
    share = make_share(16);
    /* Other rows are there first. */
    share_name_claim(share, METRIC_KIND_listener, 0, SPAN("another"));
    share_name_claim(share, METRIC_KIND_route, 1, SPAN("/rpc"));
    metric_carry_restore(share, member(&out));
    cr_assert_eq(share_name_find(share, METRIC_KIND_listener, 2, SPAN("we\"b")), 2u);
    cr_assert_eq(share_name_find(share, METRIC_KIND_route, 2, SPAN("/rpc")), 2u);
    cr_assert_eq(share_name_find(share, METRIC_KIND_pair, 2, SPAN("app")), 1u);
    const unsigned now[METRIC_KINDS] = {[METRIC_KIND_listener] = 2,
        [METRIC_KIND_route] = 2,
        [METRIC_KIND_pair] = 1,
        [METRIC_KIND_method] = share_name_find(share, METRIC_KIND_method, 0, SPAN("demo.\x01"))};
    for (unsigned kind = 0; kind < METRIC_KINDS; kind++) {
        size_t n;
        const struct metric *all = metric_table((enum metric_kind)kind, &n);
        for (unsigned which = 0; which < 2; which++) {
            struct metric_sums before;
            struct metric_sums after;
            unsigned from = which == 0 ? rows[kind] : 0;
            metric_sum(old, (enum metric_kind)kind, from, &before);
            metric_sum(share, (enum metric_kind)kind, which == 0 ? now[kind] : 0, &after);
            for (size_t i = 0; i < n; i++) {
                bool carried = all[i].type != METRIC_HIDDEN && all[i].type != METRIC_GAUGE;
                bool booked = kind != METRIC_KIND_method &&
                              (strcmp(all[i].member, "closed") == 0 ||
                                  strcmp(all[i].member, "ended") == 0);
                uint64_t was = metric_total(&before, &all[i]);
                uint64_t is = metric_total(&after, &all[i]);
                if (booked) /* what had begun has ended */
                    cr_expect_eq(is, before.words[0], "%s", all[i].member);
                else
                    cr_expect_eq(is, carried ? was : 0, "%s", all[i].member);
            }
        }
    }
    struct metric_sums sums;
    cr_expect(metric_sum_seat(share, 1, METRIC_KIND_shard, 0, &sums), "a shard's stay its seat's");
    buf_deinit(&out.out);
    share_unmap(old);
}

/* What a later version has written, or anything. */
Test(metric_carry, anything)
{
    static const char *const texts[] = {"", "{}", "[]", "[1,{},[]]", "[{\"kind\":\"later\"}]",
        "[{\"kind\":\"front\",\"words\":{\"later\":1,\"dropped\":-1,\"unheard\":7}}]",
        "[{\"kind\":\"pair\",\"name\":\"a\",\"of\":[[],[1,2],[3]],\"words\":[]}]",
        "[{\"kind\":\"shard\",\"seat\":64,\"words\":{\"turns\":1}}]",
        "[{\"kind\":\"route\",\"name\":7,\"of\":{},\"words\":{\"received\":3}}]"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        metric_carry_restore(share, (struct span){texts[i], strlen(texts[i])});
    cr_expect_eq(metric_totals(share).unheard, 7u);
    cr_expect_eq(metric_totals(share).requests, 3u);
}
