/* The socket that is passed to this process at its start. */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "workerd/takeover.h"
#include "workerd/worker.h"

enum {
    PASSED_FD = 3, /* the first that sd_listen_fds(3) and frontd pass */
};

/*
 * The value of LISTEN_FDS where a listening socket was passed, as sd_listen_fds(3) says, or NULL.
 * LISTEN_PID must be ours where it is there.
 */
static const char *passed_fds(void)
{
    const char *pid = getenv("LISTEN_PID");
    char own[24];
    snprintf(own, sizeof(own), "%ld", (long)getpid());
    return pid == NULL || strcmp(pid, own) == 0 ? getenv("LISTEN_FDS") : NULL;
}

int workerd_listen_passed(struct workerd *worker)
{
    if (worker->socket.fd >= 0)
        return -EALREADY;
    int r = takeover_begin(worker);
    if (r != 0)
        return r;
    const char *fds = passed_fds();
    if (fds == NULL)
        return 0;
    if (strcmp(fds, "1") != 0) {
        log_error("LISTEN_FDS is %s: a worker has one socket", fds);
        return -EINVAL;
    }
    /* They are not meant for processes that this one may start. */
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    r = workerd_listen_fd(worker, PASSED_FD);
    return r < 0 ? r : 1;
}
