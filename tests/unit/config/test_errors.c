#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/config/parse.h"

/* A config that is right; each row changes one line of it. */
static const char *const base[] = {
    "run_dir: /run/frontd",                    /* 1 */
    "listeners:",                              /* 2 */
    "  - name: web",                           /* 3 */
    "    address: 127.0.0.1:8080",             /* 4 */
    "    routes:",                             /* 5 */
    "      - path: /rpc",                      /* 6 */
    "        kind: jsonrpc",                   /* 7 */
    "        pool: app",                       /* 8 */
    "pools:",                                  /* 9 */
    "  - name: app",                           /* 10 */
    "    workers: [\"unix:/run/app.sock\"]\n", /* 11; and 12, which is empty */
};

struct row {
    unsigned line; /* what is instead of it; 0: nothing, but `text` is the whole config */
    const char *text;
    const char *error; /* after "c.yaml:"; NULL: it is right */
};

static size_t write_config(const struct row *row, char *out, size_t size)
{
    size_t n = 0;
    if (row->line == 0)
        return (size_t)snprintf(out, size, "%s", row->text);
    for (unsigned i = 1; i <= ARRAY_LEN(base) + 1; i++) {
        const char *line = i == row->line ? row->text : i > ARRAY_LEN(base) ? "" : base[i - 1];
        n += (size_t)snprintf(out + n, size - n, "%s%s", line, i < ARRAY_LEN(base) ? "\n" : "");
        cr_assert(n < size);
    }
    return n;
}

/* What there is to choose from follows the error: test `choices` has it in full. */
static void drop_choices(char *said, const char *wanted)
{
    static const char *const more[] = {": it is ", ": those here are "};
    for (size_t i = 0; i < ARRAY_LEN(more); i++) {
        char *at = strstr(said, more[i]);
        if (at != NULL && strstr(wanted, more[i]) == NULL)
            *at = '\0';
    }
}

static void check_text(const char *text, size_t n, const char *error)
{
    char said[512] = "";
    char wanted[512];
    struct conf *conf = NULL;
    size_t before = mem_in_use();
    char *copy = malloc(n + (n == 0)); /* ends where the text ends: ASan sees the rest */
    cr_assert_not_null(copy);
    memcpy(copy, text, n);
    int r = conf_parse("c.yaml", copy, n, &conf, said, sizeof(said));
    free(copy);
    if (error == NULL) {
        cr_assert_eq(r, 0, "%s\n%s", text, said);
        cr_assert_null(conf_free(conf));
    } else {
        snprintf(wanted, sizeof(wanted), "c.yaml:%s", error);
        cr_assert_eq(r, -EINVAL, "%s\nshould be: %s", text, wanted);
        drop_choices(said, wanted);
        cr_assert_str_eq(said, wanted, "%s%s\n%s", text, said, wanted);
        cr_assert_null(conf, "the output is untouched");
    }
    cr_assert_eq(mem_in_use(), before, "%s", text);
}

static void check_all(const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char text[4096];
        size_t size = write_config(&rows[i], text, sizeof(text));
        check_text(text, size, rows[i].error);
    }
}

/* Where a word is unknown, those that are known are named. */
Test(conf_errors, choices)
{
    static const struct row rows[] = {
        {1, "seccomp: log", "1: seccomp: 'log' is not known here: it is true or false"},
        {7, "        kind: soap",
            "7: listeners[0].routes[0].kind: 'soap' is not known here: it is jsonrpc, http or "
            "websocket"},
        {12, "    balance: random\n",
            "12: pools[0].balance: 'random' is not known here: it is least, hash or bounded"},
        {8, "        pool: App",
            "8: listeners[0].routes[0].pool: there is no pool 'App': it is app"},
        {8, "        pool: app\n        meta: [age]",
            "9: listeners[0].routes[0].meta[0]: 'age' is not known here: it is peer, deadline, "
            "route, tls or traceparent"},
        {12, "log: {colour: red}\n", "12: log.colour: unknown key: those here are level, format"},
        {12, "bogus: 1\n",
            "12: bogus: unknown key: those here are run_dir, shards, user, seccomp, drain, "
            "shard_timeout, log, slow_log, request_id, access_log, tracing, limits, "
            "listeners, pools, admin, metrics"},
    };
    check_all(rows, ARRAY_LEN(rows));
}

static unsigned oddities;
static char oddity[512];

static void on_odd(void *data, const char *text)
{
    cr_assert_eq(data, &oddities);
    oddities++;
    snprintf(oddity, sizeof(oddity), "%s", text);
}

#define RESPONSES(methods)                                                                         \
    "listeners:\n  - {name: a, address: '127.0.0.1:80', protocol: frame, pool: p, responses: "     \
    "true}\npools:\n  - {name: p, workers: ['unix:/w'], methods: [" methods "]}\n"

/* What is allowed, and hardly meant. */
Test(conf_errors, oddities)
{
    static const struct row rows[] = {
        {8, "        pool: app", NULL},
        {6, "      - path: /rpc/*",
            "6: listeners[0].routes[0].path: '/rpc/*': a path takes all that is below it, and '*', "
            "'{' and '}' stand for themselves"},
        {8, "        pool: app\n        host: '*.example'",
            "9: listeners[0].routes[0].host: '*.example': a host is compared as a whole, '*' "
            "stands "
            "for itself"},
        {12, "    hash: peer\n", "12: pools[0].hash: it has no effect without balance: hash"},
        {12, "    hash: peer\n    balance: hash\n", NULL},
        {12, "    hash: peer\n    balance: bounded\n", NULL},
        {12, "limits:\n  body: 17MiB\n", "13: limits.body: no worker takes more than 16MiB"},
        {12, "limits:\n  body: 16MiB\n", NULL},
        {0,
            "listeners:\n  - {name: a, address: '127.0.0.1:80', routes: [{path: /, kind: http, "
            "pool: "
            "p}]}\npools:\n  - {name: p, workers: ['unix:/w'], methods: [a.*]}\n",
            "2: listeners[0].routes[0]: no pool of it takes http.request: see methods of the "
            "pools"},
        {0,
            "listeners:\n  - {name: a, address: '127.0.0.1:80', protocol: line, pool: p, messages: "
            "raw}"
            "\npools:\n  - {name: p, workers: ['unix:/w'], methods: [frontd.connect]}\n",
            "2: listeners[0]: no pool of it takes frontd.message: see methods of the pools"},
        {0,
            "listeners:\n  - {name: a, address: '127.0.0.1:80', protocol: line, pool: p, messages: "
            "raw}"
            "\npools:\n  - {name: p, workers: ['unix:/w'], methods: [frontd.*]}\n",
            NULL},
        {0, RESPONSES("a.*, frontd.connect"),
            "2: listeners[0]: no pool of it takes frontd.response: see methods of the pools"},
        {0, RESPONSES("a.*, frontd.response"), NULL},
        {0, RESPONSES("a.*") "  - {name: q, workers: ['unix:/v'], methods: [frontd.*]}\n", NULL},
        {0, RESPONSES("a.*") "  - {name: q, workers: ['unix:/v'], realm: r}\n",
            "2: listeners[0]: no pool of it takes frontd.response: see methods of the pools"},
    };
    const struct conf_findings findings = {.odd = on_odd, .data = &oddities};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char text[4096];
        char error[512] = "";
        char wanted[512];
        struct conf *conf = NULL;
        size_t n = write_config(&rows[i], text, sizeof(text));
        oddities = 0;
        cr_assert_eq(conf_try("c.yaml", text, n, &findings, &conf, error, sizeof(error)), 0,
            "%s\n%s", text, error);
        conf_free(conf);
        snprintf(wanted, sizeof(wanted), "c.yaml:%s", rows[i].error == NULL ? "" : rows[i].error);
        cr_assert_eq(oddities, rows[i].error != NULL, "%s\n%s", text, oddity);
        if (rows[i].error != NULL)
            cr_assert_str_eq(oddity, wanted);
    }
}

Test(conf_errors, yaml)
{
    static const struct row rows[] = {
        {0, "", "1: listeners: the config is empty"},
        {0, "# nothing\n", "1: listeners: the config is empty"},
        {0, "frontd", "1: config: keys with values are needed here"},
        {0, "[]", "1: config: keys with values are needed here"},
        {0, "{}", "1: listeners: this key is needed here"},
        {0, "pools: []", "1: listeners: this key is needed here"},
        {0, "a:\n{", "3: config: could not find expected ':'"},
        {0, "{", "2: config: did not find expected node content"},
        {1, "run_dir: /run\x01", "1: config: control characters are not allowed"},
        {8, "        pool: app \xff", "8: config: invalid leading UTF-8 octet"},
        {12, "\tx: 1", "12: config: found character that cannot start any token"},
        {8, "        pool: app: x", "8: config: mapping values are not allowed in this context"},
        {8, "        pool: \"a\\0pp\"", "8: config: there is a NUL character"},
        {12, "---\n", "12: config: there is a second document"},
        {12, "...\n---\nshards: 3\n", "13: config: there is a second document"},
        {1, "user: &a root\nrun_dir: *a", "2: config: aliases are not supported"},
        {12, "[a]: b\n", "12: config: a key is a word"},
        {12, "admin: [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]", "12: config: nested too deep"},
        {12, "run_dir: /run\n", "12: run_dir: this key is there twice"},
        {7, "        kind: jsonrpc\n        kind: http",
            "8: listeners[0].routes[0].kind: this key is there twice"},
    };
    check_all(rows, ARRAY_LEN(rows));
}

Test(conf_errors, keys)
{
    static const struct row rows[] = {
        {12, "bogus: 1\n", "12: bogus: unknown key"},
        {12, "1: 2\n", "12: 1: unknown key"},
        {12, "log: {colour: red}\n", "12: log.colour: unknown key"},
        {12, "limits:\n  header: 1KiB\n  heading: 1KiB\n", "14: limits.heading: unknown key"},
        {3, "  - nome: web", "3: listeners[0].nome: unknown key"},
        {7, "        kind: http\n        kinds: x", "8: listeners[0].routes[0].kinds: unknown key"},
        {11, "    workers: []\n    worker: x\n", "12: pools[0].worker: unknown key"},
        {1, "bogus: 1\nalso: 2", "1: bogus: unknown key"},
        {10, "  - queue: 1", "10: pools[0].name: this key is needed here"},
        {6, "      - host: h", "6: listeners[0].routes[0].path: this key is needed here"},
        {7, "        timeout: 1s", "6: listeners[0].routes[0].kind: this key is needed here"},
        {4, "    protocol: http", "3: listeners[0].address: this key is needed here"},
        {8, "        pool:", "8: listeners[0].routes[0].pool: there is no pool ''"},
        {6, "      - path:", "6: listeners[0].routes[0].path: must not be empty"},
        {3, "  - name: \"\"", "3: listeners[0].name: must not be empty"},
        {10, "  - name: ''", "10: pools[0].name: must not be empty"},
        {12, "log: info\n", "12: log: keys with values are needed here"},
        {12, "limits: [1]\n", "12: limits: keys with values are needed here"},
        {12, "limits: {header: [1]}\n", "12: limits.header: one value is needed here"},
        {11, "    workers: unix:/run/app.sock\n", "11: pools[0].workers: a list is needed here"},
        {0, "listeners: web", "1: listeners: a list is needed here"},
        {0, "listeners: []\npools: []", "2: pools: there is none"},
        {0, "listeners: []\npools:\n  - name: a\n", "1: listeners: there is none"},
        {12, "admin: {}\n", "12: admin.address: this key is needed here"},
    };
    check_all(rows, ARRAY_LEN(rows));
}

#define PATH_87                                                                                    \
    "/01234567890123456789012345678901234567890123456789"                                          \
    "012345678901234567890123456789012345"

Test(conf_errors, top)
{
    static const struct row rows[] = {
        {1, "run_dir: run", "1: run_dir: 'run': an absolute path"},
        {1, "run_dir: ''", "1: run_dir: '': an absolute path"},
        {1, "run_dir: " PATH_87, NULL},
        {1, "run_dir: " PATH_87 "6", "1: run_dir: at most 87 bytes"},
        {1, "shards: auto", NULL},
        {1, "shards: all", "1: shards: not a number from 1 to 31: 'all'"},
        {1, "log: {level: debug, format: json}", NULL},
        {1, "log: {level: error, format: text}", NULL},
        {1, "log: {level: warn}", "1: log.level: 'warn': error, warning, info or debug"},
        {1, "seccomp: log", "1: seccomp: 'log' is not known here"},
        {1, "log:\n  format: xml", "2: log.format: 'xml' is not known here"},
    };
    check_all(rows, ARRAY_LEN(rows));
    const struct row nobody = {1, "user: nobody-of-that-name",
        geteuid() == 0 ? "1: user: there is no user 'nobody-of-that-name'" : NULL};
    check_all(&nobody, 1);
}

/* Every number at its limits, one less and one more. */
Test(conf_errors, numbers)
{
    static const struct {
        unsigned line;
        const char *key; /* the path that is complained of */
        const char *name;
        unsigned indent;
        uint64_t min, max;
    } rows[] = {
        {1, "shards", "shards", 0, 1, 31},
        {1, "limits.connections", "limits:\n  connections", 0, 1, 1000000000},
        {1, "limits.connections_per_peer", "limits:\n  connections_per_peer", 0, 0, 1000000000},
        {1, "limits.peer_prefix", "limits:\n  peer_prefix", 0, 1, 128},
        {1, "limits.headers", "limits:\n  headers", 0, 1, 256},
        {1, "limits.batch", "limits:\n  batch", 0, 1, 65536},
        {1, "limits.calls_per_connection", "limits:\n  calls_per_connection", 0, 1, 65536},
        {1, "limits.subscriptions", "limits:\n  subscriptions", 0, 1, 65536},
        {1, "limits.streams", "limits:\n  streams", 0, 1, 1000},
        {12, "pools[0].queue", "    queue", 0, 0, 10000000},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char range[128];
        unsigned line = rows[i].line + (strchr(rows[i].name, '\n') != NULL);
        snprintf(range, sizeof(range), "not a number from %llu to %llu",
            (unsigned long long)rows[i].min, (unsigned long long)rows[i].max);
        const struct {
            long long value;
            bool ok;
        } values[] = {
            {(long long)rows[i].min - 1, false},
            {(long long)rows[i].min, true},
            {(long long)rows[i].max, true},
            {(long long)rows[i].max + 1, false},
        };
        for (size_t v = 0; v < ARRAY_LEN(values); v++) {
            char text[128];
            char error[256];
            snprintf(text, sizeof(text), "%s: %lld\n", rows[i].name, values[v].value);
            snprintf(error, sizeof(error), "%u: %s: %s: '%lld'", line, rows[i].key, range,
                values[v].value);
            const struct row row = {rows[i].line, text, values[v].ok ? NULL : error};
            check_all(&row, 1);
        }
    }
    static const char *const bad[] = {"x", "1x", "0x1", "1.5", "1e3", "-0", "+1", "' 1'", "''",
        "99999999999999999999", "1KiB", "\"1 \""};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char text[64];
        char plain[64];
        char error[128];
        snprintf(text, sizeof(text), "shards: %s", bad[i]);
        bool quoted = bad[i][0] == '\'' || bad[i][0] == '"';
        snprintf(plain, sizeof(plain), "%.*s", (int)strlen(bad[i]) - 2 * quoted, bad[i] + quoted);
        snprintf(error, sizeof(error), "1: shards: not a number from 1 to 31: '%s'", plain);
        const struct row row = {1, text, error};
        check_all(&row, 1);
    }
}

#define NO_SIZE "not a size such as 64KiB or 1MiB, at most 1GiB"

Test(conf_errors, sizes)
{
    static const struct {
        const char *key;
        unsigned min;
    } keys[] = {{"header", 128}, {"body", 1}, {"write_buffer", 1}};
    static const struct {
        const char *text;
        bool ok;
    } sizes[] = {
        {"1073741824", true},
        {"1073741825", false},
        {"1048576KiB", true},
        {"1048577KiB", false},
        {"1GiB", true},
        {"2GiB", false},
        {"1024MiB", true},
        {"1025MiB", false},
        {"200B", true},
        {"18446744073709551616", false},
        {"18014398509481985KiB", false},
        {"1KB", false},
        {"1kib", false},
        {"1 KiB", false},
        {"1.5MiB", false},
        {"-1", false},
        {"KiB", false},
    };
    for (size_t k = 0; k < ARRAY_LEN(keys); k++) {
        char text[128];
        char error[256];
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
            snprintf(text, sizeof(text), "limits: {%s: %s}", keys[k].key, sizes[i].text);
            snprintf(error, sizeof(error), "1: limits.%s: %s: '%s'", keys[k].key, NO_SIZE,
                sizes[i].text);
            const struct row row = {1, text, sizes[i].ok ? NULL : error};
            check_all(&row, 1);
        }
        for (unsigned under = 0; under < 2; under++) {
            snprintf(text, sizeof(text), "limits: {%s: %u}", keys[k].key, keys[k].min - under);
            snprintf(error, sizeof(error), "1: limits.%s: must be at least %u bytes", keys[k].key,
                keys[k].min);
            const struct row row = {1, text, under ? error : NULL};
            check_all(&row, 1);
        }
    }
}

Test(conf_errors, memory_and_rate)
{
    static const struct row rows[] = {
        {1, "limits: {memory: 16MiB}", NULL},
        {1, "limits: {memory: 16777215}", "1: limits.memory: must be at least 16777216 bytes"},
        {1, "limits: {memory: 1024GiB}", NULL},
        {1, "limits: {memory: 1025GiB}",
            "1: limits.memory: not a size such as 256MiB or 4GiB, at most 1024GiB: '1025GiB'"},
        {1, "limits: {memory: 50%}",
            "1: limits.memory: not a size such as 256MiB or 4GiB, at most 1024GiB: '50%'"},
        {1, "limits: {write_rate: 0}", NULL},
        {1, "limits: {write_rate: 1GiB}", NULL},
        {1, "limits: {write_rate: 2GiB}", "1: limits.write_rate: " NO_SIZE ": '2GiB'"},
        {1, "limits: {write_rate: slow}", "1: limits.write_rate: " NO_SIZE ": 'slow'"},
    };
    check_all(rows, ARRAY_LEN(rows));
}

Test(conf_errors, durations)
{
    static const struct {
        unsigned line;
        const char *key;
        const char *name;
        bool zero; /* may be 0 */
    } keys[] = {
        {1, "drain", "drain: ", true},
        {1, "limits.first_byte_timeout", "limits: {first_byte_timeout: ", false},
        {1, "limits.header_timeout", "limits: {header_timeout: ", false},
        {1, "limits.body_timeout", "limits: {body_timeout: ", false},
        {1, "limits.idle_timeout", "limits: {idle_timeout: ", false},
        {8, "listeners[0].routes[0].timeout", "        pool: app\n        timeout: ", false},
        {7, "listeners[0].routes[0].ping", "        kind: websocket\n        ping: ", false},
        {12, "pools[0].wait_for_worker", "    wait_for_worker: ", true},
        {12, "pools[0].worker_timeout", "    worker_timeout: ", false},
        {12, "pools[0].kill_after", "    kill_after: ", false},
    };
    static const struct {
        const char *text;
        bool ok;
    } durations[] = {
        {"1ms", true},
        {"1s", true},
        {"5m", true},
        {"8784h", true}, /* 366 days */
        {"8785h", false},
        {"527040m", true},
        {"527041m", false},
        {"31622400s", true},
        {"31622401s", false},
        {"31622400000ms", true},
        {"31622400001ms", false},
        {"5124095576030432h", false}, /* 2^64 ms and a bit */
        {"30", false},
        {"1d", false},
        {"1S", false},
        {"1 s", false},
        {"1.5s", false},
        {"-1s", false},
        {"s", false},
        {"1s1", false},
    };
    for (size_t k = 0; k < ARRAY_LEN(keys); k++) {
        const char *close = strchr(keys[k].name, '{') == NULL ? "\n" : "}\n";
        unsigned line = keys[k].line + (strchr(keys[k].name, '\n') != NULL);
        char text[128];
        char error[256];
        for (size_t i = 0; i < ARRAY_LEN(durations); i++) {
            snprintf(text, sizeof(text), "%s%s%s", keys[k].name, durations[i].text, close);
            snprintf(error, sizeof(error),
                "%u: %s: not a duration such as 500ms, 30s, 5m or 1h: '%s'", line, keys[k].key,
                durations[i].text);
            const struct row row = {keys[k].line, text, durations[i].ok ? NULL : error};
            check_all(&row, 1);
        }
        snprintf(text, sizeof(text), "%s0s%s", keys[k].name, close);
        snprintf(error, sizeof(error), "%u: %s: must be more than 0", line, keys[k].key);
        const struct row row = {keys[k].line, text, keys[k].zero ? NULL : error};
        check_all(&row, 1);
    }
}

Test(conf_errors, shard_timeout)
{
    static const struct row rows[] = {
        {1, "shard_timeout: 2s\n", NULL},
        {1, "shard_timeout: 8784h\n", NULL},
        {1, "shard_timeout: 1999ms\n", "1: shard_timeout: must be at least 2 s"},
        {1, "shard_timeout: 0s\n", "1: shard_timeout: must be at least 2 s"},
        {1, "shard_timeout: 10\n",
            "1: shard_timeout: not a duration such as 500ms, 30s, 5m or 1h: '10'"},
    };
    check_all(rows, ARRAY_LEN(rows));
}
/* The beginning of a config with one listener, and lines of pools for it. */
#define HTTP_OF(pools)                                                                             \
    "listeners:\n  - name: web\n    address: 127.0.0.1:1\n"                                        \
    "    routes: [{path: /, kind: http, " pools "}]\npools:\n"
#define LINE_OF(pools)                                                                             \
    "listeners:\n  - {name: l, address: \"127.0.0.1:1\", protocol: line, " pools "}\npools:\n"
#define APP  "  - {name: app, workers: [\"unix:/a\"]}\n"
#define ALSO "  - {name: also, realm: red, workers: [\"unix:/l\"]}\n"
#define BLUE "  - {name: blue, realm: blue, workers: [\"unix:/b\"]}\n"

Test(conf_errors, pools)
{
#define METHOD  "a method, or the start of one and '*' at its end"
#define ADDRESS "neither unix:/PATH nor tcp:// or tls://HOST:PORT"
    static const struct row rows[] = {
        {12, "  - name: app\n    workers: [\"unix:/b\"]\n",
            "12: pools[1].name: 'app' is there twice"},
        {11, "    workers: []\n", "11: pools[0].workers: a pool needs workers or a command"},
        {11, "    queue: 1\n", "10: pools[0].workers: a pool needs workers or a command"},
        {11, "    workers: [\"\"]\n", "11: pools[0].workers[0]: '': " ADDRESS},
        {11, "    workers: [app.sock]\n", "11: pools[0].workers[0]: 'app.sock': " ADDRESS},
        {11, "    workers: [\"unix:app.sock\"]\n",
            "11: pools[0].workers[0]: 'unix:app.sock': " ADDRESS},
        {11, "    workers: [\"unix:/a\", \"unix:/a/\"]\n",
            "11: pools[0].workers[1]: 'unix:/a/': ends in a folder"},
        {11, "    workers:\n      - unix:/a\n      - unix:/*/a\n",
            "13: pools[0].workers[1]: 'unix:/*/a': only the last part of the path may have "
            "wildcards"},
        {11, "    workers: [\"unix:/a?/b\"]\n",
            "11: pools[0].workers[0]: 'unix:/a?/b': only the last part of the path may have "
            "wildcards"},
        {11, "    workers: [\"unix:/a/[b]*?\"]\n", NULL},
        {11, "    workers: [\"tcp://unix:/a\"]\n",
            "11: pools[0].workers[0]: 'tcp://unix:/a': not host:port"},
        {11, "    workers: [\"tcp://127.0.0.1\"]\n",
            "11: pools[0].workers[0]: 'tcp://127.0.0.1': not an address such as 0.0.0.0:8080, "
            "[::1]:8080 or unix:/path"},
        {11, "    workers: [\"tcp://127.0.0.1:0\"]\n",
            "11: pools[0].workers[0]: 'tcp://127.0.0.1:0': the port is a number from 1 to 65535"},
        {12, "    balance: random\n", "12: pools[0].balance: 'random' is not known here"},
        {12, "    balance: hash\n", "10: pools[0].hash: balance: hash needs it"},
        {12, "    slow_start: 0s\n", NULL},
        {12, "    slow_start: 3600000ms\n", NULL},
        {12, "    slow_start: 3600001ms\n", "12: pools[0].slow_start: at most 1h"},
        {12, "    slow_start: 10\n",
            "12: pools[0].slow_start: not a duration such as 500ms, 30s, 5m or 1h: '10'"},
        {12, "    slow_start: 1s\n    balance: hash\n    hash: peer\n",
            "12: pools[0].slow_start: not with balance: hash: a call goes to its own worker"},
        {12, "    slow_start: 0s\n    balance: hash\n    hash: peer\n", NULL},
        {12, "    slow_start: 1s\n    balance: bounded\n    hash: peer\n", NULL},
        {12, "    balance: bounded\n", "10: pools[0].hash: balance: bounded needs it"},
        {12, "    hash: conn\n    balance: bounded\n",
            "12: pools[0].hash: 'conn': a connection does not leave its worker because of load: it "
            "takes balance: hash"},
        {12, "    hash: user\n",
            "12: pools[0].hash: 'user': peer, conn, header:NAME or param:NAME"},
        {12, "    hash: \"header:\"\n",
            "12: pools[0].hash: 'header:': peer, conn, header:NAME or param:NAME"},
        {12, "    hash: \"param:\"\n",
            "12: pools[0].hash: 'param:': peer, conn, header:NAME or param:NAME"},
        {12, "    methods: [a, \"\"]\n", "12: pools[0].methods[1]: '': " METHOD},
        {12, "    methods: [\"*a\"]\n", "12: pools[0].methods[0]: '*a': " METHOD},
        {12, "    idempotent: [\"a*b*\"]\n", "12: pools[0].idempotent[0]: 'a*b*': " METHOD},
        {12, "    methods: []\n", NULL},
    };
    check_all(rows, ARRAY_LEN(rows));
}

Test(conf_errors, workers_over_tls)
{
#define TLS_WORKERS "    workers: [\"unix:/a\", \"tls://app.test:7\"]\n    tls: "
#define NEEDS_TLS   "tls:// needs the pool's `tls`, with its `ca`"
    static const struct row rows[] = {
        {11, "    workers: [\"tls://[::1]:7\"]\n", "11: pools[0].workers: " NEEDS_TLS},
        {11, "    workers: [\"tls://app.test\"]\n    tls: {ca: /ca}\n",
            "11: pools[0].workers[0]: 'tls://app.test': not an address such as 0.0.0.0:8080, "
            "[::1]:8080 or unix:/path"},
        {11, TLS_WORKERS "{}\n", "12: pools[0].tls.ca: this key is needed here"},
        {11, TLS_WORKERS "{ca: ca.pem}\n", "12: pools[0].tls.ca: 'ca.pem': an absolute path"},
        {11, TLS_WORKERS "{ca: /ca, cert: /c}\n", "12: pools[0].tls.cert: it needs key"},
        {11, TLS_WORKERS "{ca: /ca, key: /k}\n", "12: pools[0].tls.key: it needs cert"},
        {11, TLS_WORKERS "{ca: /ca, cert: c, key: /k}\n",
            "12: pools[0].tls.cert: 'c': an absolute path"},
        {11, TLS_WORKERS "{ca: /ca, server_name: \"\"}\n",
            "12: pools[0].tls.server_name: '': a name or an IP address"},
        {11, TLS_WORKERS "{ca: /ca, alpn: []}\n", "12: pools[0].tls.alpn: unknown key"},
        {11, TLS_WORKERS "{ca: /ca, cert: /c, key: /k, server_name: app.test}\n", NULL},
    };
    check_all(rows, ARRAY_LEN(rows));
}

Test(conf_errors, realms)
{
#define REALM "a realm is letters, digits, '_' and '-', 1 to 32 of them"
#define RED   "  - {name: red, realm: red, workers: [\"unix:/r\"]}\n"
#define TWO   "the pools of a route are of one realm"
    static const struct row rows[] = {
        {12, "    realm: abcdefghijklmnopqrstuvwxyz-01_AZ\n", NULL},
        {12, "    realm: abcdefghijklmnopqrstuvwxyz-01_AZ0\n",
            "12: pools[0].realm: 'abcdefghijklmnopqrstuvwxyz-01_AZ0': " REALM},
        {12, "    realm: \"\"\n", "12: pools[0].realm: '': " REALM},
        {12, "    realm: a.b\n", "12: pools[0].realm: 'a.b': " REALM},
        {12, "    realm: [a]\n", "12: pools[0].realm: one value is needed here"},
        {8, "        pools: [app]\n        realm: a",
            "9: listeners[0].routes[0].realm: unknown key"},
        {12, RED, NULL},
        {0, HTTP_OF("pools: [app, red]") APP RED,
            "4: listeners[0].routes[0].pools[1]: pool 'red' is of realm red, 'app' of no "
            "realm: " TWO},
        {0, HTTP_OF("pools: [red, app]") APP RED,
            "4: listeners[0].routes[0].pools[1]: pool 'app' is of no realm, 'red' of realm "
            "red: " TWO},
        {0, HTTP_OF("pools: [red, also, blue]") RED ALSO BLUE,
            "4: listeners[0].routes[0].pools[2]: pool 'blue' is of realm blue, 'red' of realm "
            "red: " TWO},
        {0, HTTP_OF("pools: [red, also]") RED ALSO BLUE, NULL},
        {0, LINE_OF("pools: [blue, red]") RED BLUE,
            "2: listeners[0].pools[1]: pool 'red' is of realm red, 'blue' of realm blue: " TWO},
        {0, LINE_OF("pools: [red, also]") RED ALSO, NULL},
        /* Two names with the same number, found by trying. */
        {0,
            LINE_OF(
                "pool: one") "  - {name: one, realm: 5ba0f7737bc633ce, workers: [\"unix:/1\"]}\n"
                             "  - {name: same, realm: 5ba0f7737bc633ce, workers: [\"unix:/2\"]}\n",
            NULL},
        {0,
            LINE_OF(
                "pool: one") "  - {name: one, realm: 5ba0f7737bc633ce, workers: [\"unix:/1\"]}\n"
                             "  - {name: two, realm: 88a0125db8a9181f, workers: [\"unix:/2\"]}\n",
            "5: pools[1].realm: '88a0125db8a9181f': take another name than that, and "
            "'5ba0f7737bc633ce'"},
    };
    check_all(rows, ARRAY_LEN(rows));
}

#define LONG_NAME "abcdefghijklmnopqrstuvwxyz-01_AZ" /* 32 bytes */
#define LONG_PATH "/run/0123456789012345678901234567890123456789012345678901234567890123456789"
#define WRONG_NAME                                                                                 \
    "with a command a name is made of letters, digits, '_' and '-', at most 32 of them"

Test(conf_errors, managed_pools)
{
    static const struct row rows[] = {
        {11, "    command: [a]\n", NULL},
        {11, "    command: [a, \"\", \"b c\"]\n", NULL},
        {12, "    command: [a]\n", "12: pools[0].command: a pool has either workers or a command"},
        {11, "    command: [a]\n    workers: []\n",
            "11: pools[0].command: a pool has either workers or a command"},
        {11, "    command: []\n", "11: pools[0].command: there is none"},
        {11, "    command: [\"\"]\n",
            "11: pools[0].command[0]: a program's name or path is needed here"},
        {11, "    command: a\n", "11: pools[0].command: a list is needed here"},
        {12, "    instances: 4\n", "12: pools[0].instances: only with command"},
        {12, "    restart_delay: 1s\n", "12: pools[0].restart_delay: only with command"},
        {12, "    start_timeout: 1s\n", "12: pools[0].start_timeout: only with command"},
        {12, "    max_calls: 1\n", "12: pools[0].max_calls: only with command"},
        {12, "    max_age: 1h\n", "12: pools[0].max_age: only with command"},
        {12, "    max_memory: 1GiB\n", "12: pools[0].max_memory: only with command"},
        {11, "    command: [a]\n    max_calls: 0\n    max_age: 0s\n    max_memory: 0\n", NULL},
        {11, "    command: [a]\n    max_calls: 1\n    max_age: 1s\n    max_memory: 1MiB\n", NULL},
        {11, "    command: [a]\n    max_calls: 1000000000000\n    max_memory: 1024GiB\n", NULL},
        {11, "    command: [a]\n    max_calls: 1000000000001\n",
            "12: pools[0].max_calls: not a number from 0 to 1000000000000: '1000000000001'"},
        {11, "    command: [a]\n    max_age: 999ms\n", "12: pools[0].max_age: 0, or at least 1 s"},
        {11, "    command: [a]\n    max_age: 1\n",
            "12: pools[0].max_age: not a duration such as 500ms, 30s, 5m or 1h: '1'"},
        {11, "    command: [a]\n    max_memory: 1048575\n",
            "12: pools[0].max_memory: 0, or at least 1 MiB"},
        {11, "    command: [a]\n    max_memory: 1025GiB\n",
            "12: pools[0].max_memory: not a size such as 256MiB or 4GiB, at most 1024GiB: "
            "'1025GiB'"},
        {11, "    command: [a]\n    instances: 0\n",
            "12: pools[0].instances: not a number from 1 to 256: '0'"},
        {11, "    command: [a]\n    instances: 1\n", NULL},
        {11, "    command: [a]\n    instances: 256\n", NULL},
        {11, "    command: [a]\n    instances: 257\n",
            "12: pools[0].instances: not a number from 1 to 256: '257'"},
        {11,
            "    command: [a]\n    instances: 256\n"
            "  - {name: b, command: [b], instances: 256}\n",
            NULL},
        {11,
            "    command: [a]\n    instances: 256\n"
            "  - {name: b, command: [b], instances: 256}\n  - {name: c, command: [c]}\n",
            "14: pools[2].instances: at most 512 in all pools together"},
        {11, "    command: [a]\n    restart_delay: 0s\n",
            "12: pools[0].restart_delay: must be more than 0"},
        {11, "    command: [a]\n    start_timeout: 0s\n",
            "12: pools[0].start_timeout: must be more than 0"},
        {11, "    command: [a]\n  - {name: " LONG_NAME ", command: [a]}\n", NULL},
        {11, "    command: [a]\n  - {name: " LONG_NAME "x, command: [a]}\n",
            "12: pools[1].name: " WRONG_NAME},
        {11, "    command: [a]\n  - {name: a.b, command: [a]}\n", "12: pools[1].name: " WRONG_NAME},
        {11, "    command: [a]\n  - {name: a/b, command: [a]}\n", "12: pools[1].name: " WRONG_NAME},
        {0,
            "run_dir: /run/a[b]\nlisteners:\n  - {name: w, address: \"unix:/w\", protocol: line, "
            "pool: app}\npools:\n  - {name: app, command: [a]}\n",
            "5: pools[0].command: not in a run_dir with a '*', '?', '[' or '\\'"},
        {0,
            "run_dir: " LONG_PATH
            "\nlisteners:\n  - {name: w, address: \"unix:/w\", protocol: line, "
            "pool: app}\npools:\n  - {name: app, command: [a]}\n",
            NULL},
        {0,
            "run_dir: " LONG_PATH
            "x\nlisteners:\n  - {name: w, address: \"unix:/w\", protocol: line, "
            "pool: app}\npools:\n  - {name: app, command: [a]}\n",
            "5: pools[0].command: the path of a UNIX socket has at most 107 bytes; make run_dir or "
            "the name shorter"},
    };
    check_all(rows, ARRAY_LEN(rows));
}

#define PATH "'%' is followed by two hexadecimal digits, not 00, and '..' stays below '/'"
#define HOST "a host, without scheme or port"

Test(conf_errors, listeners_and_routes)
{
    static const struct row rows[] = {
        {4, "    address: 127.0.0.1",
            "4: listeners[0].address: '127.0.0.1': not an address such as 0.0.0.0:8080, [::1]:8080 "
            "or unix:/path"},
        {4, "    address: 127.0.0.1:65535", NULL},
        {4, "    address: 127.0.0.1:65536",
            "4: listeners[0].address: '127.0.0.1:65536': the port is a number from 1 to 65535"},
        {4, "    address: \":80\"", NULL},
        {4, "    address: \"*:80\"", NULL},
        {4, "    address: \"[]:80\"",
            "4: listeners[0].address: '[]:80': an IPv6 address stands in the brackets: [::1]:8080"},
        {4, "    address: ::1:80",
            "4: listeners[0].address: '::1:80': an IPv6 address stands in brackets: [::1]:8080"},
        {4, "    address: unix:web",
            "4: listeners[0].address: 'unix:web': a UNIX socket needs an absolute path"},
        {4, "    address: 127.0.0.1:80\n    protocol: ftp",
            "5: listeners[0].protocol: 'ftp' is not known here"},
        {9,
            "  - name: web\n    address: 127.0.0.1:1\n    routes: [{path: /, kind: http, pool: "
            "app}]\npools:",
            "9: listeners[1].name: 'web' is there twice"},
        {9,
            "  - name: two\n    address: 127.0.0.1:8080\n    routes: [{path: /, kind: http, pool: "
            "app}]\npools:",
            "10: listeners[1].address: '127.0.0.1:8080' is there twice"},
        {9, "  - name: two\n    address: 127.0.0.1:1\npools:",
            "9: listeners[1].routes: a listener needs routes"},
        {9, "  - name: two\n    address: 127.0.0.1:1\n    routes: []\npools:",
            "11: listeners[1].routes: a listener needs routes"},
        {6, "      - path: rpc",
            "6: listeners[0].routes[0].path: 'rpc': a path begins with '/' and has no query"},
        {6, "      - path: /a?b",
            "6: listeners[0].routes[0].path: '/a?b': a path begins with '/' and has no query"},
        {6, "      - path: /a b",
            "6: listeners[0].routes[0].path: '/a b': a path begins with '/' and has no query"},
        {6, "      - path: \"/a#b\"",
            "6: listeners[0].routes[0].path: '/a#b': a path begins with '/' and has no query"},
        {6, "      - path: /a%", "6: listeners[0].routes[0].path: '/a%': " PATH},
        {6, "      - path: /%6x", "6: listeners[0].routes[0].path: '/%6x': " PATH},
        {6, "      - path: /a%00", "6: listeners[0].routes[0].path: '/a%00': " PATH},
        {6, "      - path: /a/../..", "6: listeners[0].routes[0].path: '/a/../..': " PATH},
        {6, "      - path: /%2e%2E/a", "6: listeners[0].routes[0].path: '/%2e%2E/a': " PATH},
        {8, "        pool: app\n        host: .", "9: listeners[0].routes[0].host: '.': " HOST},
        {8, "        pool: app\n        host: a:1", "9: listeners[0].routes[0].host: 'a:1': " HOST},
        {7, "        kind: soap", "7: listeners[0].routes[0].kind: 'soap' is not known here"},
        {8, "        timeout: 1s",
            "6: listeners[0].routes[0].pool: either pool or pools is needed here"},
        {8, "        pools: []",
            "6: listeners[0].routes[0].pool: either pool or pools is needed here"},
        {8, "        pool: app\n        pools: [app]",
            "8: listeners[0].routes[0].pool: either pool or pools is needed here"},
        {8, "        pool: App", "8: listeners[0].routes[0].pool: there is no pool 'App'"},
        {8, "        pools: [app, site]",
            "8: listeners[0].routes[0].pools[1]: there is no pool 'site'"},
        {8, "        pool: app\n        meta: [peer, age]",
            "9: listeners[0].routes[0].meta[1]: 'age' is not known here"},
        {8, "        pool: app\n      - {path: /rpc, kind: http, pool: app}",
            "9: listeners[0].routes[1]: '/rpc' is there twice for the same host"},
        {8, "        pool: app\n      - {path: /rpc, host: h, kind: http, pool: app}", NULL},
        {8,
            "        pool: app\n        host: h\n      - {path: /rpc, host: H, kind: http, pool: "
            "app}",
            "10: listeners[0].routes[1]: '/rpc' is there twice for the same host"},
        {8,
            "        pool: app\n        host: h.\n      - {path: /rpc, host: H, kind: http, pool: "
            "app}",
            "10: listeners[0].routes[1]: '/rpc' is there twice for the same host"},
        {8, "        pool: app\n      - {path: //x/../%72pc, kind: http, pool: app}",
            "9: listeners[0].routes[1]: '//x/../%72pc' is there twice for the same host"},
        {8, "        pool: app\n      - {path: /rpc/, kind: http, pool: app}", NULL},
        {4, "    address: 127.0.0.1:1\n    paths: strict", NULL},
        {4, "    address: 127.0.0.1:1\n    paths: any", NULL},
        {4, "    address: 127.0.0.1:1\n    paths: Strict",
            "5: listeners[0].paths: 'Strict' is not known here"},
        {4, "    address: 127.0.0.1:1\n    h2c: true", NULL},
        {4, "    address: 127.0.0.1:1\n    h2c: yes",
            "5: listeners[0].h2c: 'yes' is not known here"},
        {4, "    address: 127.0.0.1:1\n    h2_websocket: yes",
            "5: listeners[0].h2_websocket: 'yes' is not known here"},
    };
    check_all(rows, ARRAY_LEN(rows));
}

/* As many pools and listeners as there may be, and one more of either. */
Test(conf_errors, how_many)
{
    for (unsigned over = 0; over < 3; over++) {
        static char text[65536];
        size_t n = 0;
        unsigned npools = CONF_POOLS_MAX + (over == 1);
        unsigned nlisteners = CONF_LISTENERS_MAX + (over == 2);
        n += (size_t)snprintf(text + n, sizeof(text) - n, "pools:\n");
        for (unsigned i = 0; i < npools; i++)
            n += (size_t)snprintf(
                text + n, sizeof(text) - n, "  - {name: p%u, workers: [\"unix:/p\"]}\n", i);
        n += (size_t)snprintf(text + n, sizeof(text) - n, "listeners:\n");
        for (unsigned i = 0; i < nlisteners; i++)
            n += (size_t)snprintf(text + n, sizeof(text) - n,
                "  - name: l%u\n    address: 127.0.0.1:%u\n"
                "    routes: [{path: /, kind: http, pool: p%u}]\n",
                i, 8000 + i, i % CONF_POOLS_MAX);
        cr_assert_lt(n, sizeof(text));
        static const char *const errors[] = {
            NULL, "1: pools: at most 64", "66: listeners: at most 64"};
        check_text(text, n, errors[over]);
    }
}
