#pragma once

/* How much memory a shard may hold where the config does not say. */

#include "common/base.h"

/*
 * The least of what /proc/self/cgroup's groups are limited to, in bytes; UINT64_MAX: none is.
 * cgroup_file: in place of it; root: in place of /sys/fs/cgroup. What cannot be read is no limit.
 */
uint64_t conf_memory_of_groups(const char *cgroup_file, const char *root);

/*
 * A shard's share of that much memory, in bytes: half of it for all shards together, since at a
 * reload those of two generations are there, and others need some; but at least 64 MiB.
 */
uint64_t conf_memory_share(uint64_t memory, uint32_t shards);

/* conf_memory_share() of what this machine, or this process's cgroup, has. */
uint64_t conf_memory_default(uint32_t shards);
