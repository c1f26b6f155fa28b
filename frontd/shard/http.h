#pragma once

/* HTTP/1.1 on a client connection: requests one after the other, answered in their order. */

#include "frontd/shard/client.h"
