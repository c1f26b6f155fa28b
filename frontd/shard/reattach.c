/*
 * reattach_start() tries every RETRY_MS to connect to run_dir/shards/report.sock, where a
 * supervisor that finds shards alive listens when it starts. Once the report is sent, the
 * connection becomes descriptor 3, as if this supervisor had started the shard. Where there is none
 * for GIVE_UP_MS, or at SIGTERM (which is ignored while there is a supervisor to decide), the shard
 * drains.
 */

#include "frontd/shard/reattach.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/log.h"
#include "frontd/ipc/control.h"

enum {
    RETRY_MS = 100,
    GIVE_UP_MS = 5 * 60 * 1000, /* for a service manager, or an operator who is asleep */
};

static void stop(struct reattach *reattach)
{
    uv_timer_stop(&reattach->timer);
    uv_signal_stop(&reattach->terminate);
    signal(SIGTERM, SIG_IGN);
}

/* The user of the process that made the socket's other end; (uid_t)-1: unknown. */
static uid_t peer_of(int sock)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);
    return getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 ? (uid_t)-1 : peer.uid;
}

/*
 * Connects to a supervisor of that user. Returns a socket, or -errno; -EPERM: it is another user's.
 */
static int dial(const char *run_dir, uid_t uid)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t room = sizeof(address.sun_path);
    if ((size_t)snprintf(address.sun_path, room, "%s/" CTL_REPORT_SOCK, run_dir) >= room)
        return -ENAMETOOLONG;
    int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (sock < 0)
        return -errno;
    int r = connect(sock, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
    if (r == 0 && peer_of(sock) != uid)
        r = -EPERM; /* descriptors are for no other user */
    if (r == 0)
        return sock;
    close(sock);
    return r;
}

static int try(struct reattach *reattach)
{
    int sock = dial(reattach->run_dir, reattach->uid);
    if (sock < 0)
        return sock;
    int r = reattach->ops->report(reattach, sock);
    if (r == 0 && dup3(sock, CTL_FD, O_CLOEXEC) < 0)
        r = -errno;
    close(sock);
    return r;
}

static void on_timer(uv_timer_t *timer)
{
    struct reattach *reattach = timer->data;
    if (try(reattach) == 0) {
        log_info("found the new supervisor");
        stop(reattach);
        reattach->ops->found(reattach);
    } else if (uv_now(timer->loop) - reattach->since >= GIVE_UP_MS) {
        log_error("no new supervisor: finishing calls, then exiting");
        stop(reattach);
        reattach->ops->gave_up(reattach);
    }
}

static void on_terminate(uv_signal_t *handle, int number)
{
    struct reattach *reattach = handle->data;
    log_info("signal %d, and no supervisor: finishing calls, then exiting", number);
    stop(reattach);
    reattach->ops->gave_up(reattach);
}

void reattach_init(struct reattach *reattach, uv_loop_t *loop, int control)
{
    reattach->uid = peer_of(control);
    CHECK(uv_timer_init(loop, &reattach->timer) == 0);
    CHECK(uv_signal_init(loop, &reattach->terminate) == 0);
    reattach->timer.data = reattach->terminate.data = reattach;
    reattach->open = true;
}

void reattach_start(struct reattach *reattach, const struct reattach_ops *ops, const char *run_dir)
{
    reattach->ops = ops;
    reattach->run_dir = run_dir;
    reattach->since = uv_now(reattach->timer.loop);
    uv_timer_start(&reattach->timer, on_timer, RETRY_MS, RETRY_MS);
    if (uv_signal_start(&reattach->terminate, on_terminate, SIGTERM) < 0)
        log_warning("SIGTERM is ignored while there is no supervisor");
}

void reattach_close(struct reattach *reattach)
{
    if (!reattach->open)
        return;
    reattach->open = false;
    uv_close((uv_handle_t *)&reattach->timer, NULL);
    uv_close((uv_handle_t *)&reattach->terminate, NULL);
}
