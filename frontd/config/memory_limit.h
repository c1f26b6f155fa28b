#pragma once

/* How much memory a shard may hold where the config does not say. */

#include "frontd/config/cgroup.h"

/*
 * The least of what the groups that this process is in are limited to, in bytes; UINT64_MAX: none
 * is. What cannot be read is no limit.
 */
uint64_t conf_memory_of_groups(const struct cgroup_files *files);

/*
 * A shard's share of that much memory, in bytes: half of it for all shards together, since at a
 * reload those of two generations are there, and others need some; but at least 64 MiB.
 */
uint64_t conf_memory_share(uint64_t memory, uint32_t shards);

/* conf_memory_share() of what this machine, or this process's cgroup, has. */
uint64_t conf_memory_default(uint32_t shards);
