/*
 * resource_of() decides what a request asks for; health, metrics and the page are answered at once.
 * The rest needs the supervisor: a `struct waiting` has the questions of one request, and when the
 * last of them is answered, or given up, the answer is written.
 */

#include "frontd/admin/answers.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "common/alloc.h"
#include "frontd/admin/dashboard.h"
#include "frontd/admin/metrics_text.h"
#include "frontd/admin/overview.h"
#include "frontd/admin/readyz.h"
#include "frontd/admin/resource.h"

static const char text_type[] = "text/plain; charset=utf-8";
static const char json_type[] = "application/json";

/*
 * For a browser: what is here is of this moment, of its own origin, and is no page but where it
 * says so.
 */
#define FIELDS                                                                                     \
    "Cache-Control: no-store\r\n"                                                                  \
    "X-Content-Type-Options: nosniff\r\n"                                                          \
    "Cross-Origin-Resource-Policy: same-origin\r\n"

static const struct span plain_fields = {FIELDS, sizeof(FIELDS) - 1};

/* A request that waits for the supervisor. */
struct waiting {
    struct answers *answers;
    struct http_conn *conn;
    enum resource_kind kind;
    unsigned nasks;
    unsigned left;   /* not answered yet */
    const char *why; /* why there is no result; NULL: there are all */
    struct {
        struct waiting *waiting;
        struct ask *ask;   /* NULL: it is answered */
        struct buf result; /* JSON; empty: there is none */
    } asks[OVERVIEW_QUESTIONS];
};

static void answer(struct http_conn *conn, unsigned status, const char *type, struct buf *body)
{
    struct http_answer full = {
        .status = status, .content_type = type, .fields = plain_fields, .owned = *body};
    *body = (struct buf){0};
    http_conn_answer(conn, &full);
}

static void answer_text(
    struct http_conn *conn, unsigned status, const char *text, struct span fields)
{
    char all[512];
    int n = snprintf(all, sizeof(all), "%.*s%.*s", (int)fields.n, fields.p == NULL ? "" : fields.p,
        (int)plain_fields.n, plain_fields.p);
    CHECK(n > 0 && (size_t)n < sizeof(all));
    struct http_answer full = {.status = status,
        .content_type = text_type,
        .fields = {all, (size_t)n},
        .body = {text, strlen(text)}};
    http_conn_answer(conn, &full);
}

static void no_memory(struct http_conn *conn)
{
    answer_text(conn, 503, "there is no memory\n", SPAN("Retry-After: 1\r\n"));
}

static void answer_page(struct http_conn *conn)
{
    struct http_answer full = {.status = 200,
        .content_type = "text/html; charset=utf-8",
        .fields = dashboard_fields,
        .body = dashboard_page};
    http_conn_answer(conn, &full);
}

/* spans: where what is said of them is kept, for as long as the result is used. */
static struct metrics_source source_of(const struct answers *answers, struct metrics_spans *spans)
{
    const struct otlp_export *export = answers->source.export;
    bool traced = export->loop != NULL;
    if (traced)
        *spans = (struct metrics_spans){export->exported, export->dropped, export->count};
    return (struct metrics_source){.share = answers->source.share,
        .conf = answers->source.conf,
        .now = log_clock(),
        .spans = traced ? spans : NULL};
}

static void answer_metrics(
    struct answers *answers, struct http_conn *conn, const struct resource *resource)
{
    struct buf body = {0};
    struct metrics_spans spans;
    const struct metrics_source source = source_of(answers, &spans);
    const struct metrics_query query = {
        .openmetrics = resource->form == ACCEPT_OPENMETRICS, .prefix = resource->name};
    if (metrics_text(&source, &query, &body) < 0) {
        buf_deinit(&body);
        no_memory(conn);
        return;
    }
    answer(conn, 200, accept_content_type(resource->form), &body);
}

/* What the supervisor is asked for */

static void free_waiting(struct waiting *waiting)
{
    for (unsigned i = 0; i < waiting->nasks; i++) {
        if (waiting->asks[i].ask != NULL)
            asker_cancel(&waiting->answers->asker, waiting->asks[i].ask);
        buf_deinit(&waiting->asks[i].result);
    }
    mem_free(waiting);
}

void answers_cancel(struct http_conn *conn)
{
    free_waiting(conn->waits);
    conn->waits = NULL;
}

static struct span result_of(const struct waiting *waiting, unsigned i)
{
    const struct buf *result = &waiting->asks[i].result;
    return (struct span){buf_len(result) == 0 ? NULL : buf_data(result), buf_len(result)};
}

static void answer_json(struct http_conn *conn, unsigned status, struct json_writer *body)
{
    if (!body->failed && buf_append(&body->out, "\n", 1) < 0)
        body->failed = true;
    if (body->failed) {
        buf_deinit(&body->out);
        no_memory(conn);
        return;
    }
    answer(conn, status, json_type, &body->out);
}

static void answer_ready(const struct waiting *waiting)
{
    struct json_writer body = {0};
    bool ready = readyz_write(waiting->answers->source.conf, waiting->answers->source.share,
        result_of(waiting, 0), waiting->why, &body);
    answer_json(waiting->conn, ready ? 200 : 503, &body);
}

static void answer_status(const struct waiting *waiting)
{
    struct json_writer body = {0};
    struct span status = result_of(waiting, 0);
    if (status.n == 0) {
        json_begin(&body, NULL, '{');
        json_add_text(&body, "error", waiting->why);
        json_end(&body, '}');
        answer_json(waiting->conn, 503, &body);
        return;
    }
    if (buf_append(&body.out, status.p, status.n) < 0)
        body.failed = true;
    answer_json(waiting->conn, 200, &body);
}

static uint64_t time_of_day(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / (1000 * 1000);
}

/* What the supervisor does not know, or does not say in time, is missing: the rest is shown. */
static void answer_overview(const struct waiting *waiting)
{
    struct buf metrics = {0};
    struct json_writer body = {0};
    struct span results[OVERVIEW_QUESTIONS];
    const struct metrics_query all = {0};
    struct metrics_spans spans;
    const struct metrics_source source = source_of(waiting->answers, &spans);
    for (unsigned i = 0; i < OVERVIEW_QUESTIONS; i++)
        results[i] = result_of(waiting, i);
    if (metrics_text(&source, &all, &metrics) < 0)
        body.failed = true;
    overview_write(
        time_of_day(), results, (struct span){buf_data(&metrics), buf_len(&metrics)}, &body);
    buf_deinit(&metrics);
    answer_json(waiting->conn, 200, &body);
}

static void conclude(struct waiting *waiting)
{
    waiting->conn->waits = NULL;
    switch (waiting->kind) {
    case RESOURCE_READY: answer_ready(waiting); break;
    case RESOURCE_STATUS: answer_status(waiting); break;
    default: answer_overview(waiting); break;
    }
    free_waiting(waiting);
}

static void on_result(void *data, struct span result, const char *why)
{
    struct waiting *waiting = *(struct waiting **)data;
    unsigned i = 0;
    while (data != &waiting->asks[i])
        i++;
    waiting->asks[i].ask = NULL;
    if (result.n == 0)
        waiting->why = why;
    else if (buf_append(&waiting->asks[i].result, result.p, result.n) < 0)
        waiting->why = "there is no memory";
    if (--waiting->left == 0)
        conclude(waiting);
}

/* Asks the supervisor for `n` things; what cannot be asked is missing in the answer. */
static void wait_for(struct answers *answers, struct http_conn *conn, enum resource_kind kind,
    const char *const *methods, unsigned n)
{
    struct waiting *waiting = mem_zalloc(sizeof(*waiting));
    if (waiting == NULL) {
        no_memory(conn);
        return;
    }
    waiting->answers = answers;
    waiting->conn = conn;
    waiting->kind = kind;
    waiting->nasks = n;
    for (unsigned i = 0; i < n; i++) {
        waiting->asks[i].waiting = waiting;
        waiting->asks[i].ask = asker_ask(&answers->asker, methods[i], on_result, &waiting->asks[i]);
        if (waiting->asks[i].ask == NULL)
            waiting->why = "the supervisor cannot be asked now";
        else
            waiting->left++;
    }
    conn->waits = waiting;
    if (waiting->left == 0)
        conclude(waiting);
}

void answers_request(struct answers *answers, struct http_conn *conn, const struct http1_head *head)
{
    static const char *const status[] = {"status"};
    struct resource resource = resource_of(head, answers->source.token, conn->local);
    if (resource.status != 200) {
        answer_text(conn, resource.status, resource.text, resource.fields);
        return;
    }
    switch (resource.kind) {
    case RESOURCE_PAGE: answer_page(conn); break;
    case RESOURCE_METRICS: answer_metrics(answers, conn, &resource); break;
    case RESOURCE_HEALTH: answer_text(conn, 200, "ok\n", (struct span){0}); break;
    case RESOURCE_OVERVIEW:
        wait_for(answers, conn, resource.kind, overview_questions, OVERVIEW_QUESTIONS);
        break;
    default: wait_for(answers, conn, resource.kind, status, 1); break;
    }
}

int answers_open(struct answers *answers, uv_loop_t *loop, const struct answers_source *source,
    int ask_fd, void (*lost)(void *data), void *data)
{
    answers->source = *source;
    return asker_open(&answers->asker, loop, ask_fd, lost, data);
}

void answers_close(struct answers *answers)
{
    asker_close(&answers->asker);
}
