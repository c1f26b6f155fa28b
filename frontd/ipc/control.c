#include "frontd/ipc/control.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"

static const uint32_t CTL_MAGIC = 0x46726e74; /* "Frnt" */

/*
 * What a shard of another version of the program makes room for: a longer message would be no
 * message to it.
 */
_Static_assert(sizeof(struct ctl_message) == 1416, "as in CTL_VERSION 2");

static size_t message_size(unsigned type)
{
    size_t head = offsetof(struct ctl_message, u);
    switch (type) {
    case CTL_START: return head + sizeof(struct ctl_start);
    case CTL_LISTEN: return head + sizeof(struct ctl_listen);
    case CTL_PEER:
    case CTL_TAKE:
    case CTL_GIVE: return head + sizeof(struct ctl_peer);
    case CTL_LEAVE: return head + sizeof(struct ctl_leave);
    case CTL_HUNG: return head + sizeof(struct ctl_hung);
    case CTL_ASK: return head + sizeof(struct ctl_ask);
    case CTL_TELL: return head + sizeof(struct ctl_tell);
    case CTL_TICKETS: return head + sizeof(struct tls_ticket_keys);
    case CTL_REPORT:
    case CTL_TLS:
    case CTL_ACCESS_LOG:
    case CTL_TRACE:
    case CTL_RUN:
    case CTL_READY:
    case CTL_DRAIN:
    case CTL_OPEN: return head;
    default: return 0;
    }
}

int ctl_send(int sock, enum ctl_type type, struct ctl_message *message, const int *fds, size_t nfds)
{
    message->magic = CTL_MAGIC;
    message->version = CTL_VERSION;
    message->type = (uint16_t)type;
    message->length = (uint32_t)message_size(type);
    return fdpass_send(sock, message, message->length, fds, nfds);
}

static bool fds_fit(const struct ctl_message *message, size_t nfds)
{
    switch (message->type) {
    case CTL_START: return nfds == CTL_START_FDS;
    case CTL_LISTEN:
        return message->u.listen.count <= CTL_LISTEN_MAX && nfds == message->u.listen.count;
    case CTL_PEER: return nfds == CTL_PEER_FDS;
    case CTL_TAKE:
    case CTL_GIVE:
    case CTL_TLS:
    case CTL_ASK:
    case CTL_TELL:
    case CTL_ACCESS_LOG:
    case CTL_TRACE:
    case CTL_REPORT: return nfds == 1;
    default: return nfds == 0;
    }
}

/* Checks a received message. dropped: not all of its descriptors have come. Returns 0 or -errno. */
static int check(const struct ctl_message *message, size_t n, size_t nfds, bool dropped)
{
    if (n < offsetof(struct ctl_message, u) || message->magic != CTL_MAGIC || message->length != n)
        return -EPROTO;
    if (ctl_is_foreign(message)) {
        bool known = message->type == CTL_LEAVE || message->type == CTL_DRAIN;
        return known && nfds == 0 && !dropped ? 0 : -ENOTSUP;
    }
    if (n != message_size(message->type))
        return -EPROTO;
    if (dropped)
        return -EMFILE;
    return fds_fit(message, nfds) ? 0 : -EPROTO;
}

/* What readers rely on: texts end, and members that were not sent are zeroed. */
static void settle(struct ctl_message *message)
{
    if (ctl_is_foreign(message))
        memset(&message->u, 0, sizeof(message->u));
    if (message->type != CTL_START)
        return;
    message->u.start.instance[sizeof(message->u.start.instance) - 1] = '\0';
    message->u.start.conf_name[sizeof(message->u.start.conf_name) - 1] = '\0';
}

int ctl_receive_all(int sock, struct ctl_message *ret_message, int *fds, size_t *ret_nfds)
{
    int flags = 0;
    ssize_t n = fdpass_receive_all(sock, ret_message, sizeof(*ret_message), fds, ret_nfds, &flags);
    if (n < 0)
        return (int)n;
    if (flags & MSG_TRUNC)
        return -EMSGSIZE;
    if (n == 0)
        return -EPIPE;
    int r = check(ret_message, (size_t)n, *ret_nfds, flags & MSG_CTRUNC);
    if (r == 0)
        settle(ret_message);
    return r;
}

int ctl_receive(int sock, struct ctl_message *ret_message, int *fds, size_t *ret_nfds)
{
    size_t nfds;
    int r = ctl_receive_all(sock, ret_message, fds, &nfds);
    if (r < 0)
        fdpass_close(fds, nfds);
    else
        *ret_nfds = nfds;
    return r;
}

/* What can have its content changed by nobody, and its size neither. */
static const int TEXT_SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

int ctl_make_text(struct span text)
{
    int fd = memfd_create("frontd-text", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    size_t done = 0;
    while (done < text.n) {
        ssize_t n = write(fd, text.p + done, text.n - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    int r = done < text.n ? -ENOMEM : fcntl(fd, F_ADD_SEALS, TEXT_SEALS) < 0 ? -errno : 0;
    if (r == 0)
        return fd;
    close(fd);
    return r;
}

int ctl_send_text(int sock, enum ctl_type type, struct ctl_message *message, struct span text)
{
    int fd = ctl_make_text(text);
    if (fd < 0)
        return fd;
    int r = ctl_send(sock, type, message, &fd, 1);
    close(fd);
    return r;
}

int ctl_read_text(int fd, size_t max, struct buf *out)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS); /* nothing but a memfd has any */
    if (seals < 0 || (seals & TEXT_SEALS) != TEXT_SEALS || fstat(fd, &st) < 0 || st.st_size < 0 ||
        (uint64_t)st.st_size > max)
        return -EPROTO;
    size_t size = (size_t)st.st_size;
    size_t done = 0;
    char *room = size == 0 ? NULL : buf_room(out, size);
    if (room == NULL)
        return size == 0 ? 0 : -ENOMEM;
    while (done < size) {
        ssize_t n = pread(fd, room + done, size - done, (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -EPROTO;
        done += (size_t)n;
    }
    buf_added(out, size);
    return 0;
}

void ctl_tell_hung(const char *path, bool late)
{
    struct ctl_message message = {.u.hung.late = late};
    const char *slash = strrchr(path, '/');
    const char *file = slash == NULL ? path : slash + 1;
    if (strlen(file) >= sizeof(message.u.hung.file))
        return;
    memcpy(message.u.hung.file, file, strlen(file));
    int r = ctl_send(CTL_FD, CTL_HUNG, &message, NULL, 0);
    if (r < 0)
        log_debug("cannot tell the supervisor of %s: %s", file, log_error_text(r));
}
