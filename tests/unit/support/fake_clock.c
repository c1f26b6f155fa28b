#include "tests/unit/support/fake_clock.h"

#include <stdbool.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static bool stopped;
static struct timespec now;

/* In place of the C library's, for libraries too. */
__attribute__((visibility("default"))) int clock_gettime(clockid_t id, struct timespec *ret_time)
{
    if (!stopped || (id != CLOCK_MONOTONIC && id != CLOCK_MONOTONIC_COARSE))
        return (int)syscall(SYS_clock_gettime, id, ret_time);
    *ret_time = now;
    return 0;
}

void fake_clock_stop(void)
{
    clock_gettime(CLOCK_MONOTONIC, &now);
    stopped = true;
}

void fake_clock_advance(uint64_t ms)
{
    now.tv_sec += (time_t)(ms / 1000);
    now.tv_nsec += (long)(ms % 1000) * 1000000;
    if (now.tv_nsec >= 1000000000) {
        now.tv_sec++;
        now.tv_nsec -= 1000000000;
    }
}
