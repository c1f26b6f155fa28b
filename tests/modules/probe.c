/* A module that uses what the demo does not: threads, kept texts, context, callbacks, limits. */

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "workerd/workerd.h"

enum {
    HELD_MAX = 64,
    OUT_MAX = 4096,
};

/* ---- Threads ---- */

struct job {
    pthread_t thread;
    struct workerd_call *call;
    bool with_blob;
};

/* Answers with the params that it was called with, or as the params ask. */
static void *work(void *data)
{
    struct job *job = data;
    struct workerd_call *call = job->call;
    struct workerd_text params = workerd_call_params(call);
    struct workerd_text until_cancelled = workerd_json_member(params, "until_cancelled");
    if (until_cancelled.n > 0) {
        while (!workerd_call_cancelled(call))
            uv_sleep(1);
        workerd_reply_from_thread(call, "\"saw it\"", 8, NULL, 0);
    } else if (workerd_json_member(params, "fail").n > 0) {
        workerd_fail_from_thread(call, 7, "from a thread", "[1]", 3);
    } else {
        struct workerd_text blob = workerd_call_blob(call);
        workerd_reply_from_thread(call, params.p, params.n, blob.p, blob.n);
    }
    free(job);
    return NULL;
}

/* probe.thread: hands the call to a thread. */
static void thread(struct workerd_call *call, void *data)
{
    (void)data;
    struct job *job = malloc(sizeof(*job));
    if (job == NULL || workerd_call_keep(call) < 0) {
        free(job);
        workerd_fail(call, WORKERD_INTERNAL_ERROR, "out of memory", NULL, 0);
        return;
    }
    job->call = call;
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&job->thread, &detached, work, job) != 0) {
        free(job);
        workerd_fail(call, WORKERD_INTERNAL_ERROR, "no thread", NULL, 0);
    }
    pthread_attr_destroy(&detached);
}

/* ---- Calls that are held ---- */

static struct workerd_call *held[HELD_MAX];
static size_t nheld;
static unsigned cancelled;

static void on_cancel(void *data)
{
    (void)data;
    cancelled++;
}

/* probe.hold: is not answered until probe.release. */
static void hold(struct workerd_call *call, void *data)
{
    (void)data;
    if (nheld == HELD_MAX) {
        workerd_fail(call, 1, "full", NULL, 0);
        return;
    }
    held[nheld++] = call;
    workerd_on_cancel(call, on_cancel, NULL);
}

/* probe.release: answers what is held, and says how many of them were cancelled. */
static void release(struct workerd_call *call, void *data)
{
    (void)data;
    char out[OUT_MAX];
    int n = snprintf(out, sizeof(out), "{\"held\":%zu,\"cancelled\":%u}", nheld, cancelled);
    while (nheld > 0)
        workerd_reply(held[--nheld], "\"released\"", 10);
    cancelled = 0;
    workerd_reply(call, out, (size_t)n);
}

/* ---- Context ---- */

static int put(char *out, int at, const char *key, struct workerd_text text)
{
    char quoted[OUT_MAX];
    int64_t n = workerd_json_quote(text.p, text.n, quoted, sizeof(quoted));
    if (n < 0)
        n = snprintf(quoted, sizeof(quoted), "\"%s\"", strerror((int)-n));
    return at + snprintf(out + at, OUT_MAX - (size_t)at, "\"%s\":%.*s,", key, (int)n, quoted);
}

static int put_found(char *out, int at, const char *key, const char *value, int n)
{
    if (n < 0)
        return at + snprintf(out + at, OUT_MAX - (size_t)at, "\"%s\":%d,", key, n);
    return put(out, at, key, (struct workerd_text){value, (size_t)n});
}

static int describe(const struct workerd_call *call, char out[static OUT_MAX])
{
    char value[16];
    int at = snprintf(out, OUT_MAX, "{");
    at = put(out, at, "method", workerd_call_method(call));
    at = put(out, at, "params", workerd_call_params(call));
    at = put(out, at, "id", workerd_call_id(call));
    at = put(out, at, "meta", workerd_call_meta(call));
    at = put(out, at, "blob", workerd_call_blob(call));
    at = put_found(out, at, "peer", value, workerd_call_peer(call, value, sizeof(value)));
    at = put_found(
        out, at, "header", value, workerd_call_header(call, "x-a", value, sizeof(value)));
    return at + snprintf(out + at, OUT_MAX - (size_t)at,
                    "\"deadline\":%" PRId64 ",\"number\":%" PRIu64 ",\"conn\":%" PRIu64
                    ",\"retry\":%d,\"binary\":%d,\"notification\":%d}",
                    workerd_call_deadline(call), workerd_call_number(call),
                    workerd_call_conn(call).id, workerd_call_is_retry(call),
                    workerd_call_is_binary(call), workerd_call_is_notification(call));
}

/* probe.context: what a call is. */
static void context(struct workerd_call *call, void *data)
{
    (void)data;
    char out[OUT_MAX];
    int n = describe(call, out);
    workerd_reply(call, out, (size_t)n);
}

static void on_posted(void *data)
{
    struct workerd_call *call = data;
    char out[OUT_MAX];
    int n = describe(call, out);
    workerd_reply(call, out, (size_t)n);
}

/* probe.later: the same after the handler has returned; probe.kept: with its texts kept. */
static void later(struct workerd_call *call, void *data)
{
    (void)data;
    workerd_post(workerd_call_worker(call), on_posted, call);
}

static void kept(struct workerd_call *call, void *data)
{
    if (workerd_call_keep(call) < 0)
        workerd_fail(call, WORKERD_INTERNAL_ERROR, "out of memory", NULL, 0);
    else
        later(call, data);
}

/* ---- Limits ---- */

/* probe.large: [n] → a string of n bytes; [n, m] → with a blob of m bytes. */
static void large(struct workerd_call *call, void *data)
{
    (void)data;
    struct workerd_text value;
    int64_t sizes[2] = {0, 0};
    size_t at = 0;
    for (size_t i = 0; i < 2 && workerd_json_next(workerd_call_params(call), &at, &value); i++)
        workerd_json_integer(value, &sizes[i]);
    char *text = malloc((size_t)sizes[0] + 2);
    char *blob = malloc((size_t)sizes[1] + 1);
    if (text != NULL && blob != NULL) {
        memset(text, 'x', (size_t)sizes[0] + 2);
        text[0] = text[sizes[0] + 1] = '"';
        memset(blob, 'b', (size_t)sizes[1]);
        workerd_reply_blob(call, text, (size_t)sizes[0] + 2, blob, (size_t)sizes[1]);
    } else {
        workerd_fail(call, WORKERD_INTERNAL_ERROR, "out of memory", NULL, 0);
    }
    free(text);
    free(blob);
}

/* probe.fail: an error whose message has everything in it. */
static void fail(struct workerd_call *call, void *data)
{
    (void)data;
    workerd_fail(call, INT64_MIN, "a\"\\\n\x01\x7f\xc3\xa9\xff\xed\xa0\x80 end", "{\"k\":[]}", 8);
}

/* probe.stop: as SIGTERM would. */
static void stop(struct workerd_call *call, void *data)
{
    (void)data;
    workerd_stop(workerd_call_worker(call));
    workerd_reply(call, "null", 4);
}

static uv_timer_t timer;

static void on_timer(uv_timer_t *handle)
{
    (void)handle;
}

static void on_stop(void *data)
{
    fprintf(stderr, "%s\n", (const char *)data);
    if (!uv_is_closing((uv_handle_t *)&timer))
        uv_close((uv_handle_t *)&timer, NULL);
}

static void named(struct workerd_call *call, void *data)
{
    const char *name = data;
    char quoted[OUT_MAX];
    int64_t n = workerd_json_quote(name, strlen(name), quoted, sizeof(quoted));
    workerd_reply(call, quoted, (size_t)n);
}

int workerd_module_init(struct workerd *worker)
{
    static char names[][16] = {"a.*", "a.b.*", "a.b.c", "*"};
    static char first[] = "hook one";
    static char second[] = "hook two";
    static const struct {
        const char *method;
        workerd_handler handler;
    } methods[] = {
        {"probe.thread", thread},
        {"probe.hold", hold},
        {"probe.release", release},
        {"probe.context", context},
        {"probe.later", later},
        {"probe.kept", kept},
        {"probe.large", large},
        {"probe.fail", fail},
        {"probe.stop", stop},
    };
    int r = 0;
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]) && r == 0; i++)
        r = workerd_method(worker, methods[i].method, methods[i].handler, NULL);
    /* "*" takes what no other method does, where the test wants it. */
    size_t count = getenv("PROBE_ALL") != NULL ? 4 : 3;
    for (size_t i = 0; i < count && r == 0; i++)
        r = workerd_method(worker, names[i], named, names[i]);
    if (r == 0)
        r = workerd_on_stop(worker, on_stop, first);
    if (r == 0)
        r = workerd_on_stop(worker, on_stop, second);
    uv_timer_init(workerd_loop(worker), &timer);
    uv_timer_start(&timer, on_timer, 1000, 1000);
    return r;
}
