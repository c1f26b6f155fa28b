/* A module that sends whatever a test asks for: what goes out about connections that stay. */

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "workerd/workerd.h"

enum { TEXT_MAX = 512 };

/* One thing to send, `repeat` times. Members that are not given are empty. */
struct job {
    struct workerd_call *call;
    struct workerd_conn conn;
    char op[16];
    char kind[16];
    char topic[TEXT_MAX];
    char reason[TEXT_MAX];
    bool has_topic;
    bool has_after;
    int64_t code;
    int64_t repeat;
    int64_t size; /* bytes of 'x' instead of data */
    char *data;
    size_t data_n;
    int64_t sent;
    int64_t refused;
    int error;
};

static struct workerd_conn kept;

static bool is(const char *text, const char *what)
{
    return strcmp(text, what) == 0;
}

static enum workerd_kind kind_of(const struct job *job)
{
    if (is(job->kind, "json"))
        return WORKERD_JSON;
    return is(job->kind, "binary") ? WORKERD_BINARY : WORKERD_TEXT;
}

static int send_once(const struct job *job)
{
    struct workerd *worker = workerd_call_worker(job->call);
    const char *topic = job->has_topic ? job->topic : NULL;
    if (is(job->op, "progress"))
        return workerd_progress(job->call, kind_of(job), job->data, job->data_n);
    if (is(job->op, "push"))
        return workerd_push(worker, job->conn, kind_of(job), job->data, job->data_n);
    if (is(job->op, "publish"))
        return workerd_publish(worker, job->has_after ? &job->conn : NULL, job->topic, kind_of(job),
            job->data, job->data_n);
    if (is(job->op, "subscribe"))
        return workerd_subscribe(worker, job->conn, job->topic);
    if (is(job->op, "unsubscribe"))
        return workerd_unsubscribe(worker, job->conn, topic);
    if (is(job->op, "keep"))
        return workerd_keep(worker, job->conn, job->data, job->data_n);
    return workerd_disconnect(
        worker, job->conn, (unsigned)job->code, job->reason[0] != '\0' ? job->reason : NULL);
}

static int perform(struct job *job, char out[static TEXT_MAX])
{
    for (int64_t i = 0; i < job->repeat; i++) {
        int r = send_once(job);
        job->sent += r == 0;
        job->refused += r != 0;
        job->error = r != 0 ? r : job->error;
    }
    return snprintf(out, TEXT_MAX, "{\"sent\":%" PRId64 ",\"refused\":%" PRId64 ",\"error\":%d}",
        job->sent, job->refused, job->error);
}

static void free_job(struct job *job)
{
    free(job->data);
    free(job);
}

static void *in_thread(void *data)
{
    struct job *job = data;
    char out[TEXT_MAX];
    int n = perform(job, out);
    workerd_reply_from_thread(job->call, out, (size_t)n, NULL, 0);
    free_job(job);
    return NULL;
}

static void read_text(struct workerd_text params, const char *key, char *out, size_t size)
{
    if (workerd_json_string(workerd_json_member(params, key), out, size) < 0)
        out[0] = '\0';
}

static int64_t read_integer(struct workerd_text params, const char *key, int64_t otherwise)
{
    int64_t value = otherwise;
    workerd_json_integer(workerd_json_member(params, key), &value);
    return value;
}

static struct job *read_job(struct workerd_call *call)
{
    struct workerd_text params = workerd_call_params(call);
    struct workerd_text blob = workerd_call_blob(call);
    struct job *job = calloc(1, sizeof(*job));
    if (job == NULL)
        return NULL;
    job->call = call;
    job->conn = workerd_json_member(params, "kept").n > 0 ? kept : workerd_call_conn(call);
    job->has_after = workerd_json_member(params, "after").n > 0;
    job->has_topic = workerd_json_member(params, "topic").n > 0;
    read_text(params, "op", job->op, sizeof(job->op));
    read_text(params, "kind", job->kind, sizeof(job->kind));
    read_text(params, "topic", job->topic, sizeof(job->topic));
    read_text(params, "reason", job->reason, sizeof(job->reason));
    job->code = read_integer(params, "code", 1000);
    job->repeat = read_integer(params, "repeat", 1);
    job->data_n = (size_t)read_integer(params, "size", (int64_t)blob.n);
    job->data = malloc(job->data_n + 1);
    if (job->data == NULL) {
        free(job);
        return NULL;
    }
    memset(job->data, 'x', job->data_n);
    if (blob.n > 0)
        memcpy(job->data, blob.p, blob.n);
    return job;
}

/* push.send: as struct job says; {"sent":…,"refused":…,"error":…}, the last error. */
static void send_it(struct workerd_call *call, void *data)
{
    (void)data;
    struct job *job = read_job(call);
    pthread_t thread;
    if (job == NULL) {
        workerd_fail(call, WORKERD_INTERNAL_ERROR, "out of memory", NULL, 0);
    } else if (workerd_json_member(workerd_call_params(call), "thread").n == 0) {
        char out[TEXT_MAX];
        int n = perform(job, out);
        free_job(job);
        workerd_reply(call, out, (size_t)n);
    } else if (pthread_create(&thread, NULL, in_thread, job) == 0) {
        pthread_detach(thread);
    } else {
        free_job(job);
        workerd_fail(call, WORKERD_INTERNAL_ERROR, "no thread", NULL, 0);
    }
}

/* push.keep: this connection is the one that "kept" means from now on. */
static void keep(struct workerd_call *call, void *data)
{
    (void)data;
    kept = workerd_call_conn(call);
    workerd_reply(call, "true", 4);
}

/* frontd.connect: refuses connections to /no; tells the kept connection of the others. */
static void on_connect(struct workerd_call *call, void *data)
{
    (void)data;
    char path[TEXT_MAX];
    struct workerd_text params = workerd_call_params(call);
    read_text(params, "path", path, sizeof(path));
    if (is(path, "/no")) {
        workerd_fail(call, 403, "not you", NULL, 0);
        return;
    }
    workerd_push(
        workerd_call_worker(call), workerd_call_conn(call), WORKERD_JSON, params.p, params.n);
    workerd_reply(call, "true", 4);
}

/* frontd.disconnect: the kept connection hears of it. */
static void on_disconnect(struct workerd_call *call, void *data)
{
    (void)data;
    struct workerd_text params = workerd_call_params(call);
    workerd_push(workerd_call_worker(call), kept, WORKERD_JSON, params.p, params.n);
    workerd_reply(call, "true", 4);
}

int workerd_module_init(struct workerd *worker)
{
    int r = workerd_method(worker, "push.send", send_it, NULL);
    if (r == 0)
        r = workerd_method(worker, "push.keep", keep, NULL);
    if (r == 0)
        r = workerd_method(worker, "frontd.connect", on_connect, NULL);
    return r == 0 ? workerd_method(worker, "frontd.disconnect", on_disconnect, NULL) : r;
}
