#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/admin/metrics_text.h"
#include "frontd/config/parse.h"
#include "frontd/ipc/metric_rows.h"
#include "frontd/ipc/metric_sums.h"
#include "frontd/ipc/shm_layout.h"
#include "frontd/ipc/shm_queues.h"
#include "tests/unit/support/shm.h"

#define CONF                                                                                       \
    "listeners:\n"                                                                                 \
    "  - name: web\n"                                                                              \
    "    address: 127.0.0.1:8080\n"                                                                \
    "    routes:\n"                                                                                \
    "      - {path: /rpc, kind: jsonrpc, pools: [app, more]}\n"                                    \
    "      - {path: /rpc, host: a.test, kind: jsonrpc, pool: app}\n"                               \
    "  - {name: lines, address: 127.0.0.1:8081, protocol: line, pool: app}\n"                      \
    "pools:\n"                                                                                     \
    "  - {name: app, workers: [\"unix:/nonexistent/app.sock\"], queue: 7}\n"                       \
    "  - {name: more, workers: [\"unix:/nonexistent/more.sock\"], methods: [\"x.*\"]}\n"

static struct conf *conf;
static struct metric_rows rows;
static struct buf out;

static void set_up(void)
{
    char error[512];
    make_memory_of_test();
    cr_assert_eq(
        conf_parse("test", CONF, sizeof(CONF) - 1, &conf, error, sizeof(error)), 0, "%s", error);
    cr_assert_eq(metric_rows_init(&rows, share, conf), 0);
    share_set_pools(share, (const char *const[]){"app", "more"}, 2);
}

static void tear_down(void)
{
    buf_deinit(&out);
    metric_rows_deinit(&rows);
    conf_free(conf);
    unmap_memory_of_test();
}

TestSuite(metrics_text, .init = set_up, .fini = tear_down);

static const struct metrics_spans *spans;

static const char *text_of(const char *prefix, bool openmetrics)
{
    const struct metrics_source source = {
        .share = share, .conf = conf, .now = 5000, .spans = spans};
    const struct metrics_query query = {
        .openmetrics = openmetrics, .prefix = {prefix, strlen(prefix)}};
    buf_deinit(&out);
    cr_assert_eq(metrics_text(&source, &query, &out), 0);
    cr_assert_eq(buf_append(&out, "", 1), 0);
    return buf_data(&out);
}

static void expect_line(const char *text, const char *line)
{
    char whole[512];
    snprintf(whole, sizeof(whole), "\n%s\n", line);
    cr_expect_not_null(strstr(text, whole), "%s\nis not in\n%s", line, text);
}

/* The rows of a config: each listener, route and pool of a route has its own. */
Test(metrics_text, rows_of_a_config)
{
    struct listener_words *web = metric_row(share, 1, METRIC_KIND_listener, rows.listeners[0]);
    struct listener_words *lines = metric_row(share, 2, METRIC_KIND_listener, rows.listeners[1]);
    share_count(web->accepted, 9);
    share_count(&web->closed[METRIC_REASON_IDLE], 1);
    share_count(&web->closed[METRIC_PROTOCOL_WEBSOCKET * METRIC_REASON_COUNT], 2);
    share_set(&web->speaking[METRIC_PROTOCOL_WEBSOCKET], 4);
    share_count(lines->accepted, 3);
    const char *text = text_of("frontd_connections_", false);
    expect_line(text, "frontd_connections_accepted_total{listener=\"web\",protocol=\"http1\"} 9");
    expect_line(text, "frontd_connections_accepted_total{listener=\"lines\",protocol=\"line\"} 3");
    expect_line(text,
        "frontd_connections_closed_total{listener=\"web\",protocol=\"http1\",reason=\"idle\"} 1");
    expect_line(text, "frontd_connections_closed_total{listener=\"web\",protocol=\"websocket\","
                      "reason=\"client\"} 2");
    expect_line(text, "frontd_connections_open{listener=\"web\",protocol=\"websocket\"} 4");
    expect_line(text, "frontd_connections_open{listener=\"web\",protocol=\"http1\"} 2");
    expect_line(text, "frontd_connections_open{listener=\"lines\",protocol=\"line\"} 3");
    cr_expect_null(strstr(text, "protocol=\"http2\""), "what has counted nothing is left out");
    cr_expect_null(strstr(text, "frontd_requests"));
}

Test(metrics_text, requests_and_calls)
{
    const struct conf_route *host = &conf->listeners[0].routes[0];
    const struct conf_route *rpc = &conf->listeners[0].routes[1];
    cr_assert_str_eq(host->host, "a.test");
    struct route_words *route = metric_row(share, 1, METRIC_KIND_route, rows.routes[host->number]);
    share_count(route->received, 5);
    share_count(&route->ended[METRIC_CLASS_CALL * METRIC_CODE_COUNT + METRIC_CODE_OK], 2);
    struct pair_words *pair = metric_row(share, 1, METRIC_KIND_pair, rows.pairs[rpc->pair + 1]);
    share_count(pair->started, 3);
    share_count(&pair->ended[METRIC_CODE_DEADLINE_EXCEEDED], 1);
    metric_observe(pair->whole, 700);
    metric_observe(pair->whole, 3000000);
    const char *text = text_of("frontd_", false);
    expect_line(text, "frontd_requests_received_total{listener=\"web\",route=\"a.test/rpc\"} 5");
    expect_line(text, "frontd_requests_total{listener=\"web\",route=\"a.test/rpc\",class=\"call\","
                      "code=\"ok\"} 2");
    expect_line(text, "frontd_requests_in_progress{listener=\"web\",route=\"a.test/rpc\"} 3");
    expect_line(text, "frontd_calls_total{listener=\"web\",route=\"/rpc\",pool=\"more\","
                      "code=\"-32003\"} 1");
    expect_line(text, "frontd_calls_in_progress{listener=\"web\",route=\"/rpc\",pool=\"more\"} 2");
#define LABELS "{listener=\"web\",route=\"/rpc\",pool=\"more\""
    expect_line(text, "frontd_call_duration_seconds_bucket" LABELS ",le=\"0.0005\"} 0");
    expect_line(text, "frontd_call_duration_seconds_bucket" LABELS ",le=\"0.001\"} 1");
    expect_line(text, "frontd_call_duration_seconds_bucket" LABELS ",le=\"2.5\"} 1");
    expect_line(text, "frontd_call_duration_seconds_bucket" LABELS ",le=\"10.0\"} 2");
    expect_line(text, "frontd_call_duration_seconds_bucket" LABELS ",le=\"+Inf\"} 2");
    expect_line(text, "frontd_call_duration_seconds_sum" LABELS "} 3.000700");
    expect_line(text, "frontd_call_duration_seconds_count" LABELS "} 2");
}

Test(metrics_text, pools)
{
    unsigned row = (unsigned)share_pool(share, "app");
    const struct share_pool_workers few = {.ready = 1, .known = 3, .slots = 4};
    const struct share_pool_workers most = {
        .ready = 2, .known = 5, .slots = 8, .hung = 1, .drained = 2};
    cr_assert(share_queue_add(share, 1, row, 100) && share_queue_add(share, 2, row, 100));
    share_queue_set_oldest(share, 2, row, 3500);
    share_pool_set_workers(share, 1, row, &few);
    share_pool_set_workers(share, 2, row, &most);
    const char *text = text_of("frontd_pool_", false);
    expect_line(text, "frontd_pool_queue_length{pool=\"app\"} 2");
    expect_line(text, "frontd_pool_queue_oldest_seconds{pool=\"app\"} 1.500000");
    expect_line(text, "frontd_pool_queue_oldest_seconds{pool=\"more\"} 0.000000");
    expect_line(text, "frontd_pool_queue_limit{pool=\"app\"} 7");
    expect_line(text, "frontd_pool_workers_ready{pool=\"app\"} 2");
    expect_line(text, "frontd_pool_workers{pool=\"app\"} 5");
    expect_line(text, "frontd_pool_workers_hung{pool=\"app\"} 1");
    expect_line(text, "frontd_pool_workers_drained{pool=\"app\"} 2");
    expect_line(text, "frontd_pool_concurrency{pool=\"app\"} 8");
}

Test(metrics_text, spans)
{
    const struct metrics_spans told = {.exported = 7, .dropped = 3, .waiting = 2};
    cr_expect_null(
        strstr(text_of("frontd_spans_exported", false), "frontd_spans_exported_total 7"));
    spans = &told;
    const char *text = text_of("frontd_spans_", true);
    spans = NULL;
    expect_line(text, "# TYPE frontd_spans_exported counter");
    expect_line(text, "frontd_spans_exported_total 7");
    expect_line(text, "frontd_spans_rejected_total 3");
    expect_line(text, "frontd_spans_waiting 2");
}

Test(metrics_text, of_the_front)
{
    struct front_words *words = share_front(share, SHARE_SEAT_SUPERVISOR);
    share_set(words->config_at, 1700000000);
    share_count(&words->reloads[METRIC_RELOAD_REFUSED], 2);
    share_count(share_shard(share, 4)->busy, 1500000);
    const char *text = text_of("frontd_", true);
    expect_line(text, "frontd_config_loaded_timestamp_seconds 1700000000");
    expect_line(text, "frontd_reloads_total{kind=\"config\",outcome=\"refused\"} 2");
    expect_line(text, "frontd_loop_busy_seconds_total{seat=\"4\"} 1.500000");
    expect_line(text, "# TYPE frontd_loop_busy_seconds counter");
    expect_line(text, "# TYPE frontd_build info");
    size_t n = strlen(text);
    cr_expect_str_eq(text + n - 6, "# EOF\n");
}

static atomic_bool all_used;

/* Rows come into use, one after another, as those of methods that are called for the first time. */
static void *use_rows(void *arg)
{
    (void)arg;
    for (unsigned row = 1; row + 1 < METRIC_ROWS_method; row++) {
        usleep(20);
        metric_row(share, 1, METRIC_KIND_method, row);
    }
    all_used = true;
    return NULL;
}

Test(metrics_text, rows_that_come_into_use_meanwhile)
{
    static const char last[] = "the last";
    pthread_t thread;
    const unsigned row = METRIC_ROWS_method - 1;
    struct name_row *name = &share->memory->names[METRIC_KIND_method][row];
    name->key = 1;
    name->len = sizeof(last) - 1;
    memcpy(name->text, last, sizeof(last) - 1);
    metric_row(share, 2, METRIC_KIND_method, row);
    cr_assert_eq(pthread_create(&thread, NULL, use_rows, NULL), 0);
    while (!all_used)
        cr_expect_not_null(strstr(text_of("frontd_method", false), last));
    pthread_join(thread, NULL);
}

/* Any shard may write anything: what is made of it is text, and bounded. */
Test(metrics_text, hostile)
{
    struct listener_words *web = metric_row(share, 1, METRIC_KIND_listener, rows.listeners[0]);
    share_set(&web->closed[0], UINT64_MAX);
    share_set(&web->speaking[1], UINT64_MAX);
    struct name_row *name = &share->memory->names[METRIC_KIND_method][1];
    name->key = 1;
    name->len = UINT32_MAX;
    memset(name->text, 0xff, sizeof(name->text));
    metric_row(share, 1, METRIC_KIND_method, 1);
    share->memory->names[METRIC_KIND_pair][1].ref = UINT32_MAX;
    metric_row(share, 1, METRIC_KIND_pair, 1);
    const char *text = text_of("", false);
    expect_line(text, "frontd_connections_open{listener=\"web\",protocol=\"http1\"} 0");
    cr_expect_not_null(strstr(text, "{method=\"\\\\xff\\\\xff"));
}

Test(metrics_text, no_memory)
{
    const struct metrics_source source = {.share = share, .conf = conf};
    const struct metrics_query query = {0};
    metric_row(share, 1, METRIC_KIND_listener, 1);
    bool failed = true;
    for (long n = 0; failed; n++) {
        cr_assert_lt(n, 1000);
        buf_deinit(&out);
        mem_trim();
        mem_fail_after(n);
        failed = metrics_text(&source, &query, &out) < 0;
        mem_fail_after(-1);
    }
}
