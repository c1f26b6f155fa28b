#include <criterion/criterion.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/stdfds.h"
#include "tests/unit/support/descriptors.h"

/* In a process of its own. Returns whether those that were closed are /dev/null, open for programs
 * that are executed too, and the others as they were. */
static bool holds(unsigned closed)
{
    struct stat null, before[3], after;
    if (stat("/dev/null", &null) < 0)
        return false;
    for (int fd = 0; fd < 3; fd++) {
        if (fstat(fd, &before[fd]) < 0)
            return false;
        if (closed >> fd & 1) {
            close(fd);
            before[fd] = null;
        }
    }
    if (standard_open() != 0)
        return false;
    for (int fd = 0; fd < 3; fd++) {
        if (fstat(fd, &after) < 0 || after.st_rdev != before[fd].st_rdev ||
            after.st_ino != before[fd].st_ino || (fcntl(fd, F_GETFD) & FD_CLOEXEC))
            return false;
    }
    return true;
}

Test(standard, those_that_are_closed)
{
    for (unsigned closed = 0; closed < 8; closed++) {
        int status;
        pid_t pid = fork();
        if (pid == 0)
            _exit(holds(closed) ? 0 : 1);
        cr_assert_eq(waitpid(pid, &status, 0), pid);
        cr_expect_eq(status, 0, "closed: %u", closed);
    }
}

Test(standard, none_is_left_open)
{
    size_t before = open_count();
    cr_assert_eq(standard_open(), 0);
    cr_expect_eq(open_count(), before);
}
