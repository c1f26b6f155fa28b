#include "frontd/config/memory_limit.h"

#include <sys/sysinfo.h>

#include "frontd/config/config.h"

enum { SHARE_MIN = 64 << 20 }; /* bytes */

static void look(void *data, const char *folder, bool version_2)
{
    uint64_t *least = data;
    char line[64];
    const char *text = line;
    if (!cgroup_line(
            folder, version_2 ? "memory.max" : "memory.limit_in_bytes", line, sizeof(line)))
        return;
    uint64_t limit = cgroup_take_number(&text);
    *least = MIN(*least, limit);
}

uint64_t conf_memory_of_groups(const struct cgroup_files *files)
{
    uint64_t least = UINT64_MAX;
    cgroup_each(files, "memory", look, &least);
    return least;
}

uint64_t conf_memory_share(uint64_t memory, uint32_t shards)
{
    uint64_t share = memory / 2 / MAX(shards, 1U);
    return MIN(MAX(share, (uint64_t)SHARE_MIN), CONF_MEMORY_MAX);
}

uint64_t conf_memory_default(uint32_t shards)
{
    struct sysinfo info;
    uint64_t memory = UINT64_MAX;
    if (sysinfo(&info) == 0)
        memory = (uint64_t)info.totalram * info.mem_unit;
    uint64_t limit = conf_memory_of_groups(&cgroup_self);
    return conf_memory_share(MIN(memory, limit), shards);
}
