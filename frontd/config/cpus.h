#pragma once

/* How many CPUs this process may use: how many shards there are where the config does not say. */

#include "frontd/config/cgroup.h"

/*
 * The least CPU quota of the groups that this process is in, in CPUs, rounded up (half a CPU is 1);
 * UINT64_MAX: none has one. What cannot be read is no quota.
 */
uint64_t conf_cpus_of_groups(const struct cgroup_files *files);

/* Those that the scheduler may put this process on, as far as the quota goes; at least 1. */
uint64_t conf_cpus(void);
