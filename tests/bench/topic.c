/* A module for the benchmarks: one topic, its subscribers, and numbered messages to them. */

#include <errno.h>

#include "tests/bench/push_message.h"
#include "workerd/workerd.h"

static uint32_t published; /* the number of the last message */

/* bench.subscribe: this connection gets what is published. */
static void subscribe(struct workerd_call *call, void *data)
{
    (void)data;
    int r = workerd_subscribe(workerd_call_worker(call), workerd_call_conn(call), PUSH_TOPIC);
    if (r < 0)
        workerd_fail(call, WORKERD_INTERNAL_ERROR, strerror(-r), NULL, 0);
    else
        workerd_reply(call, "true", 4);
}

/* bench.publish: {"upto":n}; publishes the messages that were not published yet, up to number n. */
static void publish(struct workerd_call *call, void *data)
{
    (void)data;
    char message[PUSH_BYTES + 1];
    int64_t upto;
    if (workerd_json_integer(workerd_json_member(workerd_call_params(call), "upto"), &upto) < 0) {
        workerd_fail(call, WORKERD_INVALID_PARAMS, "a number is wanted: upto", NULL, 0);
        return;
    }
    while (published < upto) {
        push_message_write(message, published + 1, push_now_ns());
        int r = workerd_publish(
            workerd_call_worker(call), NULL, PUSH_TOPIC, WORKERD_JSON, message, PUSH_BYTES);
        if (r < 0) {
            fprintf(stderr, "message %" PRIu32 ": %s\n", published + 1, strerror(-r));
            workerd_fail(call, WORKERD_INTERNAL_ERROR, strerror(-r), NULL, 0);
            return;
        }
        published++;
    }
    workerd_reply(call, "true", 4);
}

int workerd_module_init(struct workerd *worker)
{
    int r = workerd_method(worker, "bench.subscribe", subscribe, NULL);
    return r < 0 ? r : workerd_method(worker, "bench.publish", publish, NULL);
}
