#include "frontd/shard/inspect/inspect.h"

#include <errno.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/log.h"
#include "proto/json_read.h"
#include "proto/jsonrpc.h"

void inspect_init(
    struct inspect *inspect, struct ctx *ctx, int sock, const struct question_ops *const *ops)
{
    *inspect = (struct inspect){.ctx = ctx, .ops = ops, .sock = sock};
    list_init(&inspect->questions);
    wheel_timer_init(&inspect->timer, TIMER_INSPECT);
}

static void forget(struct inspect *inspect, struct question *question)
{
    list_remove(&question->node);
    inspect->count--;
    if (question->ops->end != NULL)
        question->ops->end(question);
    buf_deinit(&question->answer.out);
    mem_free(question);
}

void inspect_forget(struct inspect *inspect)
{
    list_for_each_safe (node, &inspect->questions)
        forget(inspect, container_of(node, struct question, node));
    wheel_disarm(&inspect->timer);
}

static int tell(const struct inspect *inspect, uint64_t id, struct span text, bool more)
{
    struct ctl_message message = {.u.tell = {.id = id, .more = more}};
    return ctl_send_text(inspect->sock, CTL_TELL, &message, text);
}

/* Where it cannot be told, the supervisor says that this shard is silent. */
static void tell_error(const struct inspect *inspect, uint64_t id, const char *error, bool wrong)
{
    struct json_writer writer = {0};
    json_begin(&writer, NULL, '{');
    json_add_text(&writer, "error", error);
    if (wrong)
        json_add_flag(&writer, "wrong", true);
    json_end(&writer, '}');
    if (!writer.failed)
        tell(inspect, id, (struct span){buf_data(&writer.out), buf_len(&writer.out)}, false);
    buf_deinit(&writer.out);
}

static void stop(struct inspect *inspect, struct span params)
{
    uint64_t of = json_read_number(json_read_member(params, "of"), UINT64_MAX, 0);
    list_for_each_safe (node, &inspect->questions) {
        struct question *question = container_of(node, struct question, node);
        if (question->id == of)
            forget(inspect, question);
    }
}

/* Returns why it is not answered, or NULL; *ret_wrong: it is the question itself. */
static const char *begin(
    struct inspect *inspect, const struct ctl_ask *ask, struct span params, bool *ret_wrong)
{
    const struct question_ops *ops = ask->question < CTL_QUESTIONS ? inspect->ops[ask->question]
                                                                   : NULL;
    if (ops == NULL)
        return "this is asked of no shard";
    if (inspect->count == INSPECT_MAX)
        return "this shard is asked too much at the same time";
    struct question *question = mem_zalloc(sizeof(*question) + ops->size);
    if (question == NULL)
        return "this shard has no memory";
    question->ctx = inspect->ctx;
    question->id = ask->id;
    question->ops = ops;
    question->asked = ctx_now(inspect->ctx);
    list_append(&inspect->questions, &question->node);
    inspect->count++;
    int r = ops->begin(question, params);
    if (r == 0)
        return NULL;
    const char *problem = r == -ENOMEM ? "this shard has no memory" : question->problem;
    *ret_wrong = r != -ENOMEM;
    forget(inspect, question);
    return problem;
}

void inspect_ask(struct inspect *inspect, const struct ctl_ask *ask, int fd)
{
    struct buf text = {0};
    int r = ctl_read_text(fd, CTL_ASK_MAX, &text);
    struct span params = {buf_data(&text), buf_len(&text)};
    close(fd);
    if (r == 0 && (params.n == 0 || jsonrpc_validate(params.p, params.n) != 0))
        r = -EPROTO;
    const char *problem = NULL;
    bool wrong = false;
    if (r < 0)
        problem = r == -ENOMEM ? "this shard has no memory" : "the question is no JSON";
    else if (ask->question == CTL_QUESTION_STOP)
        stop(inspect, params);
    else
        problem = begin(inspect, ask, params, &wrong);
    if (problem != NULL && ask->question != CTL_QUESTION_STOP)
        tell_error(inspect, ask->id, problem, wrong);
    buf_deinit(&text);
}

/* Sends what is in the answer. Returns whether the question goes on: there may be more, or it has
 * to be sent once more. */
static bool send_answer(struct inspect *inspect, struct question *question, bool more)
{
    struct json_writer *answer = &question->answer;
    uint64_t now = ctx_now(inspect->ctx);
    int r = answer->failed
                ? -ENOMEM
                : tell(inspect, question->id,
                      (struct span){buf_data(&answer->out), buf_len(&answer->out)}, more);
    if (r == -EAGAIN && !more && now - question->asked < INSPECT_GIVE_UP_MS) {
        question->at = now + INSPECT_AGAIN_MS;
        return true;
    }
    question->lost += r < 0;
    if (r < 0)
        log_debug("an answer to the supervisor is lost: %s", log_error_text(r));
    buf_deinit(&answer->out);
    *answer = (struct json_writer){0};
    return more;
}

/* Returns whether the question is still there. */
static bool go_on(struct inspect *inspect, struct question *question)
{
    enum question_step step = QUESTION_ANSWERED;
    if (!question->answered)
        step = question->ops->step(question);
    if (step == QUESTION_ANSWERED) {
        if (!question->answered) /* a question that was asked long ago has as long to be told */
            question->asked = ctx_now(inspect->ctx);
        question->answered = true;
    }
    if (step < QUESTION_PART || send_answer(inspect, question, step == QUESTION_PART))
        return true;
    forget(inspect, question);
    return false;
}

static bool is_due(const struct inspect *inspect, const struct question *question)
{
    return question->at <= ctx_now(inspect->ctx);
}

bool inspect_unfinished(const struct inspect *inspect)
{
    list_for_each (node, &inspect->questions) {
        if (is_due(inspect, container_of(node, struct question, node)))
            return true;
    }
    return false;
}

static void arm(struct inspect *inspect)
{
    uint64_t at = UINT64_MAX;
    list_for_each (node, &inspect->questions)
        at = MIN(at, container_of(node, struct question, node)->at);
    if (at != UINT64_MAX)
        wheel_arm(&inspect->ctx->wheel, &inspect->timer, at);
}

void inspect_turn(struct inspect *inspect)
{
    if (LIKELY(list_empty(&inspect->questions)))
        return;
    uint64_t until = uv_hrtime() + INSPECT_SLICE_NS;
    do {
        list_for_each_safe (node, &inspect->questions) {
            struct question *question = container_of(node, struct question, node);
            if (is_due(inspect, question))
                go_on(inspect, question);
        }
    } while (inspect_unfinished(inspect) && uv_hrtime() < until);
    arm(inspect);
}

void inspect_timeout(struct wheel_timer *timer)
{
    (void)timer; /* inspect_turn() looks at all of them */
}
