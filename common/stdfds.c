#include "common/stdfds.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/base.h"

int standard_open(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) >= 0)
            continue;
        int got = open("/dev/null", O_RDWR);
        if (got < 0)
            return -errno;
        CHECK(got == fd); /* the lowest number that is free */
    }
    return 0;
}
