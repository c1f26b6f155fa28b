#include "frontd/conf_memory.h"

#include <limits.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "frontd/conf.h"

enum { SHARE_MIN = 64 << 20 }; /* bytes */

/* The number in a file; UINT64_MAX where there is none, as with "max". */
static uint64_t read_limit(const char *path)
{
    uint64_t limit = UINT64_MAX;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return UINT64_MAX;
    char text[64];
    if (fgets(text, sizeof(text), file) != NULL && text[0] >= '0' && text[0] <= '9')
        limit = strtoull(text, NULL, 10);
    fclose(file);
    return limit;
}

/* The least limit of a group and those that it is in. group: "/a/b"; is cut. */
static uint64_t limit_of(const char *root, const char *hierarchy, char *group, const char *name)
{
    uint64_t least = UINT64_MAX;
    while (true) {
        char path[PATH_MAX];
        int n = snprintf(path, sizeof(path), "%s%s%s/%s", root, hierarchy, group, name);
        uint64_t limit = n > 0 && (size_t)n < sizeof(path) ? read_limit(path) : UINT64_MAX;
        least = MIN(least, limit);
        char *slash = strrchr(group, '/');
        if (slash == NULL)
            return least;
        *slash = '\0';
    }
}

/* Whether a list such as "cpu,memory" has the controller. */
static bool has_memory(const char *controllers)
{
    static const char name[] = "memory";
    size_t n = sizeof(name) - 1;
    for (const char *p = controllers; p != NULL; p = strchr(p, ',')) {
        p += *p == ',';
        if (strncmp(p, name, n) == 0 && (p[n] == ',' || p[n] == '\0'))
            return true;
    }
    return false;
}

uint64_t conf_memory_of_groups(const char *cgroup_file, const char *root)
{
    uint64_t least = UINT64_MAX;
    char line[PATH_MAX + 128];
    FILE *file = fopen(cgroup_file, "re");
    if (file == NULL)
        return UINT64_MAX;
    while (fgets(line, sizeof(line), file) != NULL) { /* "4:memory:/a", of version 2 "0::/a" */
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *group = controllers == NULL ? NULL : strchr(controllers + 1, ':');
        if (group == NULL)
            continue;
        *group++ = '\0';
        controllers++;
        uint64_t limit = UINT64_MAX;
        if (*controllers == '\0')
            limit = limit_of(root, "", group, "memory.max");
        else if (has_memory(controllers))
            limit = limit_of(root, "/memory", group, "memory.limit_in_bytes");
        least = MIN(least, limit);
    }
    fclose(file);
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
    uint64_t limit = conf_memory_of_groups("/proc/self/cgroup", "/sys/fs/cgroup");
    return conf_memory_share(MIN(memory, limit), shards);
}
