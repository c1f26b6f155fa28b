#include <criterion/criterion.h>
#include <stdio.h>

#include "workerd/workerd.h"

/* meson.build names the version of the project, which is the library's; the header repeats it. */
Test(worker_version, header_and_library_are_of_one_version)
{
    char numbers[32];
    snprintf(numbers, sizeof(numbers), "%d.%d.%d", WORKERD_VERSION_MAJOR, WORKERD_VERSION_MINOR,
        WORKERD_VERSION_PATCH);
    cr_assert_str_eq(WORKERD_VERSION, numbers);
    cr_assert_str_eq(WORKERD_VERSION, workerd_version());
}
