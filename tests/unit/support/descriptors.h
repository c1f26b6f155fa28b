#pragma once

/* How many descriptors this process has open, for tests in which none may be lost. */

#include <criterion/criterion.h>
#include <dirent.h>

static inline size_t open_count(void)
{
    size_t count = 0;
    DIR *dir = opendir("/proc/self/fd");
    cr_assert_not_null(dir);
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}
