#pragma once

/* Routes of kind http: any request becomes a call of http.request (protocol section 8). */

#include "frontd/shard/request/route_ops.h"

extern const struct route_ops http_route;
