#include "common/unix_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

int unix_socket_look(
    int dir, const char *name, const struct sockaddr_un *address, struct stat *ret_st)
{
    *ret_st = (struct stat){0};
    if (fstatat(dir, name, ret_st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? UNIX_SOCKET_ABSENT : -errno;
    if (!S_ISSOCK(ret_st->st_mode))
        return UNIX_SOCKET_FILE;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int r = connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;
    close(fd);
    if (r == 0 || r == -EAGAIN || r == -EINPROGRESS)
        return UNIX_SOCKET_LIVE;
    if (r != -ECONNREFUSED)
        return r;
    return ret_st->st_uid == geteuid() ? UNIX_SOCKET_STALE : UNIX_SOCKET_FOREIGN;
}
