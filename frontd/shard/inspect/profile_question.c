/* `profile`: measures for a while what the shard spends its time on, then tells. */

#include "frontd/shard/inspect/params.h"
#include "frontd/shard/net/profile.h"

enum { FOR_S = 5, FOR_MAX_S = 60 };

struct profiling {
    uint64_t until;        /* ms */
    struct profile before; /* what had been measured when it began */
    bool measures;
};

static int begin(struct question *question, struct span params)
{
    struct profiling *profiling = question_own(question);
    uint64_t seconds = FOR_S;
    int r = params_number(question, params, "for", FOR_MAX_S, &seconds);
    if (r < 0)
        return r;
    profiling->until = question->asked + seconds * 1000;
    profiling->before = profile_start();
    profiling->measures = true;
    return 0;
}

static enum question_step step(struct question *question)
{
    struct profiling *profiling = question_own(question);
    struct json_writer *out = &question->answer;
    question->at = profiling->until;
    if (ctx_now(question->ctx) < profiling->until)
        return QUESTION_WAITS;
    struct profile after = profile_stop();
    uint64_t whole = 0;
    profiling->measures = false;
    json_begin(out, NULL, '{');
    json_begin(out, "ns", '{');
    for (int i = 0; i < PROFILE_COUNT; i++) {
        uint64_t ns = after.ns[i] - profiling->before.ns[i];
        json_add_number(out, profile_label((enum profile_work)i), ns);
        whole += ns;
    }
    json_end(out, '}');
    json_add_number(out, "whole_ns", whole);
    json_add_number(out, "turns", after.turns - profiling->before.turns);
    json_end(out, '}');
    return QUESTION_ANSWERED;
}

static void end(struct question *question)
{
    const struct profiling *profiling = question_own(question);
    if (profiling->measures)
        profile_stop();
}

const struct question_ops profile_question = {
    .size = sizeof(struct profiling),
    .begin = begin,
    .step = step,
    .end = end,
};
