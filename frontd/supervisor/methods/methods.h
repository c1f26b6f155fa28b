#pragma once

/* What the control server answers (docs/control.md): a file for each method. */

#include "frontd/supervisor/control/control_call.h"
#include "frontd/supervisor/supervisor.h"

/* All methods, in the order of docs/control.md. The data of their server is the supervisor. */
extern const struct control_method methods_all[];
extern const size_t methods_count;

static inline struct supervisor *methods_supervisor(const struct control_call *call)
{
    return control_call_data(call);
}

void method_status(struct control_call *call, struct span params);

/* ask_shards.c */
void method_conns(struct control_call *call, struct span params);
void method_topics(struct control_call *call, struct span params);
void method_kick(struct control_call *call, struct span params);
