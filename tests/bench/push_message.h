#pragma once

/* The messages of `scripts/bench push`, the same for frontd's worker and for the limit. */

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PUSH_TOPIC "bench"

enum {
    PUSH_BYTES = 200,
    PUSH_NUMBER_AT = 6, /* {"n":"0000000001","t":"00000000000000000001","pad":"xx… */
    PUSH_TIME_AT = 23,
};

/* CLOCK_MONOTONIC, the same for all processes of a machine. */
static inline uint64_t push_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Writes message `number`, which was published at `ns`; NUL-terminated. */
static inline void push_message_write(char out[static PUSH_BYTES + 1], uint32_t number, uint64_t ns)
{
    int n = snprintf(out, PUSH_BYTES + 1,
        "{\"n\":\"%010" PRIu32 "\",\"t\":\"%020" PRIu64 "\",\"pad\":\"", number, ns);
    memset(out + n, 'x', (size_t)(PUSH_BYTES - 2 - n));
    memcpy(out + PUSH_BYTES - 2, "\"}", 3);
}

/* What was written there; `text` has PUSH_BYTES bytes. */
static inline uint32_t push_message_number(const char *text)
{
    return (uint32_t)strtoul(text + PUSH_NUMBER_AT, NULL, 10);
}

static inline uint64_t push_message_time(const char *text)
{
    return strtoull(text + PUSH_TIME_AT, NULL, 10);
}
