#pragma once

/* Routes of kind websocket (RFC 6455). */

#include "frontd/shard/request/route_ops.h"

extern const struct route_ops websocket_route;
