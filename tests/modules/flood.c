/*
 * A module that publishes to the topic "flood", and pushes to one connection, again and again:
 * "publish 1", "push 1", "publish 2", … What is refused for want of room is sent again.
 */

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <uv.h>

#include "workerd/workerd.h"

enum { AT_ONCE = 5, PAUSE_MS = 2 };

static struct flood {
    struct workerd *worker;
    struct workerd_conn conn;
    uv_timer_t timer;
    pthread_t thread;
    bool in_thread;
    atomic_bool on;
    int64_t published;
    int64_t pushed;
    int error; /* of the first message that was refused for another reason */
} flood;

static int send_one(const char *what, int64_t number)
{
    char text[64];
    size_t n = (size_t)snprintf(text, sizeof(text), "%s %" PRId64, what, number);
    if (what[2] == 'b')
        return workerd_publish(flood.worker, NULL, "flood", WORKERD_TEXT, text, n);
    return workerd_push(flood.worker, flood.conn, WORKERD_TEXT, text, n);
}

static void count(int r, int64_t *total)
{
    *total += r == 0;
    if (r < 0 && r != -ENOBUFS && flood.error == 0)
        flood.error = r;
}

static void send_some(void)
{
    for (int i = 0; i < AT_ONCE; i++) {
        count(send_one("publish", flood.published + 1), &flood.published);
        count(send_one("push", flood.pushed + 1), &flood.pushed);
    }
}

static void on_timer(uv_timer_t *timer)
{
    (void)timer;
    send_some();
}

static void send_end(void)
{
    workerd_publish(flood.worker, NULL, "flood", WORKERD_TEXT, "end", 3);
}

static void end_in_loop(void)
{
    uv_close((uv_handle_t *)&flood.timer, NULL);
    send_end();
}

static void *in_thread(void *data)
{
    const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000L};
    while (atomic_load(&flood.on)) {
        send_some();
        nanosleep(&pause, NULL);
    }
    send_end();
    return data;
}

/* flood.join: this client gets what is published. */
static void join(struct workerd_call *call, void *data)
{
    (void)data;
    workerd_subscribe(workerd_call_worker(call), workerd_call_conn(call), "flood");
    workerd_reply(call, "true", 4);
}

/*
 * flood.start: {"thread": whether another thread than the loop's sends}; pushes go to this client.
 */
static void start(struct workerd_call *call, void *data)
{
    (void)data;
    struct workerd_text thread = workerd_json_member(workerd_call_params(call), "thread");
    flood = (struct flood){.worker = workerd_call_worker(call), .conn = workerd_call_conn(call)};
    atomic_store(&flood.on, true);
    flood.in_thread = thread.n == 4; /* true */
    if (flood.in_thread) {
        pthread_create(&flood.thread, NULL, in_thread, NULL);
    } else {
        uv_timer_init(workerd_loop(flood.worker), &flood.timer);
        uv_timer_start(&flood.timer, on_timer, 0, PAUSE_MS);
    }
    workerd_reply(call, "true", 4);
}

/* flood.stop: publishes "end"; {"publish": how many came before that, "push": …, "error": …}. */
static void stop(struct workerd_call *call, void *data)
{
    (void)data;
    char out[128];
    atomic_store(&flood.on, false);
    if (flood.in_thread)
        pthread_join(flood.thread, NULL);
    else
        end_in_loop();
    int n = snprintf(out, sizeof(out),
        "{\"publish\":%" PRId64 ",\"push\":%" PRId64 ",\"error\":%d}", flood.published,
        flood.pushed, flood.error);
    workerd_reply(call, out, (size_t)n);
}

WORKERD_MODULE_EXPORT int workerd_module_init(struct workerd *worker)
{
    int r = workerd_method(worker, "flood.join", join, NULL);
    if (r == 0)
        r = workerd_method(worker, "flood.start", start, NULL);
    if (r == 0)
        r = workerd_method(worker, "flood.stop", stop, NULL);
    return r;
}
