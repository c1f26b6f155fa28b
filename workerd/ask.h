#pragma once

/* What clients answer to workerd_ask() (protocol section 9). */

#include "workerd/call.h"

/*
 * A call of frontd.response. Returns whether it is for a request of ours, in time or not: then it
 * is ended.
 */
bool ask_answered(struct workerd_call *call);
