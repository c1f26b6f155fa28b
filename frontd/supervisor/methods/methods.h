#pragma once

/* What the control server answers (docs/control.md): a file for each method. */

#include "frontd/ipc/control_rpc.h"
#include "frontd/supervisor/control/control_call.h"
#include "frontd/supervisor/supervisor.h"

/* All methods, in the order of docs/control.md. The data of their server is the supervisor. */
extern const struct control_method methods_all[];
extern const size_t methods_count;

static inline struct supervisor *methods_supervisor(const struct control_call *call)
{
    return control_call_data(call);
}

/*
 * A member of the params that is a text. Returns it, the caller's (mem_free()); or NULL where there
 * is none, and the call is answered with an error.
 */
char *methods_text(struct control_call *call, struct span params, const char *name);

/* A time of `us`, in seconds. */
void methods_put_us(struct json_writer *out, const char *key, uint64_t us);

/* Members p50 and p99 of a pool's calls, where there were any. */
void methods_put_pool_times(struct json_writer *out, const struct share *share, const char *pool);

void method_status(struct control_call *call, struct span params);

/* ask_shards.c */
void method_conns(struct control_call *call, struct span params);
void method_slow_clients(struct control_call *call, struct span params);
void method_busy_clients(struct control_call *call, struct span params);
void method_topics(struct control_call *call, struct span params);
void method_kick(struct control_call *call, struct span params);
void method_pools(struct control_call *call, struct span params);
void method_methods(struct control_call *call, struct span params);
void method_workers(struct control_call *call, struct span params);
void method_pause(struct control_call *call, struct span params);
void method_resume(struct control_call *call, struct span params);
void method_drain(struct control_call *call, struct span params);
void method_undrain(struct control_call *call, struct span params);
void method_log(struct control_call *call, struct span params);
void method_errors(struct control_call *call, struct span params);
void method_tap(struct control_call *call, struct span params);
void method_reload(struct control_call *call, struct span params);
void method_upgrade(struct control_call *call, struct span params);
void method_reload_wait(struct control_call *call, struct span params);

/* "steady", "checking" and so on. */
const char *methods_reload_state(const struct supervisor *supervisor);

/* The members of what a reload has come to, or does: of `status`, of progress and of results. */
void methods_put_reload(struct json_writer *out, const struct reload_report *report);
void method_explain(struct control_call *call, struct span params);
void method_profile(struct control_call *call, struct span params);
