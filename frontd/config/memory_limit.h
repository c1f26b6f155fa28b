#pragma once

/* How much memory a shard may hold, where the config does not say it. */

#include "frontd/config/cgroup.h"

/*
 * The least memory limit of this process's control groups, in bytes; UINT64_MAX: none has one.
 * What cannot be read is no limit.
 */
uint64_t conf_memory_of_groups(const struct cgroup_files *files);

/*
 * The share of one shard in that much memory, in bytes. All shards together have half of it, since
 * during a reload there are two generations, and other processes need some; but a shard has at
 * least 64 MiB.
 */
uint64_t conf_memory_share(uint64_t memory, uint32_t shards);

/* conf_memory_share() of what this machine, or this process's cgroup, has. */
uint64_t conf_memory_default(uint32_t shards);
