#include "common/fdpass.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(FDPASS_FDS_MAX * sizeof(int))];
};

int fdpass_send(int sock, const void *message, size_t n, const int *fds, size_t nfds)
{
    CHECK(nfds <= FDPASS_FDS_MAX);
    union control control;
    struct iovec iov = {.iov_base = (void *)(uintptr_t)message, .iov_len = n};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (nfds > 0) {
        memset(&control, 0, sizeof(control));
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(nfds * sizeof(int));
        memcpy(CMSG_DATA(cmsg), fds, nfds * sizeof(int));
    }
    ssize_t sent;
    do {
        sent = sendmsg(sock, &msg, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

void fdpass_close(const int *fds, size_t n)
{
    for (size_t i = 0; i < n; i++)
        close(fds[i]);
}

static size_t take_fds(struct msghdr *msg, int *fds)
{
    size_t nfds = 0;
    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg); cmsg != NULL; cmsg = CMSG_NXTHDR(msg, cmsg)) {
        if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        CHECK(nfds + count <= FDPASS_FDS_MAX);
        memcpy(fds + nfds, CMSG_DATA(cmsg), count * sizeof(int));
        nfds += count;
    }
    return nfds;
}

ssize_t fdpass_receive_all(
    int sock, void *message, size_t size, int *fds, size_t *ret_nfds, int *ret_flags)
{
    union control control;
    struct iovec iov = {.iov_base = message, .iov_len = size};
    struct msghdr msg = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof(control),
    };
    ssize_t got;
    do {
        got = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
    } while (got < 0 && (errno == EINTR || errno == ECONNRESET));
    *ret_nfds = 0;
    if (got < 0)
        return -errno;
    *ret_nfds = take_fds(&msg, fds);
    *ret_flags = msg.msg_flags;
    return got;
}

ssize_t fdpass_receive_some(
    int sock, void *message, size_t size, int *fds, size_t *ret_nfds, bool *ret_dropped)
{
    size_t nfds = 0;
    int flags = 0;
    ssize_t got = fdpass_receive_all(sock, message, size, fds, &nfds, &flags);
    if (got < 0)
        return got;
    if (flags & MSG_TRUNC) {
        fdpass_close(fds, nfds);
        return -EMSGSIZE;
    }
    *ret_nfds = nfds;
    *ret_dropped = flags & MSG_CTRUNC;
    return got;
}

ssize_t fdpass_receive(int sock, void *message, size_t size, int *fds, size_t *ret_nfds)
{
    size_t nfds = 0;
    bool dropped = false;
    ssize_t got = fdpass_receive_some(sock, message, size, fds, &nfds, &dropped);
    if (got < 0)
        return got;
    if (dropped) {
        fdpass_close(fds, nfds);
        return -EMSGSIZE;
    }
    *ret_nfds = nfds;
    return got;
}
