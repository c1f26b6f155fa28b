/* A module whose bodies come and go in parts; for tests/system/test_workerd_streams.py. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "workerd/workerd.h"

enum { PART = 65536 };

/* What one call is about: the state of its body, or of its answer. */
struct job {
    struct workerd_call *call;
    char path[64];
    uint64_t came; /* bytes of the body */
    uint64_t sum;
    uint64_t parts;
    uint64_t left; /* bytes of the answer */
    unsigned events;
    uv_timer_t timer; /* of events */
};

static unsigned ended; /* calls that were cancelled */

static void on_timer_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void job_free(struct job *job)
{
    uv_close((uv_handle_t *)&job->timer, on_timer_closed);
}

static void on_cancel(void *data)
{
    struct job *job = data;
    ended++;
    workerd_fail(job->call, WORKERD_CANCELLED, "cancelled", NULL, 0);
    job_free(job);
}

/* Byte n of a body is n mod 251. */
static void fill(char *out, size_t n, uint64_t from)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (char)((from + i) % 251);
}

/* /bytes/N: as fast as the client reads. */
static void send_bytes(void *data)
{
    struct job *job = data;
    char part[PART];
    while (job->left > 0) {
        size_t n = job->left < PART ? (size_t)job->left : PART;
        fill(part, n, job->came);
        if (workerd_http_send(job->call, part, n) < 0)
            return;
        job->came += n;
        job->left -= n;
    }
    workerd_http_end(job->call);
    job_free(job);
}

/* /events: until the client goes, or the worker does. */
static void on_tick(uv_timer_t *timer)
{
    struct job *job = timer->data;
    char event[40];
    int n = snprintf(event, sizeof(event), "data: %u\n\n", job->events);
    if (workerd_stopping(workerd_call_worker(job->call))) {
        workerd_http_end(job->call);
        job_free(job);
    } else if (workerd_http_send(job->call, event, (size_t)n) == 0) {
        job->events++; /* else the client does not read: it gets this one later */
    }
}

static void reply_text(struct workerd_call *call, const char *text)
{
    workerd_http_reply(call, 200, NULL, 0, text, strlen(text));
}

/* Begins the answers that need no body. Returns false where it was none of these. */
static bool begin_answer(struct job *job)
{
    const struct workerd_header events = {"content-type", "text/event-stream"};
    char number[24];
    const struct workerd_header length = {"content-length", number};
    if (sscanf(job->path, "/bytes/%" SCNu64, &job->left) == 1) {
        workerd_http_begin(job->call, 200, NULL, 0, send_bytes, job);
        send_bytes(job);
    } else if (sscanf(job->path, "/short/%23[0-9]", number) == 1) {
        workerd_http_begin(job->call, 200, &length, 1, NULL, NULL);
        workerd_http_send(job->call, "short", 5);
        workerd_http_end(job->call);
        job_free(job);
    } else if (strcmp(job->path, "/fails") == 0) {
        workerd_http_begin(job->call, 200, NULL, 0, NULL, NULL);
        workerd_http_send(job->call, "begun", 5);
        workerd_fail(job->call, 1, "as asked", NULL, 0);
        job_free(job);
    } else if (strcmp(job->path, "/events") == 0) {
        workerd_http_begin(job->call, 200, &events, 1, NULL, NULL);
        uv_timer_start(&job->timer, on_tick, 0, 10);
    } else {
        return false;
    }
    return true;
}

static void on_head(struct workerd_call *call, void *data)
{
    struct workerd *worker = data;
    struct workerd_http request;
    struct job *job = calloc(1, sizeof(*job));
    if (job == NULL || workerd_http_read(call, &request) < 0) {
        workerd_fail(call, WORKERD_INTERNAL_ERROR, "no request", NULL, 0);
        free(job);
        return;
    }
    job->call = call;
    snprintf(job->path, sizeof(job->path), "%.*s", (int)request.path.n, request.path.p);
    uv_timer_init(workerd_loop(worker), &job->timer);
    job->timer.data = job;
    workerd_call_set_data(call, job);
    workerd_on_cancel(call, on_cancel, job);
    if (begin_answer(job))
        return;
    if (strcmp(job->path, "/early") == 0)
        workerd_http_reply(call, 403, NULL, 0, "enough", 6);
    else if (strcmp(job->path, "/echo") == 0)
        workerd_http_begin(call, 200, NULL, 0, NULL, NULL);
    if (strcmp(job->path, "/early") == 0)
        job_free(job);
}

/* /echo: as it comes, for bodies within the window. Others: what came, when it is complete. */
static void on_part(struct workerd_call *call, struct workerd_text part, bool last, void *data)
{
    (void)data;
    struct job *job = workerd_call_data(call);
    char text[100];
    if (strncmp(job->path, "/bytes", 6) == 0 || strcmp(job->path, "/events") == 0)
        return; /* the answer goes on, whatever the body is */
    for (size_t i = 0; i < part.n; i++)
        job->sum = job->sum * 31 + (unsigned char)part.p[i];
    job->came += part.n;
    job->parts++;
    if (strcmp(job->path, "/hold") == 0)
        return;
    if (strcmp(job->path, "/echo") == 0)
        workerd_http_send(call, part.p, part.n);
    workerd_took(call, part.n);
    if (!last)
        return;
    if (strcmp(job->path, "/echo") == 0) {
        workerd_http_end(call);
    } else if (strcmp(job->path, "/ended") == 0) {
        snprintf(text, sizeof(text), "%u", ended);
        reply_text(call, text);
    } else {
        snprintf(text, sizeof(text), "%" PRIu64 " %" PRIu64 " %" PRIu64, job->came, job->sum,
            job->parts);
        reply_text(call, text);
    }
    job_free(job);
}

/* Bodies whole: http.request of workers that want them so. */
static void on_whole(struct workerd_call *call, void *data)
{
    (void)data;
    char text[100];
    snprintf(text, sizeof(text), "%zu whole", workerd_call_blob(call).n);
    reply_text(call, text);
}

int workerd_module_init(struct workerd *worker)
{
    if (getenv("STREAMS_WHOLE") != NULL)
        return workerd_method(worker, "http.request", on_whole, worker);
    return workerd_method_parts(worker, "http.request", on_head, on_part, worker);
}
