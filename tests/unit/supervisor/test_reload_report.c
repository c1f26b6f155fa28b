#include <criterion/criterion.h>

#include "frontd/supervisor/reload_report.h"
#include "tests/unit/support/said.h"

static struct reload_report report;
static struct reload_watcher watchers[2];

static void on_progress(struct reload_watcher *watcher, const struct reload_report *of)
{
    say("%td: %u moved;", watcher - watchers, (unsigned)of->moved);
}

static void on_over(struct reload_watcher *watcher, const struct reload_report *of)
{
    cr_assert(list_empty(&watcher->node));
    say("%td: %s %s;", watcher - watchers, reload_report_outcome(of), of->reason);
}

static void watch(size_t i, uint64_t number)
{
    watchers[i] = (struct reload_watcher){
        .number = number, .progress = on_progress, .over = on_over};
    reload_report_watch(&report, &watchers[i]);
}

static void set_up(void)
{
    report = (struct reload_report){0};
    reload_report_init(&report);
}

TestSuite(reload_report, .init = set_up);

Test(reload_report, one_that_succeeds)
{
    cr_assert_str_eq(reload_report_outcome(&report), "none");
    watch(0, 1);
    reload_report_begin(&report, false, 5000);
    watch(1, 2); /* for the one that comes after it */
    reload_report_progress(&report, 70);
    reload_report_serves(&report, 2, 10, 70);
    reload_report_progress(&report, 77);
    cr_assert_str_eq(reload_report_outcome(&report), "pending");
    reload_report_end(&report, 30, "");
    expect_said("0: 0 moved;0: 7 moved;0: ok ;");
    cr_assert(report.took == 30 && report.moved == 7 && report.at == 5000);
    reload_report_progress(&report, 78);
    cr_assert(report.moved == 7);
    reload_report_begin(&report, false, 6000);
    cr_assert(report.moved == 0 && report.generation == 0);
    reload_report_end(&report, 1, "no");
    expect_said("1: failed no;");
}

Test(reload_report, one_that_is_over_already)
{
    reload_report_begin(&report, true, 1);
    reload_report_end(&report, 1, "bad");
    watch(0, 1);
    expect_said("0: failed bad;");
    reload_report_begin(&report, true, 1);
    watch(0, 1);
    expect_said("0: pending ;"); /* another one has come since */
}

Test(reload_report, the_front_stops)
{
    reload_report_begin(&report, false, 1);
    watch(0, 1);
    watch(1, 2);
    reload_report_stop(&report);
    expect_said("0: failed frontd is told to stop;1: failed frontd is told to stop;");
}

Test(reload_report, a_watcher_that_goes)
{
    watch(0, 1);
    list_remove(&watchers[0].node);
    reload_report_begin(&report, false, 1);
    reload_report_end(&report, 1, "");
    expect_said("");
}

Test(reload_report, what_a_program_leaves_to_the_next)
{
    struct json_writer out = {0};
    struct reload_report next = {0};
    reload_report_begin(&report, true, 7000);
    reload_report_begin(&report, true, 8000);
    json_begin(&out, NULL, '{');
    reload_report_save(&report, &out);
    json_end(&out, '}');
    reload_report_init(&next);
    reload_report_restore(&next, (struct span){buf_data(&out.out), buf_len(&out.out)});
    cr_assert(next.number == 2 && next.at == 8000 && next.upgrade);
    cr_assert_str_eq(reload_report_outcome(&next), "pending");
    buf_deinit(&out.out);
    reload_report_restore(&next, SPAN("{}")); /* of a program that numbers none */
    cr_assert(next.number == 1);
}
