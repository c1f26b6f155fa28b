#include "frontd/supervisor/sockets/endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/unix_socket.h"
#include "frontd/system/folder.h"

static int set_option(int fd, int level, int option)
{
    int one = 1;
    return setsockopt(fd, level, option, &one, sizeof(one)) < 0 ? -errno : 0;
}

int endpoint_bind_tcp(const struct conf_address *address, bool reuse_port)
{
    int family = address->sock.any.sa_family;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int r = set_option(fd, SOL_SOCKET, SO_REUSEADDR);
    if (r == 0 && reuse_port)
        r = set_option(fd, SOL_SOCKET, SO_REUSEPORT);
    if (r == 0 && family == AF_INET6)
        r = set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY);
    /* Accepted sockets inherit it: an answer is one write, and never waits for an ACK. */
    if (r == 0)
        r = set_option(fd, IPPROTO_TCP, TCP_NODELAY);
    if (r == 0 && bind(fd, &address->sock.any, address->len) < 0)
        r = -errno;
    if (r < 0) {
        close(fd);
        return r;
    }
    return fd;
}

int endpoint_try_tcp(const struct conf_address *address)
{
    int fd = endpoint_bind_tcp(address, false);
    if (fd < 0)
        return fd;
    int r = listen(fd, 1) < 0 ? -errno : 0;
    close(fd);
    return r;
}

/*
 * Whether a socket may be bound at a path: 0 with *ret_stale, a socket that has to be unlinked
 * first, and *ret_st of it; else -errno, see endpoint_explain().
 */
static int look_at_unix(const struct conf_address *address, int dir, const char *name,
    struct stat *ret_st, bool *ret_stale)
{
    int r = unix_socket_look(dir, name, &address->sock.un, ret_st);
    *ret_stale = r == UNIX_SOCKET_STALE;
    switch (r) {
    case UNIX_SOCKET_ABSENT:
    case UNIX_SOCKET_STALE: return 0;
    case UNIX_SOCKET_FOREIGN: return -EPERM;
    case UNIX_SOCKET_LIVE: return -EADDRINUSE;
    case UNIX_SOCKET_FILE: return -ENOTSOCK;
    default: return r;
    }
}

static int clear_unix(const struct conf_address *address, int dir, const char *name)
{
    struct stat st;
    bool stale;
    int r = look_at_unix(address, dir, name, &st, &stale);
    if (r < 0 || !stale)
        return r;
    return folder_unlink(dir, name, st.st_dev, st.st_ino);
}

/* The folder of a path, of whatever owner, and the name in it. */
static int open_folder_of(const struct conf_address *address, const char **ret_name)
{
    char folder[sizeof(address->sock.un.sun_path) + 1];
    const char *path = address->sock.un.sun_path;
    const char *slash = strrchr(path, '/');
    size_t n = slash == NULL ? 0 : (size_t)(slash - path) + 1;
    memcpy(folder, n == 0 ? "." : path, MAX(n, (size_t)1));
    folder[MAX(n, (size_t)1)] = '\0';
    *ret_name = path + n;
    int dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return dir < 0 ? -errno : dir;
}

/* Whether a socket could be made at a path. None is made, since others may watch the folder. */
static int probe_unix(const struct conf_address *address)
{
    const char *name;
    struct stat st;
    bool stale;
    int dir = open_folder_of(address, &name);
    if (dir < 0)
        return dir;
    int r = look_at_unix(address, dir, name, &st, &stale);
    if (r == 0 && faccessat(dir, ".", W_OK | X_OK, AT_EACCESS) < 0)
        r = -errno;
    close(dir);
    return r;
}

int endpoint_probe(const struct conf_address *address)
{
    if (address->sock.any.sa_family == AF_UNIX)
        return probe_unix(address);
    int fd = endpoint_bind_tcp(
        address, false); /* no client can connect to it, since it does not listen */
    if (fd < 0)
        return fd;
    close(fd);
    return 0;
}

int endpoint_bind_unix(const struct conf_address *address)
{
    const char *name;
    int dir = open_folder_of(address, &name);
    if (dir < 0)
        return dir;
    int r = clear_unix(address, dir, name);
    close(dir);
    if (r < 0)
        return r;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    /* Every user may connect from the beginning: afterwards the path may mean something else. */
    mode_t before = umask(0111);
    if (bind(fd, &address->sock.any, address->len) < 0)
        r = -errno;
    umask(before);
    if (r == 0)
        return fd;
    close(fd);
    return r;
}

void endpoint_unlink(const struct conf_address *address, uint64_t dev, uint64_t ino)
{
    const char *name;
    int dir = ino == 0 ? -1 : open_folder_of(address, &name);
    if (dir < 0)
        return;
    folder_unlink(dir, name, dev, ino);
    close(dir);
}

int endpoint_address(int fd, struct conf_address *ret_address)
{
    struct conf_address address = {.len = sizeof(address.sock)};
    if (getsockname(fd, &address.sock.any, &address.len) < 0)
        return -errno;
    /* The config's addresses are padded with zeros. */
    if (address.sock.any.sa_family == AF_UNIX)
        address.len = sizeof(address.sock.un);
    *ret_address = address;
    return 0;
}

uint64_t endpoint_cookie(int fd)
{
    uint64_t cookie = 0;
    socklen_t len = sizeof(cookie);
    return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) < 0 ? 0 : cookie;
}

const char *endpoint_explain(int r)
{
    switch (r) {
    case -ENOTSOCK: return "there is a file of that name that is no socket";
    case -ENOENT: return "there is no such folder";
    case -EADDRINUSE: return "somebody listens there already";
    case -EPERM: return "there is a stale socket of another user";
    default: return strerror(-r);
    }
}

bool endpoint_is_foreign(int r)
{
    return r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL || r == -EPROTONOSUPPORT;
}
