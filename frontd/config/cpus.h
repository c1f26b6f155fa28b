#pragma once

/* How many CPUs this process may use: the number of shards where the config does not say it. */

#include "frontd/config/cgroup.h"

/*
 * The least CPU quota of this process's control groups, in CPUs, rounded up (half a CPU is 1);
 * UINT64_MAX: none has one. What cannot be read is no quota.
 */
uint64_t conf_cpus_of_groups(const struct cgroup_files *files);

/* The CPUs that the scheduler may run this process on, within the quota; at least 1. */
uint64_t conf_cpus(void);
