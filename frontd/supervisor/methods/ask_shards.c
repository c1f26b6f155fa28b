/*
 * Methods that shards answer: the question is passed on as it is, and each answer is a member of
 * the result, as it came. What they mean together is the client's business, which is not root.
 */

#include <errno.h>

#include "frontd/ipc/control_rpc.h"
#include "frontd/supervisor/asks.h"
#include "frontd/supervisor/methods/methods.h"
#include "proto/errors.h"

static void on_done(void *data, struct json_writer *result)
{
    control_call_answer(data, result);
}

static void on_gone(struct control_call *call)
{
    asks_stop(call->data);
}

static const struct ask_ops whole = {.done = on_done};

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

void method_conns(struct control_call *call, struct span params)
{
    ask(call, CTL_QUESTION_CONNS, params, ASKS_LIMIT_MS, false, &whole);
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
