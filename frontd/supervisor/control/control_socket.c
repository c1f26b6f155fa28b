#include "frontd/supervisor/control/control_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "frontd/system/folder.h"

#define NEW_NAME CONTROL_SOCKET_NAME ".new"

enum { BACKLOG = 64 };

/* Whether a name may be replaced or removed: 0, -ENOENT, or -EEXIST where it is not ours. */
static int look(int run_dir, const char *name)
{
    struct stat st;
    if (fstatat(run_dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    return S_ISSOCK(st.st_mode) && st.st_uid == geteuid() ? 0 : -EEXIST;
}

static int bind_new(int run_dir, int fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int r = look(run_dir, NEW_NAME);
    if (r == 0) /* a supervisor before was killed between bind() and rename() */
        r = unlinkat(run_dir, NEW_NAME, 0) < 0 ? -errno : 0;
    if (r < 0 && r != -ENOENT)
        return r;
    folder_path(run_dir, NEW_NAME, address.sun_path, sizeof(address.sun_path));
    mode_t before = umask(0177);
    r = bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
    umask(before);
    return r;
}

int control_socket_listen(int run_dir)
{
    int r = look(run_dir, CONTROL_SOCKET_NAME);
    if (r < 0 && r != -ENOENT)
        return r;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    r = bind_new(run_dir, fd);
    if (r == 0 && listen(fd, BACKLOG) < 0)
        r = -errno;
    if (r == 0 && renameat(run_dir, NEW_NAME, run_dir, CONTROL_SOCKET_NAME) < 0)
        r = -errno;
    if (r == 0)
        return fd;
    close(fd);
    return r;
}

bool control_socket_serves(int run_dir, int fd)
{
    int listens = 0;
    socklen_t size = sizeof(listens);
    return look(run_dir, CONTROL_SOCKET_NAME) == 0 &&
           getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens != 0;
}

void control_socket_unlink(int run_dir)
{
    if (run_dir >= 0 && look(run_dir, CONTROL_SOCKET_NAME) == 0)
        unlinkat(run_dir, CONTROL_SOCKET_NAME, 0);
}
