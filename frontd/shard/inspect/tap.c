/*
 * `tap`: while it lasts it observes all calls that end (request/account.h), and writes a line for
 * each that passes its filters; every TAP_EACH_MS what has gathered is told. What has no room until
 * then is counted and left out, so that a tap holds TAP_TEXT_MAX bytes whatever is called. It ends
 * after a time, after a number of lines, or when it is stopped.
 */

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "common/alloc.h"
#include "frontd/shard/inspect/mask.h"
#include "frontd/shard/inspect/params.h"
#include "frontd/shard/request/account.h"
#include "frontd/shard/upstream/worker.h"
#include "proto/frame.h"

enum {
    TAP_EACH_MS = 100,
    TAP_TEXT_MAX = 256 * 1024, /* bytes that gather in that time */
    TAP_BODY_MAX = 1024,       /* bytes that are shown of a body */
    TAP_METHOD_MAX = 128,
    TAP_FOR = 60,       /* s, unless the question says how long */
    TAP_FOR_MAX = 3600, /* s */
};

struct tap {
    struct account_observer observer;
    bool observing;
    uint64_t conn; /* filters; 0 and NULL: any */
    char *route;
    char *method;    /* a pattern, as in a pool's `methods` */
    char *worker;    /* a part of its name */
    uint64_t slower; /* us */
    bool failed;     /* only what has failed */
    bool bodies;
    uint64_t count;   /* lines that are wanted; 0: any number */
    uint64_t until;   /* ms */
    int64_t to_epoch; /* us: what is added to ctx_now_us() for the time of day */
    uint64_t seen;    /* calls that have passed */
    uint64_t lines;   /* of them that were told */
    uint64_t dropped;
    uint64_t gathered; /* lines in the answer, which is being written */
};

static bool passes(const struct tap *tap, const struct account *account)
{
    if (tap->conn != 0 && tap->conn != account->conn)
        return false;
    if (tap->route != NULL &&
        (account->route == NULL || strcmp(tap->route, account->route->path) != 0))
        return false;
    if (tap->method != NULL && conf_method_fit(tap->method, account->method) == 0)
        return false;
    if (tap->worker != NULL &&
        (account->worker == NULL || strstr(account->worker->text, tap->worker) == NULL))
        return false;
    return account->whole >= tap->slower && !(tap->failed && account->code == METRIC_CODE_OK);
}

/* The beginning of a body, without what is secret in it. */
static void put_body(struct json_writer *writer, const char *key, struct span body)
{
    char text[TAP_BODY_MAX];
    size_t n = MIN(body.n, sizeof(text));
    if (n > 0)
        memcpy(text, body.p, n);
    mask_json(text, n);
    json_add_span(writer, key, (struct span){text, n});
}

static void put_bodies(struct json_writer *writer, const struct account *account)
{
    const struct buf *sent = &account->call->job.frame;
    struct frame frame;
    size_t used;
    if (frame_read(buf_data(sent), buf_len(sent), UINT32_MAX, &frame, &used) == 0)
        put_body(writer, "request", frame.body);
    if (account->outcome != NULL && account->outcome->error == 0)
        put_body(writer, "answer", account->outcome->body);
}

static void put_line(
    struct json_writer *writer, const struct tap *tap, const struct account *account)
{
    char text[PEER_TEXT_SIZE];
    struct span method = account->method;
    method.n = MIN(method.n, (size_t)TAP_METHOD_MAX);
    json_begin(writer, NULL, '{');
    json_add_number(
        writer, "time_us", (uint64_t)((int64_t)(account->came + account->whole) + tap->to_epoch));
    json_add_span(writer, "method", method);
    json_add_text(writer, "class", metric_class_label(account->class));
    json_add_text(writer, "code", metric_code_label(account->code));
    json_add_number(writer, "whole_us", account->whole);
    json_add_number(writer, "queue_us", account->queued);
    json_add_number(writer, "worker_us", account->worked);
    json_add_number(writer, "bytes_in", account->bytes_in);
    json_add_number(writer, "bytes_out", account->bytes_out);
    json_add_text(writer, "pool", account->pool->conf->name);
    if (account->worker != NULL)
        json_add_text(writer, "worker", account->worker->text);
    if (account->route != NULL)
        json_add_text(writer, "route", account->route->path);
    snprintf(text, sizeof(text), "%" PRIu64, account->conn);
    json_add_text(writer, "conn", text);
    if (account->peer.family != 0) {
        peer_text(&account->peer, text);
        json_add_text(writer, "peer", text);
    }
    if (tap->bodies)
        put_bodies(writer, account);
    json_end(writer, '}');
}

static struct question *question_of(struct tap *tap)
{
    return container_of(tap, struct question, own);
}

static void on_call(
    struct ctx *ctx, struct account_observer *observer, const struct account *account)
{
    struct tap *tap = container_of(observer, struct tap, observer);
    struct json_writer *writer = &question_of(tap)->answer;
    (void)ctx;
    if (!passes(tap, account))
        return;
    tap->seen++;
    bool enough = tap->count > 0 && tap->lines + tap->gathered >= tap->count;
    if (enough || buf_len(&writer->out) > TAP_TEXT_MAX || writer->failed) {
        tap->dropped += !enough;
        return;
    }
    if (tap->gathered++ == 0) {
        json_begin(writer, NULL, '{');
        json_begin(writer, "calls", '[');
    }
    put_line(writer, tap, account);
}

static void put_end(struct json_writer *writer, struct tap *tap)
{
    json_add_number(writer, "seen", tap->seen);
    json_add_number(writer, "dropped", tap->dropped);
    json_add_number(writer, "lost", question_of(tap)->lost);
    json_end(writer, '}');
}

static enum question_step step(struct question *question)
{
    struct tap *tap = question_own(question);
    struct json_writer *writer = &question->answer;
    uint64_t now = ctx_now(question->ctx);
    if (writer->failed) { /* there was no memory: what has gathered is lost */
        buf_deinit(&writer->out);
        *writer = (struct json_writer){0};
        tap->dropped += tap->gathered;
        tap->gathered = 0;
    }
    question->at = MIN(now + TAP_EACH_MS, MAX(tap->until, now + 1));
    if (tap->gathered > 0) {
        json_end(writer, ']');
        put_end(writer, tap);
        tap->lines += tap->gathered;
        tap->gathered = 0;
        return QUESTION_PART;
    }
    if (now < tap->until && (tap->count == 0 || tap->lines < tap->count))
        return QUESTION_WAITS;
    account_ignore(question->ctx, &tap->observer);
    tap->observing = false;
    json_begin(writer, NULL, '{');
    put_end(writer, tap);
    return QUESTION_ANSWERED;
}

static int64_t time_to_epoch(struct ctx *ctx)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000 - (int64_t)ctx_now_us(ctx);
}

static int begin(struct question *question, struct span params)
{
    struct tap *tap = question_own(question);
    uint64_t seconds = TAP_FOR;
    uint64_t slower_ms = 0;
    int r = params_conn(question, params, "conn", &tap->conn);
    if (r == 0)
        r = params_text(question, params, "route", &tap->route);
    if (r == 0)
        r = params_text(question, params, "method", &tap->method);
    if (r == 0)
        r = params_text(question, params, "worker", &tap->worker);
    if (r == 0)
        r = params_number(question, params, "slower_ms", UINT32_MAX, &slower_ms);
    if (r == 0)
        r = params_number(question, params, "count", UINT32_MAX, &tap->count);
    if (r == 0)
        r = params_number(question, params, "for", TAP_FOR_MAX, &seconds);
    if (r < 0)
        return r;
    tap->slower = slower_ms * 1000;
    tap->failed = params_flag(params, "failed");
    tap->bodies = params_flag(params, "bodies");
    tap->until = question->asked + seconds * 1000;
    tap->to_epoch = time_to_epoch(question->ctx);
    tap->observer = (struct account_observer){.call = on_call};
    tap->observing = true;
    account_observe(question->ctx, &tap->observer);
    return 0;
}

static void end(struct question *question)
{
    struct tap *tap = question_own(question);
    if (tap->observing)
        account_ignore(question->ctx, &tap->observer);
    mem_free(tap->route);
    mem_free(tap->method);
    mem_free(tap->worker);
}

const struct question_ops tap_question = {
    .size = sizeof(struct tap),
    .begin = begin,
    .step = step,
    .end = end,
};
