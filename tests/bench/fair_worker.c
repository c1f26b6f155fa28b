/* A module for `scripts/bench fairness`: floods of messages, and large answers to small calls. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "workerd/workerd.h"

enum {
    BYTES_MAX = 8 << 20, /* of an answer */
    MESSAGE = 200,       /* bytes, as in the push benchmark */
    COUNT_MAX = 10000,   /* messages at one call */
};

static const char topic[] = "flood";

static int64_t parameter(const struct workerd_call *call, const char *name, int64_t max)
{
    int64_t value;
    int r = workerd_json_integer(workerd_json_member(workerd_call_params(call), name), &value);
    return r == 0 && value > 0 && value <= max ? value : -1;
}

static void fail(struct workerd_call *call, const char *why)
{
    workerd_fail(call, WORKERD_INTERNAL_ERROR, why, NULL, 0);
}

/* fair.subscribe: this connection gets what is published. */
static void subscribe(struct workerd_call *call, void *data)
{
    (void)data;
    int r = workerd_subscribe(workerd_call_worker(call), workerd_call_conn(call), topic);
    if (r < 0)
        fail(call, strerror(-r));
    else
        workerd_reply(call, "true", 4);
}

/* fair.publish: {"count":n}; so many messages, or fewer where no more of them can wait. */
static void publish(struct workerd_call *call, void *data)
{
    (void)data;
    char message[MESSAGE];
    int64_t count = parameter(call, "count", COUNT_MAX);
    memset(message, 'x', sizeof(message));
    message[0] = message[sizeof(message) - 1] = '"';
    if (count < 0) {
        fail(call, "a number is wanted: count");
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        if (workerd_publish(workerd_call_worker(call), NULL, topic, WORKERD_JSON, message,
                sizeof(message)) == -ENOBUFS)
            break;
    }
    workerd_reply(call, "true", 4);
}

/* fair.large: {"bytes":n}; a string of so many bytes. */
static void large(struct workerd_call *call, void *data)
{
    (void)data;
    int64_t n = parameter(call, "bytes", BYTES_MAX);
    char *text = n < 2 ? NULL : malloc((size_t)n);
    if (text == NULL) {
        fail(call, "a number is wanted: bytes");
        return;
    }
    memset(text, 'x', (size_t)n);
    text[0] = text[n - 1] = '"';
    workerd_reply(call, text, (size_t)n);
    free(text);
}

int workerd_module_init(struct workerd *worker)
{
    int r = workerd_method(worker, "fair.subscribe", subscribe, NULL);
    if (r == 0)
        r = workerd_method(worker, "fair.publish", publish, NULL);
    return r < 0 ? r : workerd_method(worker, "fair.large", large, NULL);
}
