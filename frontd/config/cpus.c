#include "frontd/config/cpus.h"

#include <sched.h>

enum { MORE_CPUS = 8 /* times CPU_SETSIZE: the most CPUs that a kernel can be built for */ };

/* quota: microseconds of CPU time in each period; where it is no number there is no quota. */
static void lower(uint64_t *least, uint64_t quota, uint64_t period)
{
    if (quota == 0 || quota == UINT64_MAX || period == 0 || period == UINT64_MAX)
        return;
    *least = MIN(*least, quota / period + (quota % period != 0));
}

static void look(void *data, const char *folder, bool version_2)
{
    char line[64];
    const char *text = line;
    if (version_2) { /* "150000 100000", or "max 100000" */
        if (!cgroup_line(folder, "cpu.max", line, sizeof(line)))
            return;
        uint64_t quota = cgroup_take_number(&text);
        if (quota != UINT64_MAX)
            lower(data, quota, cgroup_take_number(&text));
        return;
    }
    if (!cgroup_line(folder, "cpu.cfs_quota_us", line, sizeof(line))) /* -1: none */
        return;
    uint64_t quota = cgroup_take_number(&text);
    text = line;
    if (quota != UINT64_MAX && cgroup_line(folder, "cpu.cfs_period_us", line, sizeof(line)))
        lower(data, quota, cgroup_take_number(&text));
}

uint64_t conf_cpus_of_groups(const struct cgroup_files *files)
{
    uint64_t least = UINT64_MAX;
    cgroup_each(files, "cpu", look, &least);
    return least;
}

uint64_t conf_cpus(void)
{
    cpu_set_t cpus[MORE_CPUS];
    if (sched_getaffinity(0, sizeof(cpus), cpus) != 0)
        return 1;
    return MAX(MIN((uint64_t)CPU_COUNT_S(sizeof(cpus), cpus), conf_cpus_of_groups(&cgroup_self)),
        UINT64_C(1));
}
