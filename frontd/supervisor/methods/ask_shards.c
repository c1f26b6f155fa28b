/*
 * Methods that shards answer: the question is passed on as it is, and each answer is a member of
 * the result, as it came. What they mean together is the client's business, which is not root.
 */

#include <errno.h>

#include "frontd/ipc/control_rpc.h"
#include "frontd/supervisor/asks.h"
#include "frontd/supervisor/methods/methods.h"
#include "proto/errors.h"
#include "proto/json_read.h"

enum {
    LIMIT_MAX = 3600 * 1000, /* of a number that a client gives */
    MEASURE_MS = 1000,       /* that shards measure for, unless they are told */
    TAP_S = 60,
    PROFILE_S = 5,
};

static void on_done(void *data, struct json_writer *result)
{
    json_end(result, '}');
    control_call_answer(data, result);
}

/* What a shard tells of a tap is pushed to the client, or counted where that does not read. */
static void on_part(
    struct ask *ask, void *data, const struct shard_process *process, struct span part)
{
    struct control_call *call = data;
    struct json_writer push = {0};
    json_begin(&push, NULL, '{');
    json_add_number(&push, "shard", process->shard);
    json_add_number(&push, "generation", process->generation->number);
    json_add_raw(&push, "told", part);
    json_end(&push, '}');
    if (!control_call_push(call, "tap", &push))
        asks_note_lost(ask);
}

static void on_gone(struct control_call *call)
{
    asks_stop(call->data);
}

static const struct ask_ops whole = {.done = on_done};
static const struct ask_ops in_parts = {.part = on_part, .done = on_done};

static void ask(struct control_call *call, enum ctl_question question, struct span params,
    uint64_t limit_ms, bool one, const struct ask_ops *ops)
{
    struct supervisor *supervisor = methods_supervisor(call);
    struct ask *ask;
    if (params.n > CTL_ASK_MAX) {
        control_call_fail(call, RPC_INVALID_PARAMS, "the params are over %d bytes", CTL_ASK_MAX);
        return;
    }
    int r = asks_start(&supervisor->asks, question, params.n == 0 ? SPAN("{}") : params, limit_ms,
        one, ops, call, &ask);
    if (r < 0) {
        control_call_fail(call, r == -EBUSY ? CONTROL_E_BUSY : RPC_INTERNAL_ERROR,
            r == -EBUSY ? "shards are asked too much at the same time" : "no memory");
        return;
    }
    call->data = ask;
    call->gone = on_gone;
}

/* How long shards have for an answer that takes them a time of its own: a member of the params. */
static uint64_t limit_of(struct span params, const char *key, uint64_t unit_ms, uint64_t fallback)
{
    return ASKS_LIMIT_MS +
           unit_ms * json_read_number(json_read_member(params, key), LIMIT_MAX, fallback);
}

void method_conns(struct control_call *call, struct span params)
{
    ask(call, CTL_QUESTION_CONNS, params, limit_of(params, "measure_ms", 1, MEASURE_MS), false,
        &whole);
}

/*
 * Those that hold up the most and those that ask for the most, for a dashboard: few, and without
 * their peers, since whoever reads it need not know these.
 */
void method_slow_clients(struct control_call *call, struct span params)
{
    (void)params;
    ask(call, CTL_QUESTION_CONNS,
        SPAN("{\"sort\":\"waiting\",\"waiting_min\":1,\"limit\":5,\"anonymous\":true}"),
        ASKS_LIMIT_MS, false, &whole);
}

void method_busy_clients(struct control_call *call, struct span params)
{
    (void)params;
    ask(call, CTL_QUESTION_CONNS,
        SPAN("{\"sort\":\"rate\",\"measure_ms\":500,\"limit\":5,\"anonymous\":true}"),
        ASKS_LIMIT_MS + 500, false, &whole);
}

void method_topics(struct control_call *call, struct span params)
{
    ask(call, CTL_QUESTION_TOPICS, params, ASKS_LIMIT_MS, false, &whole);
}

void method_kick(struct control_call *call, struct span params)
{
    ask(call, CTL_QUESTION_KICK, params, ASKS_LIMIT_MS, false, &whole);
}

void method_errors(struct control_call *call, struct span params)
{
    ask(call, CTL_QUESTION_ERRORS, params, ASKS_LIMIT_MS, false, &whole);
}

void method_tap(struct control_call *call, struct span params)
{
    ask(call, CTL_QUESTION_TAP, params, limit_of(params, "for", 1000, TAP_S), false, &in_parts);
}

/* All shards would say the same, but for how workers are loaded. */
void method_explain(struct control_call *call, struct span params)
{
    ask(call, CTL_QUESTION_EXPLAIN, params, ASKS_LIMIT_MS, true, &whole);
}

void method_profile(struct control_call *call, struct span params)
{
    ask(call, CTL_QUESTION_PROFILE, params, limit_of(params, "for", 1000, PROFILE_S), false,
        &whole);
}
