#pragma once

/* What a core dump of this process would have. */

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

/* Whether /proc/self/smaps says that what lies at an address is left out of core dumps ("dd"). */
static inline bool is_left_out_of_dumps(const void *address)
{
    char line[512];
    bool here = false;
    bool found = false;
    FILE *maps = fopen("/proc/self/smaps", "re");
    cr_assert_not_null(maps);
    while (!found && fgets(line, sizeof(line), maps) != NULL) {
        unsigned long from;
        unsigned long to;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            here = from <= (unsigned long)address && (unsigned long)address < to;
        else if (here && strncmp(line, "VmFlags:", 8) == 0)
            found = strstr(line, " dd ") != NULL;
    }
    fclose(maps);
    return found;
}
