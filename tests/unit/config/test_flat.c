#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/config/flat.h"
#include "tests/unit/support/said.h"

static void on_change(void *data, const char *key, const char *from, const char *to)
{
    (void)data;
    say("%s: %s > %s;", key, from == NULL ? "-" : from, to == NULL ? "-" : to);
}

static void compare(const char *from, const char *to, const char *expected)
{
    struct conf_flat one = {0};
    struct conf_flat other = {0};
    cr_assert_eq(conf_flat_read(&one, from, strlen(from)), 0);
    cr_assert_eq(conf_flat_read(&other, to, strlen(to)), 0);
    conf_flat_compare(&one, &other, on_change, NULL);
    expect_said(expected);
    conf_flat_deinit(&one);
    conf_flat_deinit(&other);
    mem_trim();
    cr_assert_eq(mem_in_use(), (size_t)0);
}

Test(conf_flat, what_differs)
{
    compare("shards: 2\ndrain: 1s\n", "drain: 1s\nshards: 3\n", "shards: 2 > 3;");
    compare("", "shards: 3\n", "shards: - > 3;");
    compare("limits: {body: 1k, header: 2k}\n", "limits:\n  header: 2k\n", "limits.body: 1k > -;");
    compare("a: [x, y]\n", "a: [x, z]\n", "a: [x, y] > [x, z];");
    compare("a: []\n", "a: []\n", "");
}

Test(conf_flat, entries_have_names)
{
    compare("pools: [{name: a, queue: 1}, {name: b, queue: 2}]",
        "pools: [{name: b, queue: 2}, {name: a, queue: 5}]", "pools[a].queue: 1 > 5;");
    compare("l: [{routes: [{path: /a, t: 1}, {host: h, path: /a, t: 2}]}]",
        "l: [{routes: [{path: /a, t: 1}, {host: h, path: /a, t: 3}]}]",
        "l[0].routes[h/a].t: 2 > 3;");
}

Test(conf_flat, aliases)
{
    compare("a: &x {t: 1}\nb: *x\n", "a: &x {t: 2}\nb: *x\n", "a.t: 1 > 2;b.t: 1 > 2;");
}

Test(conf_flat, what_is_no_config)
{
    static const char *const texts[] = {"a: [", "{[1]: 2}",
        "a: &a [*a, 1, {}]", /* a list that is in itself is as deep as can be */
        "[[[[[[[[[[[[[[[[[[{}]]]]]]]]]]]]]]]]]]"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct conf_flat flat = {0};
        cr_expect_eq(conf_flat_read(&flat, texts[i], strlen(texts[i])), -EINVAL, "%s", texts[i]);
        conf_flat_deinit(&flat);
    }
}

Test(conf_flat, without_memory)
{
    static const char text[] = "a: 1\nb: [x, y]\n";
    bool done = false;
    for (long n = 0; !done; n++) {
        struct conf_flat flat = {0};
        mem_fail_after(n);
        done = conf_flat_read(&flat, text, strlen(text)) == 0;
        mem_fail_after(-1);
        conf_flat_deinit(&flat);
        cr_assert(n < 20);
    }
}

Test(conf_flat, a_config_in_json)
{
    compare("{\n \"run_dir\": \"/tmp/x\",\n \"log\": {\n  \"level\": \"info\"\n },\n \"drain\": "
            "\"1s\", "
            "\"listeners\": [{\"name\": \"web\", \"routes\": [{\"path\": \"/rpc\"}, {\"path\": "
            "\"/\"}]}], "
            "\"pools\": [{\"name\": \"app\", \"workers\": [\"unix:/tmp/app-*.sock\"]}]}\n",
        "drain: 2s\nlog: {level: info}\nrun_dir: /tmp/x\n"
        "listeners: [{name: web, routes: [{path: /rpc}, {path: /}]}]\n"
        "pools: [{name: app, workers: [\"unix:/tmp/app-*.sock\"]}]\n",
        "drain: 1s > 2s;");
}
