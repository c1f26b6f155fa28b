/*
 * A module for `scripts/bench reload`: topics with subscribers, and numbered messages that the
 * worker publishes by itself at a steady rate.
 */

#include <errno.h>
#include <uv.h>

#include "tests/bench/reload_message.h"
#include "workerd/workerd.h"

enum {
    NAME_MAX_BYTES = 32,
};

static struct reload_publisher publisher = {.topics = 1};
static uv_timer_t timer;

static void name_of(uint32_t topic, char out[static NAME_MAX_BYTES])
{
    snprintf(out, NAME_MAX_BYTES, "bench-%05" PRIu32, topic);
}

/* Reads a member of params that is a number from `least` to `most`. */
static int param(
    struct workerd_call *call, const char *key, int64_t least, int64_t most, int64_t *ret)
{
    int64_t value;
    int r = workerd_json_integer(workerd_json_member(workerd_call_params(call), key), &value);

    if (r < 0 || value < least || value > most) {
        workerd_fail(call, WORKERD_INVALID_PARAMS, key, NULL, 0);
        return -EINVAL;
    }
    *ret = value;
    return 0;
}

/* reload.subscribe: this connection gets what is published to the topic. */
static void subscribe(struct workerd_call *call, void *data)
{
    char name[NAME_MAX_BYTES];
    int64_t topic;
    int r;

    (void)data;
    if (param(call, "topic", 0, RELOAD_TOPICS_MAX - 1, &topic) < 0)
        return;
    name_of((uint32_t)topic, name);
    r = workerd_subscribe(workerd_call_worker(call), workerd_call_conn(call), name);
    if (r < 0)
        workerd_fail(call, WORKERD_INTERNAL_ERROR, strerror(-r), NULL, 0);
    else
        workerd_reply(call, "true", 4);
}

/* A message that cannot be sent now is sent later: none may be left out. */
static void on_tick(uv_timer_t *handle)
{
    struct workerd *worker = handle->data;
    uint64_t now = reload_now_ns(), due = reload_due(&publisher, now);
    char message[RELOAD_BYTES + 1], name[NAME_MAX_BYTES];

    while (publisher.rate > 0 && publisher.published < due) {
        name_of(reload_message_write(message, &publisher, now), name);
        if (workerd_publish(worker, NULL, name, WORKERD_JSON, message, RELOAD_BYTES) < 0)
            return;
        publisher.published++;
    }
}

/* reload.publish: from now on at this rate; 0 ends it. */
static void publish(struct workerd_call *call, void *data)
{
    int64_t rate, topics;
    char out[32];
    int n;

    (void)data;
    if (param(call, "rate", 0, RELOAD_RATE_MAX, &rate) < 0 ||
        param(call, "topics", 1, RELOAD_TOPICS_MAX, &topics) < 0)
        return;
    publisher.rate = (uint64_t)rate;
    publisher.topics = (uint32_t)topics;
    publisher.since = reload_now_ns();
    publisher.due_then = publisher.published;
    n = snprintf(out, sizeof(out), "%" PRIu64, publisher.published);
    workerd_reply(call, out, (size_t)n);
}

static void stop(void *data)
{
    (void)data;
    uv_close((uv_handle_t *)&timer, NULL);
}

int workerd_module_init(struct workerd *worker)
{
    int r = workerd_method(worker, RELOAD_SUBSCRIBE, subscribe, NULL);

    if (r == 0)
        r = workerd_method(worker, RELOAD_PUBLISH, publish, NULL);
    if (r == 0)
        r = uv_timer_init(workerd_loop(worker), &timer);
    if (r < 0)
        return r;
    timer.data = worker;
    r = workerd_on_stop(worker, stop, NULL);
    return r < 0 ? r : uv_timer_start(&timer, on_tick, RELOAD_TICK_MS, RELOAD_TICK_MS);
}
