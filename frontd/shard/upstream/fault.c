#include "frontd/shard/upstream/fault.h"

#include "frontd/shard/net/incident.h"

static struct log_limit *limit_of(struct faults *faults, uint8_t type, const char *what)
{
    struct fault_kind *kind = faults->kinds;
    const struct fault_kind *last = &faults->kinds[FAULT_KINDS - 1];
    while (kind < last && kind->what != NULL && (kind->what != what || kind->type != type))
        kind++;
    kind->what = what;
    kind->type = type;
    return &kind->limit;
}

/* The method of a call that has ended a moment ago; n == 0: it has been forgotten. */
static struct span method_of(const struct faults *faults, uint64_t call)
{
    const struct fault_call *last = &faults->ended[call % FAULT_CALLS];
    if (call == 0 || last->call != call)
        return (struct span){0};
    return (struct span){last->method, last->n};
}

void fault_frame(struct faults *faults, const struct frame_head *head, const char *what)
{
    struct log_limit *limit = limit_of(faults, head->type, what);
    uint64_t now = ctx_now(faults->ctx);
    const char *type = frame_type_text(head->type);
    struct span method = method_of(faults, head->call);
    incident_note_worker(faults->ctx, faults->pool, faults->worker, method, type, what, 0);
    if (head->type != FRAME_RESPONSE && head->type != FRAME_DATA) {
        log_limited(limit, now, LOG_WARNING, "pool %s: worker %s: %s is dropped: %s", faults->pool,
            faults->worker, type, what);
        return;
    }
    if (method.n == 0)
        method = SPAN("?");
    log_limited(limit, now, LOG_WARNING,
        "pool %s: worker %s: %s to `%.*s` (call %llu) is dropped: %s", faults->pool, faults->worker,
        type, (int)method.n, method.p, (unsigned long long)head->call, what);
}

void fault_answer(struct faults *faults, struct span method, enum rpc_error error, const char *what)
{
    faults->spoilt |= error == RPC_BAD_RESPONSE;
    incident_note_worker(faults->ctx, faults->pool, faults->worker, method, NULL, what, (int)error);
    log_limited(limit_of(faults, 0, what), ctx_now(faults->ctx), LOG_WARNING,
        "pool %s: worker %s: its answer to `%.*s` is %s: the client gets %d", faults->pool,
        faults->worker, (int)MIN(method.n, (size_t)FAULT_METHOD_SHOWN), method.p, what, (int)error);
}
