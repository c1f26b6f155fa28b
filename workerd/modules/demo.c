/* A module to try frontd with, and to test it. */

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "workerd/modules/demo.h"

enum {
    SLEEP_MAX_MS = 24 * 60 * 60 * 1000,
    NUMBER_MAX = 40,
    MESSAGE_MAX = 1024,
    TYPE_MAX = 256,
};

void demo_invalid_params(struct workerd_call *call, const char *message)
{
    workerd_fail(call, WORKERD_INVALID_PARAMS, message, NULL, 0);
}

struct workerd_text demo_param(const struct workerd_call *call, const char *name, size_t place)
{
    struct workerd_text params = workerd_call_params(call);
    struct workerd_text value = {NULL, 0};
    if (params.n > 0 && params.p[0] == '{')
        return workerd_json_member(params, name);
    size_t at = 0;
    for (size_t i = 0; i <= place; i++) {
        if (!workerd_json_next(params, &at, &value))
            return (struct workerd_text){NULL, 0};
    }
    return value;
}

/* Whether params is an array of exactly `n` elements, or no array. */
static bool has_count(const struct workerd_call *call, size_t n)
{
    struct workerd_text params = workerd_call_params(call);
    struct workerd_text value;
    size_t count = 0;
    if (params.n == 0 || params.p[0] != '[')
        return true;
    for (size_t at = 0; workerd_json_next(params, &at, &value);)
        count++;
    return count == n;
}

/* demo.echo: its params, exactly. */
static void echo(struct workerd_call *call, void *data)
{
    (void)data;
    struct workerd_text params = workerd_call_params(call);
    if (params.n == 0)
        workerd_reply(call, "null", 4);
    else
        workerd_reply(call, params.p, params.n);
}

/* The shortest of the digits that read back as the same number. */
static int write_double(double number, char out[static NUMBER_MAX])
{
    int n = 0;
    for (int digits = 15; digits <= 17; digits++) {
        n = snprintf(out, NUMBER_MAX, "%.*g", digits, number);
        if (strtod(out, NULL) == number)
            break;
    }
    return n;
}

/* demo.add: [a,b] or {"a":…,"b":…}. Integers stay integers as long as 64 bits hold the sum. */
static void add(struct workerd_call *call, void *data)
{
    (void)data;
    struct workerd_text a = demo_param(call, "a", 0);
    struct workerd_text b = demo_param(call, "b", 1);
    char out[NUMBER_MAX];
    int64_t ia;
    int64_t ib;
    int64_t sum;
    double da;
    double db;
    if (!has_count(call, 2) || workerd_json_double(a, &da) < 0 || workerd_json_double(b, &db) < 0) {
        demo_invalid_params(call, "two numbers are wanted: a and b");
        return;
    }
    int n;
    if (workerd_json_integer(a, &ia) == 0 && workerd_json_integer(b, &ib) == 0 &&
        !__builtin_add_overflow(ia, ib, &sum))
        n = snprintf(out, sizeof(out), "%" PRId64, sum);
    else if (!isfinite(da + db))
        n = 0;
    else
        n = write_double(da + db, out);
    if (n == 0)
        demo_invalid_params(call, "the sum is too large for a number");
    else
        workerd_reply(call, out, (size_t)n);
}

struct sleeper {
    uv_timer_t timer;
    struct workerd_call *call;
};

static void on_timer_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void on_woken(uv_timer_t *timer)
{
    struct sleeper *sleeper = timer->data;
    uv_close((uv_handle_t *)timer, on_timer_closed);
    workerd_reply(sleeper->call, "true", 4);
}

static void on_sleep_cancelled(void *data)
{
    struct sleeper *sleeper = data;
    uv_close((uv_handle_t *)&sleeper->timer, on_timer_closed);
    workerd_fail(sleeper->call, WORKERD_CANCELLED, "cancelled", NULL, 0);
}

/* demo.sleep: {"ms":n} or [n]; true after that time. */
static void demo_sleep(struct workerd_call *call, void *data)
{
    struct workerd *worker = data;
    int64_t ms;
    if (!has_count(call, 1) || workerd_json_integer(demo_param(call, "ms", 0), &ms) < 0 || ms < 0 ||
        ms > SLEEP_MAX_MS) {
        demo_invalid_params(call, "a number of milliseconds is wanted: ms");
        return;
    }
    struct sleeper *sleeper = malloc(sizeof(*sleeper));
    if (sleeper == NULL) {
        workerd_fail(call, WORKERD_INTERNAL_ERROR, "out of memory", NULL, 0);
        return;
    }
    sleeper->call = call;
    uv_timer_init(workerd_loop(worker), &sleeper->timer);
    sleeper->timer.data = sleeper;
    uv_timer_start(&sleeper->timer, on_woken, (uint64_t)ms, 0);
    workerd_on_cancel(call, on_sleep_cancelled, sleeper);
}

/* demo.error: {"code":…,"message":…}; with "data" where that is given. */
static void error(struct workerd_call *call, void *data)
{
    (void)data;
    char message[MESSAGE_MAX];
    int64_t code;
    struct workerd_text extra = demo_param(call, "data", 2);
    if (workerd_json_integer(demo_param(call, "code", 0), &code) < 0 ||
        workerd_json_string(demo_param(call, "message", 1), message, sizeof(message)) < 0) {
        demo_invalid_params(call, "an integer and a string are wanted: code and message");
        return;
    }
    workerd_fail(call, code, message, extra.p, extra.n);
}

static bool is(struct workerd_text text, const char *what)
{
    return text.n == strlen(what) && memcmp(text.p, what, text.n) == 0;
}

static void http_text(struct workerd_call *call, unsigned status, const char *text)
{
    const struct workerd_header type = {"content-type", "text/plain; charset=utf-8"};
    workerd_http_reply(call, status, &type, 1, text, strlen(text));
}

/* http.request: docs/chat.html at /, the request's own body at /echo and below. */
static void http(struct workerd_call *call, void *data)
{
    (void)data;
    struct workerd_http request;
    if (workerd_http_read(call, &request) < 0) {
        demo_invalid_params(call, "not the params of an HTTP request");
        return;
    }
    if (is(request.path, "/")) {
        const struct workerd_header type = {"content-type", "text/html; charset=utf-8"};
        if (is(request.method, "GET") || is(request.method, "HEAD"))
            workerd_http_reply(call, 200, &type, 1, demo_page, demo_page_size);
        else
            http_text(call, 405, "method not allowed\n");
    } else if (is(request.path, "/echo") ||
               (request.path.n >= 6 && memcmp(request.path.p, "/echo/", 6) == 0)) {
        char value[TYPE_MAX];
        struct workerd_header type = {"content-type", value};
        struct workerd_text body = workerd_call_blob(call);
        bool has_type = workerd_http_header(call, "content-type", value, sizeof(value)) >= 0;
        workerd_http_reply(call, 200, &type, has_type, body.p, body.n);
    } else {
        http_text(call, 404, "not found\n");
    }
}

int workerd_module_init(struct workerd *worker)
{
    static const struct {
        const char *method;
        workerd_handler handler;
    } methods[] = {
        {"demo.echo", echo},
        {"demo.add", add},
        {"demo.sleep", demo_sleep},
        {"demo.error", error},
        {"http.request", http},
    };
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        int r = workerd_method(worker, methods[i].method, methods[i].handler, worker);
        if (r < 0)
            return r;
    }
    return demo_chat_init(worker);
}
