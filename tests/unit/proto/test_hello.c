#include <criterion/criterion.h>
#include <errno.h>

#include "common/alloc.h"
#include "proto/frame.h"
#include "proto/hello.h"
#include "tests/unit/support/vectors.h"

static int result_of(const struct vector *vector)
{
    const char *name = vectors_get(vector, "result");
    if (strcmp(name, "ok") == 0)
        return 0;
    if (strcmp(name, "version") == 0)
        return HELLO_E_VERSION;
    cr_assert_str_eq(name, "bad");
    return HELLO_E_INVALID;
}

/* The body, allocated exactly. */
static char *body_of(const struct vector *vector, size_t *ret_n)
{
    if (vectors_nth(vector, "hex", 0) != NULL)
        return vectors_bytes(vectors_get(vector, "hex"), ret_n);
    const char *text = vectors_get(vector, "text");
    *ret_n = strlen(text);
    char *body = malloc(*ret_n + (*ret_n == 0));
    cr_assert_not_null(body);
    memcpy(body, text, *ret_n);
    return body;
}

static void check_worker(const struct vector *vector, struct span body)
{
    const char *name = vectors_get(vector, "name");
    struct hello_worker hello = {0};
    int wanted = result_of(vector);
    cr_assert_eq(hello_worker_read(body, &hello), wanted, "%s", name);
    if (wanted != 0) {
        cr_assert(hello.name == NULL && hello.methods == NULL, "%s", name);
        return;
    }
    cr_assert_eq(hello.concurrency, vectors_number(vector, "concurrency"), "%s", name);
    cr_assert_eq(hello.max_frame, vectors_number(vector, "max_frame"), "%s", name);
    const char *pid = vectors_nth(vector, "pid", 0);
    cr_assert_eq(hello.pid, pid == NULL ? 0 : strtoll(pid, NULL, 10), "%s", name);
    const char *name_is = vectors_nth(vector, "name_is", 0);
    if (name_is == NULL)
        cr_assert_null(hello.name, "%s", name);
    else
        cr_assert_str_eq(hello.name, name_is, "%s", name);
    const char *methods = vectors_get(vector, "methods");
    cr_assert_eq(hello.has_methods, strcmp(methods, "-") != 0, "%s", name);
    cr_assert_eq(hello.nmethods, strtoul(methods, NULL, 10), "%s", name); /* "-" reads as 0 */
    for (size_t i = 0; i < hello.nmethods; i++)
        cr_assert_str_eq(hello.methods[i], vectors_nth(vector, "method", i), "%s", name);
    bool push = false;
    const char *feature;
    for (size_t i = 0; (feature = vectors_nth(vector, "feature", i)) != NULL; i++)
        push = push || strcmp(feature, "push") == 0;
    cr_assert_eq(hello.push, push, "%s", name);
    hello_worker_deinit(&hello);
}

static void check_front(const struct vector *vector, struct span body)
{
    const char *name = vectors_get(vector, "name");
    struct hello_peer peer = {0};
    int wanted = result_of(vector);
    cr_assert_eq(hello_front_read(body, &peer), wanted, "%s", name);
    if (wanted != 0)
        return;
    const char *front = vectors_nth(vector, "front", 0);
    const char *pool = vectors_nth(vector, "pool", 0);
    const char *instance = vectors_nth(vector, "instance", 0);
    const char *shard = vectors_nth(vector, "shard", 0);
    cr_assert_str_eq(peer.front, front == NULL ? "" : front, "%s", name);
    cr_assert_str_eq(peer.pool, pool == NULL ? "" : pool, "%s", name);
    cr_assert_str_eq(peer.instance, instance == NULL ? "" : instance, "%s", name);
    cr_assert_eq(peer.shard, shard == NULL ? 0 : strtoul(shard, NULL, 10), "%s", name);
    cr_assert_eq(peer.max_frame, vectors_number(vector, "max_frame"), "%s", name);
}

Test(hello, vectors)
{
    char *text = vectors_load("hello.txt");
    char *rest = text;
    struct vector vector;
    size_t count = 0;
    size_t before = mem_in_use();
    for (; vectors_next(&rest, &vector); count++) {
        size_t n;
        char *bytes = body_of(&vector, &n);
        struct span body = {bytes, n};
        if (strcmp(vectors_get(&vector, "from"), "worker") == 0)
            check_worker(&vector, body);
        else
            check_front(&vector, body);
        free(bytes);
    }
    cr_assert_gt(count, (size_t)20);
    cr_assert_eq(mem_in_use(), before);
    free(text);
}

Test(hello, the_front_is_read_as_it_is_written)
{
    const struct hello_front hello = {.instance = "6f1c",
        .pool = "app",
        .generation = 3,
        .shard = 2,
        .shards = 4,
        .max_frame = 65536};
    struct buf body = {0};
    struct hello_peer peer;
    cr_assert_eq(hello_front_write(&body, &hello), 0);
    cr_assert_eq(hello_front_read((struct span){buf_data(&body), buf_len(&body)}, &peer), 0);
    cr_assert_str_eq(peer.front, "frontd/" FRONTD_VERSION);
    cr_assert_str_eq(peer.pool, "app");
    cr_assert_str_eq(peer.instance, "6f1c");
    cr_assert_eq(peer.shard, 2);
    cr_assert_eq(peer.max_frame, 65536);
    buf_deinit(&body);
}

static char orders[] = "orders.*";
static char health[] = "health";
static char quoted[] = "\"quoted\\\"";
static char *methods[] = {orders, health, quoted};
static char worker_name[] = "w\n1";
static char responses[] = "a7Kq_-";

static const struct hello_worker worker = {
    .name = worker_name,
    .responses = responses,
    .methods = methods,
    .nmethods = ARRAY_LEN(methods),
    .has_methods = true,
    .pid = 4711,
    .concurrency = 0,
    .max_frame = 1 << 20,
    .push = true,
};

Test(hello, the_worker_is_read_as_it_is_written)
{
    struct buf body = {0};
    struct hello_worker read = {0};
    cr_assert_eq(hello_worker_write(&body, &worker), 0);
    cr_assert_eq(hello_worker_read((struct span){buf_data(&body), buf_len(&body)}, &read), 0);
    cr_assert_str_eq(read.name, worker.name);
    cr_assert_str_eq(read.responses, worker.responses);
    cr_assert_eq(read.pid, 4711);
    cr_assert_eq(read.concurrency, 0);
    cr_assert_eq(read.max_frame, 1 << 20);
    cr_assert(read.push);
    cr_assert_eq(read.nmethods, ARRAY_LEN(methods));
    for (size_t i = 0; i < read.nmethods; i++)
        cr_assert_str_eq(read.methods[i], methods[i]);
    hello_worker_deinit(&read);
    buf_deinit(&body);
    cr_assert_eq(mem_in_use(), (size_t)0);
}

/* What ids of requests begin with: 1 to 64 characters that JSON has no escapes for. */
Test(hello, responses)
{
    char longest[HELLO_RESPONSES_MAX + 1];
    char longer[HELLO_RESPONSES_MAX + 2];
    memset(longest, 'a', sizeof(longest));
    memset(longer, 'a', sizeof(longer));
    longest[sizeof(longest) - 1] = longer[sizeof(longer) - 1] = '\0';
    const struct {
        const char *value;
        int result;
    } rows[] = {{"\"a\"", 0}, {"\"azAZ09_-\"", 0}, {longest, 0}, {longer, HELLO_E_INVALID},
        {"\"\"", HELLO_E_INVALID}, {"\"a.b\"", HELLO_E_INVALID}, {"\"a b\"", HELLO_E_INVALID},
        {"\"\\u0061\"", HELLO_E_INVALID}, {"\"@\"", HELLO_E_INVALID}, {"\"[\"", HELLO_E_INVALID},
        {"\"\xc3\xa9\"", HELLO_E_INVALID}, {"1", HELLO_E_INVALID}, {"null", HELLO_E_INVALID},
        {"[\"a\"]", HELLO_E_INVALID}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char text[256];
        struct hello_worker read = {0};
        const char *value = rows[i].value;
        int n = snprintf(text, sizeof(text), "{\"protocol\":1,\"responses\":%s%s%s}",
            value[0] == 'a' ? "\"" : "", value, value[0] == 'a' ? "\"" : "");
        int r = hello_worker_read((struct span){text, (size_t)n}, &read);
        cr_expect_eq(r, rows[i].result, "%s", text);
        cr_expect_eq(read.responses != NULL, r == 0, "%s", text);
        hello_worker_deinit(&read);
    }
    cr_assert_eq(mem_in_use(), (size_t)0);
}

Test(hello, each_allocation_fails)
{
    struct buf body = {0};
    cr_assert_eq(hello_worker_write(&body, &worker), 0);
    size_t before = mem_in_use();
    int r = -ENOMEM;
    for (long n = 0; r == -ENOMEM; n++) {
        cr_assert_lt(n, 100);
        struct hello_worker read = {0};
        mem_fail_after(n);
        r = hello_worker_read((struct span){buf_data(&body), buf_len(&body)}, &read);
        mem_fail_after(-1);
        cr_assert(r == 0 || (r == -ENOMEM && read.name == NULL && read.responses == NULL &&
                                read.nmethods == 0));
        hello_worker_deinit(&read);
        cr_assert_eq(mem_in_use(), before);
    }
    buf_deinit(&body);
}

static const char long_reason[] =
    "a reason that is longer than what is taken for a body at first, and so "
    "has to be given more room than there is in the beginning";

static int write_body(unsigned kind, struct buf *out)
{
    static const struct hello_front front = {.instance = long_reason, .pool = long_reason};
    return kind == 0   ? hello_worker_write(out, &worker)
           : kind == 1 ? hello_front_write(out, &front)
                       : goaway_write(out, long_reason, 1);
}

/* A body is there as a whole or not at all, and nothing is kept of it then. */
Test(hello, each_allocation_of_a_writer_fails)
{
    for (unsigned kind = 0; kind < 3; kind++) {
        int r = -ENOMEM;
        long n = 0;
        for (; r == -ENOMEM; n++) {
            cr_assert_lt(n, 20);
            struct buf out = {0};
            mem_fail_after(n);
            r = write_body(kind, &out);
            mem_fail_after(-1);
            cr_assert(r == 0 || (r == -ENOMEM && buf_len(&out) == 0 && mem_in_use() == 0));
            buf_deinit(&out);
        }
        cr_assert_gt(n, 2, "more than one allocation was needed");
    }
    struct buf out = {0};
    cr_assert_eq(buf_append(&out, "before", 6), 0);
    mem_fail_after(0);
    cr_assert_eq(goaway_write(&out, long_reason, 1), -ENOMEM);
    mem_fail_after(-1);
    cr_assert(buf_len(&out) == 6 && memcmp(buf_data(&out), "before", 6) == 0);
    buf_deinit(&out);
}

Test(hello, goaway)
{
    static const struct {
        const char *body;
        const char *reason;
        uint64_t last_call;
    } cases[] = {
        {"{\"reason\":\"shutdown\",\"last_call\":17}", "shutdown", 17},
        {"{\"last_call\":0}", "", 0},
        {"{\"reason\":\"drain\"}", "drain", UINT64_MAX},
        {"{\"reason\":\"a long reason, cut off\",\"last_call\":-1}", "a long reas", UINT64_MAX},
        {"{\"reason\":7,\"last_call\":\"7\"}", "", UINT64_MAX},
        {"{\"last_call\":1.5}", "", UINT64_MAX},
        {"{\"last_call\":9223372036854775807}", "", INT64_MAX},
        {"[]", "", UINT64_MAX},
        {"{'reason':'x'}", "", UINT64_MAX},
        {"{", "", UINT64_MAX},
        {"", "", UINT64_MAX},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char reason[12];
        uint64_t last_call = 1;
        goaway_read((struct span){cases[i].body, strlen(cases[i].body)}, reason, sizeof(reason),
            &last_call);
        cr_assert_str_eq(reason, cases[i].reason, "%s", cases[i].body);
        cr_assert_eq(last_call, cases[i].last_call, "%s", cases[i].body);
    }
    struct buf body = {0};
    char reason[32];
    uint64_t last_call;
    cr_assert_eq(goaway_write(&body, "say \"bye\"", 5), 0);
    goaway_read((struct span){buf_data(&body), buf_len(&body)}, reason, sizeof(reason), &last_call);
    cr_assert_str_eq(reason, "say \"bye\"");
    cr_assert_eq(last_call, (uint64_t)5);
    buf_deinit(&body);
}
