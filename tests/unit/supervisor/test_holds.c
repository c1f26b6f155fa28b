#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "common/log.h"
#include "frontd/supervisor/holds.h"
#include "proto/json_write.h"

static struct holds holds;

static void set_up(void)
{
    holds_init(&holds);
}

static void tear_down(void)
{
    holds_deinit(&holds);
    mem_trim();
    CHECK(mem_in_use() == 0);
}

TestSuite(holds, .init = set_up, .fini = tear_down);

Test(holds, come_and_go)
{
    cr_assert_eq(holds_pause(&holds, "app", false), 0);
    cr_assert_eq(holds_pause(&holds, "app", true), 1);
    cr_assert_eq(holds_pause(&holds, "app", true), 0);
    cr_assert_eq(holds_pause(&holds, "db", true), 1);
    cr_assert(holds_is_paused(&holds, "app") && holds_is_paused(&holds, "db"));
    cr_assert(!holds_is_paused(&holds, "ap") && !holds_is_drained(&holds, "app"));
    cr_assert_eq(holds_pause(&holds, "app", false), 1);
    cr_assert(!holds_is_paused(&holds, "app") && holds_is_paused(&holds, "db"));
    cr_assert_eq(holds_drain(&holds, "unix:/w", true), 1);
    cr_assert(holds_is_drained(&holds, "unix:/w") && !holds_is_paused(&holds, "unix:/w"));
}

Test(holds, have_a_limit)
{
    char name[32];
    for (unsigned i = 0; i < SHARE_DRAINED_MAX; i++) {
        snprintf(name, sizeof(name), "tcp://h:%u", i);
        cr_assert_eq(holds_drain(&holds, name, true), 1);
    }
    cr_assert_eq(holds_drain(&holds, "tcp://one:1", true), -ENOSPC);
    cr_assert_eq(holds_drain(&holds, name, true), 0);
    cr_assert_eq(holds_drain(&holds, "tcp://h:0", false), 1);
    cr_assert_eq(holds_drain(&holds, "tcp://one:1", true), 1);
    cr_assert(holds_is_drained(&holds, name));
}

/* Restores what was saved, and returns what that says when it is saved. */
static void restore(const char *state, struct holds *ret)
{
    *ret = (struct holds){0};
    holds_init(ret);
    cr_assert_eq(holds_restore(ret, (struct span){state, strlen(state)}), 0);
}

Test(holds, are_saved)
{
    struct json_writer out = {0};
    struct holds other;
    holds_pause(&holds, "a \"b\"", true);
    holds_drain(&holds, "unix:/x/\xc3\xa4.sock", true);
    holds.log_level = LOG_DEBUG;
    json_begin(&out, NULL, '{');
    holds_save(&holds, &out);
    json_end(&out, '}');
    cr_assert_eq(buf_append(&out.out, "", 1), 0);
    restore(buf_data(&out.out), &other);
    cr_assert(
        holds_is_paused(&other, "a \"b\"") && holds_is_drained(&other, "unix:/x/\xc3\xa4.sock"));
    cr_assert_eq(other.log_level, LOG_DEBUG);
    struct holds moved = {0};
    holds_init(&moved);
    holds_move(&moved, &other);
    cr_assert(holds_is_paused(&moved, "a \"b\"") && moved.log_level == LOG_DEBUG);
    cr_assert(!holds_is_paused(&other, "a \"b\"") && other.log_level == -1);
    holds_deinit(&moved);
    holds_deinit(&other);
    buf_deinit(&out.out);
}

Test(holds, what_cannot_be_meant_is_left_out)
{
    static const char *const states[] = {"{}", "{\"paused\":1,\"drained\":\"x\",\"log_level\":9}",
        "{\"paused\":[1,{},null],\"drained\":[[]],\"log_level\":\"debug\"}",
        "{\"paused\":[],\"log_level\":-1}"};
    struct holds other;
    for (size_t i = 0; i < ARRAY_LEN(states); i++) {
        restore(states[i], &other);
        cr_assert(other.npaused == 0 && other.ndrained == 0 && other.log_level == -1);
    }
}

Test(holds, more_than_there_can_be)
{
    struct json_writer out = {0};
    char name[32];
    json_begin(&out, NULL, '{');
    json_begin(&out, "drained", '[');
    for (unsigned i = 0; i < SHARE_DRAINED_MAX + 5; i++) {
        snprintf(name, sizeof(name), "%u", i);
        json_add_text(&out, NULL, name);
    }
    json_end(&out, ']');
    json_end(&out, '}');
    cr_assert_eq(holds_restore(&holds, (struct span){buf_data(&out.out), buf_len(&out.out)}), 0);
    cr_assert_eq(holds.ndrained, (size_t)SHARE_DRAINED_MAX);
    buf_deinit(&out.out);
}

Test(holds, without_memory)
{
    for (long n = 0; n < 3; n++) {
        static const char state[] = "{\"paused\":[\"a\"],\"drained\":[\"b\"]}";
        mem_fail_after(n);
        cr_assert_eq(holds_restore(&holds, SPAN(state)), -ENOMEM);
        mem_fail_after(-1);
        holds_deinit(&holds);
    }
}
