#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/alloc.h"
#include "proto/hello.h"
#include "workerd/methods.h"

static void handle(struct workerd_call *call, void *data)
{
    (void)call;
    (void)data;
}

/* Registers each pattern with its own text as `data`. */
static void add(struct methods *methods, const char *pattern)
{
    cr_assert_eq(methods_add(methods, pattern, handle, NULL, (void *)(uintptr_t)pattern), 0);
}

/* The pattern that takes a name, or NULL. */
static const char *taker(const struct methods *methods, const char *name)
{
    const struct method *method = methods_find(methods, (struct span){name, strlen(name)});
    return method == NULL ? NULL : method->data;
}

Test(worker_methods, the_exact_name_and_then_the_longest_prefix)
{
    struct methods methods = {0};
    static const char *const patterns[] = {"a.*", "a.b.*", "*", "a.b", "a.b.c", "ab*"};
    for (size_t i = 0; i < ARRAY_LEN(patterns); i++)
        add(&methods, patterns[i]);
    static const char *const cases[][2] = {{"a.b", "a.b"}, {"a.b.c", "a.b.c"}, {"a.b.d", "a.b.*"},
        {"a.c", "a.*"}, {"a.", "a.*"}, {"a", "*"}, {"abc", "ab*"}, {"ab", "ab*"}, {"", "*"},
        {"b", "*"}, {"a.b.", "a.b.*"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        cr_assert_str_eq(taker(&methods, cases[i][0]), cases[i][1], "%s", cases[i][0]);
    methods_deinit(&methods);
    cr_assert_null(taker(&methods, "a.b"));
}

Test(worker_methods, without_a_pattern_for_all_some_have_none)
{
    struct methods methods = {0};
    cr_assert_null(taker(&methods, "a"));
    add(&methods, "a.b");
    add(&methods, "b.*");
    cr_assert_null(taker(&methods, "a"));
    cr_assert_null(taker(&methods, "a.bc"));
    cr_assert_null(taker(&methods, "b"));
    methods_deinit(&methods);
}

Test(worker_methods, what_is_refused)
{
    struct methods methods = {0};
    add(&methods, "a");
    add(&methods, "a*");
    add(&methods, "b*");
    static const struct {
        const char *pattern;
        int result;
    } cases[] = {{"", -EINVAL}, {"a*b", -EINVAL}, {"**", -EINVAL}, {"*a", -EINVAL}, {"a", -EEXIST},
        {"a*", -EEXIST}, {"b*", -EEXIST}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        cr_assert_eq(methods_add(&methods, cases[i].pattern, handle, NULL, NULL), cases[i].result,
            "%s", cases[i].pattern);
    cr_assert_eq(methods_add(&methods, "c", NULL, NULL, NULL), -EINVAL);
    cr_assert_eq(methods.count, 3);
    methods_deinit(&methods);
}

Test(worker_methods, as_many_as_hello_can_say)
{
    struct methods methods = {0};
    char *patterns[HELLO_METHODS_MAX];
    char name[32];
    for (int i = 0; i < HELLO_METHODS_MAX; i++) {
        snprintf(name, sizeof(name), i % 2 == 0 ? "m%d" : "p%d*", i);
        cr_assert_eq(methods_add(&methods, name, handle, NULL, NULL), 0);
    }
    cr_assert_eq(methods_add(&methods, "more", handle, NULL, NULL), -ENOSPC);
    cr_assert_eq(methods_add(&methods, "m0", handle, NULL, NULL), -EEXIST);
    methods_patterns(&methods, patterns);
    for (int i = 0; i < HELLO_METHODS_MAX; i++) {
        bool found = false;
        snprintf(name, sizeof(name), i % 2 == 0 ? "m%d" : "p%d*", i);
        for (int j = 0; j < HELLO_METHODS_MAX; j++)
            found = found || strcmp(patterns[j], name) == 0;
        cr_assert(found, "%s", name);
    }
    methods_deinit(&methods);
}

Test(worker_methods, each_allocation_fails_in_its_turn)
{
    for (long n = 0; n < 4; n++) {
        struct methods methods = {0};
        mem_fail_after(n);
        int exact = methods_add(&methods, "a", handle, NULL, NULL);
        int prefix = methods_add(&methods, "a*", handle, NULL, NULL);
        mem_fail_after(-1);
        cr_assert_eq((exact == -ENOMEM) + (prefix == -ENOMEM), 1, "%ld", n);
        cr_assert_eq(methods.count, 1);
        add(&methods, exact < 0 ? "a" : "a*");
        cr_assert_not_null(methods_find(&methods, SPAN("a")));
        cr_assert_not_null(methods_find(&methods, SPAN("ab")));
        methods_deinit(&methods);
        cr_assert_eq(mem_in_use(), 0);
    }
}
