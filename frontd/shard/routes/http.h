#pragma once

/* Routes of kind http: any request becomes a call of http.request (protocol section 8). */

#include "frontd/shard/request/request.h"

void gateway_start(struct request *request, const struct http1_head *head, struct span body);

/* Its call has ended. */
void gateway_ended(struct request *request, const struct outcome *outcome);
