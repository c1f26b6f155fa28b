#include "frontd/supervisor/execute.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "frontd/supervisor/reexec_state.h"

static void close_left(struct supervisor *supervisor)
{
    struct front *front = &supervisor->front;
    if (front->alive_fd >= 0)
        close(front->alive_fd);
    if (front->tickets_fd >= 0)
        close(front->tickets_fd);
    front->alive_fd = front->tickets_fd = front->control_fd = -1;
}

/*
 * Makes what only the new program needs: an older one wants a descriptor in the state that its
 * shards hold while they live, and any will do.
 */
static void open_left(struct supervisor *supervisor)
{
    struct front *front = &supervisor->front;
    front->alive_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int r = front->tickets_fd = ticket_ring_save(&front->tickets);
    if (r < 0 && r != -ENOENT)
        log_warning("cannot leave the new program the keys of session tickets: %s", strerror(-r));
}

void execute_upgrade(struct supervisor *supervisor)
{
    char number[16];
    sigset_t all;
    sigset_t before;
    supervisor->execute = false;
    /*
     * Signals that come from now on are pending in the new program until it is ready for them;
     * those that libuv has caught already are events before that.
     */
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    uv_run(&supervisor->front.loop, UV_RUN_NOWAIT);
    if (supervisor->reload.state != RELOAD_CHECKING) { /* it was SIGTERM */
        sigprocmask(SIG_SETMASK, &before, NULL);
        return;
    }
    open_left(supervisor);
    supervisor->front.control_fd = supervisor->control.fd;
    int fd = reexec_write(&supervisor->front, &supervisor->reload, &supervisor->workers);
    if (fd < 0) {
        close_left(supervisor);
        sigprocmask(SIG_SETMASK, &before, NULL);
        supervisor_blame(
            supervisor, "cannot leave the new program what it needs: %s", strerror(-fd));
        supervisor_step(supervisor, RELOAD_ON_REFUSED);
        return;
    }
    snprintf(number, sizeof(number), "%d", fd);
    char *exe = supervisor->front.paths.exe;
    char *argv[] = {exe, (char[]){"-c"}, (char *)(uintptr_t)supervisor->front.conf_name,
        (char[]){"--state"}, number, NULL};
    log_info("executing %s", exe);
    reexec_keep_open(&supervisor->front, &supervisor->workers, fd, true);
    bool current = config_check_is_current(&supervisor->check, exe);
    int error = current ? -sd_listen_expose(&supervisor->sd_listen) : 0;
    if (current && error == 0) {
        execv(exe, argv);
        error = errno;
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    sd_listen_hide(&supervisor->sd_listen);
    reexec_keep_open(&supervisor->front, &supervisor->workers, fd, false);
    close(fd);
    close_left(supervisor);
    if (current)
        supervisor_blame(
            supervisor, "cannot execute %s: %s; this program serves on", exe, strerror(error));
    else
        supervisor_blame(
            supervisor, "%s has changed since it was checked: this program serves on", exe);
    supervisor_step(supervisor, RELOAD_ON_REFUSED);
}

void execute_again(struct supervisor *supervisor)
{
    char *argv[] = {supervisor->front.paths.exe, (char[]){"-c"},
        (char *)(uintptr_t)supervisor->front.conf_name, NULL};
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL); /* they wait for the new program */
    if (sd_listen_expose(&supervisor->sd_listen) < 0)
        return;
    close_range((unsigned)sd_listen_end(&supervisor->sd_listen), ~0U, 0);
    execv(PATHS_SELF, argv);
    log_error("cannot start again: %s; shards serve on without a supervisor", strerror(errno));
    exit(1); /* what there was to close is closed */
}
