/* A module that cannot start. */

#include <errno.h>

#include "workerd/workerd.h"

int workerd_module_init(struct workerd *worker)
{
    (void)worker;
    return -EACCES;
}
