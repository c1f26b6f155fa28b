#include "workerd/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/cwd.h"
#include "common/log.h"
#include "common/unix_socket.h"

enum {
    BACKLOG = 512,    /* fronts have one connection a shard: more than enough */
    LOCK_TRIES = 200, /* of 10 ms each: another one starts at this very moment */
    LOCK_WAIT_MS = 10,
    HOST_MAX = 256, /* bytes: RFC 1035 section 2.3.4 */
};

/*
 * Locks the folder of the socket. Of two workers that start at once one must win: between finding a
 * stale file and binding anew, the other must not do the same. The lock is on the folder, so that
 * no file is left behind. Returns the descriptor that holds it, or -errno.
 */
static int lock_folder(const char *path)
{
    char copy[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
    snprintf(copy, sizeof(copy), "%s", path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        int error = errno;
        log_error("cannot open the folder of %s: %s", path, strerror(error));
        return -error;
    }
    for (int i = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
        int error = errno;
        if ((error != EWOULDBLOCK && error != EINTR) || i == LOCK_TRIES) {
            log_error("cannot lock the folder of %s: %s", path, strerror(error));
            close(fd);
            return -error;
        }
        nanosleep(&(struct timespec){.tv_nsec = LOCK_WAIT_MS * 1000000L}, NULL);
    }
    return fd;
}

/* A stale socket of a worker that has ended is removed. Anything else is left where it is, which is
 * an error. Returns 0 or -errno, which has been logged. */
static int make_way(const struct sockaddr_un *address)
{
    const char *path = address->sun_path;
    struct stat st;
    int r = unix_socket_look(AT_FDCWD, path, address, &st);
    if (r == UNIX_SOCKET_ABSENT)
        return 0;
    if (r == UNIX_SOCKET_FILE) {
        log_error("%s is there and is not a socket; it is left alone", path);
        return -EEXIST;
    }
    if (S_ISSOCK(st.st_mode) && st.st_uid != geteuid()) {
        log_error("%s is a socket of another user; it is left alone", path);
        return -EPERM;
    }
    if (r == UNIX_SOCKET_LIVE || r == -EACCES || r == -EPROTOTYPE) {
        log_error("%s is in use by another process", path);
        return -EADDRINUSE;
    }
    if (r < 0) {
        log_error("%s: %s", path, strerror(-r));
        return r;
    }
    if (unlink(path) < 0) {
        int error = errno;
        log_error("cannot remove the stale socket %s: %s", path, strerror(error));
        return -error;
    }
    log_info("%s was left behind by a process that is gone; it is replaced", path);
    return 0;
}

/*
 * Makes the path absolute: a successor that removes the file may have another working directory
 * (replace.c).
 */
static void make_absolute(char *path, size_t size)
{
    char cwd[PATH_MAX]; /* the folder itself: a link may lead elsewhere by then */
    if (getcwd(cwd, sizeof(cwd)) != NULL)
        cwd_join(cwd, path, path, size); /* what does not fit stays as it is */
}

static int bind_unix(struct socket *sock, const struct sockaddr_un *address)
{
    int r = make_way(address);
    if (r < 0)
        return r;
    /* Mode 0660 from birth: at no moment may other users connect. */
    mode_t mask = umask(0117);
    r = bind(sock->fd, (const struct sockaddr *)address, sizeof(*address));
    int error = errno;
    umask(mask);
    if (r < 0) {
        log_error("cannot bind %s: %s", address->sun_path, strerror(error));
        return -error;
    }
    struct stat st;
    if (lstat(address->sun_path, &st) == 0) {
        sock->dev = st.st_dev;
        sock->ino = st.st_ino;
        sock->owns_path = true;
        snprintf(sock->path, sizeof(sock->path), "%s", address->sun_path);
        make_absolute(sock->path, sizeof(sock->path));
    }
    if (listen(sock->fd, BACKLOG) < 0)
        return -errno;
    return 0;
}

static int listen_unix(struct socket *sock, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (path[0] == '\0' || path[0] == '@') {
        log_error("unix:%s is no path of a file", path);
        return -EINVAL;
    }
    if (strlen(path) >= sizeof(address.sun_path)) {
        log_error("%s is too long for the path of a socket: %zu bytes, at most %zu", path,
            strlen(path), sizeof(address.sun_path) - 1);
        return -ENAMETOOLONG;
    }
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    int lock = lock_folder(path);
    if (lock < 0)
        return lock;
    int r;
    sock->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (sock->fd < 0)
        r = -errno;
    else
        r = bind_unix(sock, &address);
    if (r < 0)
        socket_close(sock);
    else
        log_info("listening on unix:%s", path);
    close(lock);
    return r;
}

/* Takes HOST:PORT or [HOST]:PORT apart. */
static int split(const char *text, char *host, const char **ret_port)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL || colon[1] == '\0')
        return -EINVAL;
    size_t n = (size_t)(colon - text);
    if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
        text++;
        n -= 2;
    } else if (memchr(text, ':', n) != NULL) {
        return -EINVAL; /* an IPv6 address wants brackets */
    }
    if (n == 0 || n >= HOST_MAX)
        return -EINVAL;
    memcpy(host, text, n);
    host[n] = '\0';
    *ret_port = colon + 1;
    return 0;
}

static int bind_tcp(struct socket *sock, const struct addrinfo *info)
{
    int one = 1;
    sock->fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (sock->fd < 0)
        return -errno;
    if (setsockopt(sock->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
        bind(sock->fd, info->ai_addr, info->ai_addrlen) < 0 || listen(sock->fd, BACKLOG) < 0) {
        int error = errno;
        socket_close(sock);
        return -error;
    }
    sock->tcp = true;
    return 0;
}

/* Logs where it listens: port 0 has become another one. */
static void log_tcp(const struct socket *sock)
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof(address);
    char host[HOST_MAX];
    char port[8];
    if (getsockname(sock->fd, (struct sockaddr *)&address, &size) < 0 ||
        getnameinfo((struct sockaddr *)&address, size, host, sizeof(host), port, sizeof(port),
            NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return;
    bool v6 = address.ss_family == AF_INET6;
    log_info("listening on tcp://%s%s%s:%s", v6 ? "[" : "", host, v6 ? "]" : "", port);
}

static int listen_tcp(struct socket *sock, const char *text)
{
    char host[HOST_MAX];
    const char *port;
    if (split(text, host, &port) < 0) {
        log_error("tcp://%s is not tcp://HOST:PORT", text);
        return -EINVAL;
    }
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list;
    int r = getaddrinfo(host, port, &hints, &list);
    if (r != 0) {
        log_error("tcp://%s: %s", text, gai_strerror(r));
        return -EINVAL;
    }
    r = -EADDRNOTAVAIL;
    for (const struct addrinfo *info = list; info != NULL && r < 0; info = info->ai_next)
        r = bind_tcp(sock, info);
    freeaddrinfo(list);
    if (r < 0)
        log_error("cannot listen on tcp://%s: %s", text, strerror(-r));
    else
        log_tcp(sock);
    return r;
}

int socket_listen(struct socket *sock, const char *address)
{
    *sock = (struct socket){.fd = -1};
    if (strncmp(address, "unix:", 5) == 0)
        return listen_unix(sock, address + 5);
    if (strncmp(address, "tcp://", 6) == 0)
        return listen_tcp(sock, address + 6);
    log_error("%s is neither unix:PATH nor tcp://HOST:PORT", address);
    return -EINVAL;
}

int socket_take(struct socket *sock, int fd)
{
    *sock = (struct socket){.fd = -1};
    int type = 0;
    int listens = 0;
    int domain = 0;
    socklen_t size = sizeof(int);
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0 || type != SOCK_STREAM ||
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) < 0 || !listens ||
        getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) < 0) {
        log_error("descriptor %d is no listening stream socket", fd);
        close(fd);
        return -EINVAL;
    }
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    sock->fd = fd;
    sock->tcp = domain != AF_UNIX;
    return 0;
}

void socket_close(struct socket *sock)
{
    /* Before the descriptor is closed: as long as it is open, its inode is given to no other. */
    struct stat st;
    if (sock->owns_path && lstat(sock->path, &st) == 0 && S_ISSOCK(st.st_mode) &&
        st.st_dev == sock->dev && st.st_ino == sock->ino)
        unlink(sock->path);
    sock->owns_path = false;
    if (sock->fd >= 0)
        close(sock->fd);
    sock->fd = -1;
}
