#pragma once

/* Codes of WebSocket's Close frames, which workers name in DISCONNECT (protocol section 9). */

#include "common/base.h"

/* Whether a code may be sent in a Close frame (RFC 6455 section 7.4): 1000-1003, 1007-1014,
 * 3000-4999. */
static inline bool close_code_valid(unsigned code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
           (code >= 3000 && code <= 4999);
}
