#pragma once

/* The control groups that this process is in, of both versions of them (cgroups(7)). */

#include "common/base.h"

/* Where to read; tests read elsewhere. */
struct cgroup_files {
    const char *cgroup;    /* /proc/self/cgroup */
    const char *mountinfo; /* /proc/self/mountinfo; NULL: none */
    const char *root;      /* /sys/fs/cgroup: where the groups are if mountinfo does not say it */
};

extern const struct cgroup_files cgroup_self;

/*
 * Calls look() with the folder of each group that limits this process: its own and those above it,
 * as far as they are mounted, in the hierarchy of version 2 and in the one of version 1 that has
 * the controller ("cpu"). A folder may be missing. What cannot be read or understood is left out.
 */
void cgroup_each(const struct cgroup_files *files, const char *controller,
    void (*look)(void *data, const char *folder, bool version_2), void *data);

/*
 * The first line of a file of the group, without its end. Returns false where there is none, or
 * where it does not fit.
 */
bool cgroup_line(const char *folder, const char *name, char *ret_line, size_t size);

/*
 * Reads a whole number at the beginning of *text, and moves *text behind it and the spaces after
 * it. UINT64_MAX, with *text as it was: there is none, as with "max" and "-1", or it is too large.
 */
uint64_t cgroup_take_number(const char **text);
