#include "frontd/super/listen.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/mem.h"

enum { BACKLOG = 4096 }; /* the kernel cuts it to net.core.somaxconn */

static int set_option(int fd, int level, int option)
{
    int one = 1;
    return setsockopt(fd, level, option, &one, sizeof(one)) < 0 ? -errno : 0;
}

/* Returns a bound socket or -errno. */
static int bind_tcp(const struct conf_address *address, bool reuse_port)
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

/*
 * SO_REUSEPORT would let a second program with our user id share the port in silence. A bind
 * without it fails where anybody listens.
 */
static int probe_tcp(const struct conf_address *address)
{
    int fd = bind_tcp(address, false);
    if (fd < 0)
        return fd;
    int r = listen(fd, 1) < 0 ? -errno : 0;
    close(fd);
    return r;
}

/*
 * What a path that is there already means: a socket where nobody answers is stale and replaced;
 * everything else is left alone.
 */
static int clear_unix(const struct conf_address *address)
{
    const char *path = address->sock.un.sun_path;
    struct stat st;
    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(st.st_mode))
        return -ENOTSOCK;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int r = connect(fd, &address->sock.any, address->len) < 0 ? -errno : 0;
    close(fd);
    if (r == 0 || r == -EAGAIN || r == -EINPROGRESS)
        return -EADDRINUSE;
    if (r != -ECONNREFUSED)
        return r;
    if (st.st_uid != geteuid())
        return -EPERM; /* stale, but nothing is unlinked that we did not make */
    return unlink(path) < 0 ? -errno : 0;
}

static int bind_unix(const struct conf_address *address, uint64_t *ret_dev, uint64_t *ret_ino)
{
    int r = clear_unix(address);
    if (r < 0)
        return r;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    struct stat st;
    if (bind(fd, &address->sock.any, address->len) < 0 ||
        lstat(address->sock.un.sun_path, &st) < 0 || chmod(address->sock.un.sun_path, 0666) < 0) {
        r = -errno;
        close(fd);
        return r;
    }
    *ret_dev = st.st_dev;
    *ret_ino = st.st_ino;
    return fd;
}

static int add_socket(
    struct super_sockets *sockets, int fd, uint32_t listener, uint32_t shard, bool shared)
{
    if (listen(fd, BACKLOG) < 0) {
        int r = -errno;
        close(fd);
        return r;
    }
    sockets->sockets[sockets->count++] = (struct super_socket){
        .fd = fd, .listener = listener, .shard = shard, .shared = shared};
    return 0;
}

static int listen_on(struct super_sockets *sockets, const struct conf *conf, uint32_t index)
{
    const struct conf_address *address = &conf->listeners[index].address;
    if (address->sock.any.sa_family == AF_UNIX) {
        int fd = bind_unix(address, &sockets->made[index].dev, &sockets->made[index].ino);
        return fd < 0 ? fd : add_socket(sockets, fd, index, 0, true);
    }
    int r = probe_tcp(address);
    for (uint32_t shard = 0; r == 0 && shard < conf->shards; shard++) {
        int fd = bind_tcp(address, true);
        r = fd < 0 ? fd : add_socket(sockets, fd, index, shard, false);
    }
    return r;
}

static const char *explain(int r)
{
    switch (r) {
    case -ENOTSOCK: return "there is a file of that name that is no socket";
    case -EADDRINUSE: return "somebody listens there already";
    case -EPERM: return "there is a stale socket of another user";
    default: return strerror(-r);
    }
}

int super_listen(
    struct super_sockets *sockets, const struct conf *conf, char *error, size_t error_size)
{
    *sockets = (struct super_sockets){0};
    sockets->sockets = mem_zalloc(sizeof(*sockets->sockets) * conf->nlisteners * conf->shards);
    if (sockets->sockets == NULL) {
        snprintf(error, error_size, "no memory");
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < conf->nlisteners; i++) {
        int r = listen_on(sockets, conf, i);
        if (r < 0) {
            const struct conf_listener *listener = &conf->listeners[i];
            snprintf(error, error_size, "listener %s: cannot listen on %s: %s", listener->name,
                listener->text, explain(r));
            super_unlisten(sockets, conf);
            return r;
        }
    }
    return 0;
}

void super_unlisten(struct super_sockets *sockets, const struct conf *conf)
{
    for (size_t i = 0; i < sockets->count; i++)
        close(sockets->sockets[i].fd);
    for (uint32_t i = 0; i < conf->nlisteners; i++) {
        const struct conf_address *address = &conf->listeners[i].address;
        struct stat st;
        if (sockets->made[i].ino != 0 && lstat(address->sock.un.sun_path, &st) == 0 &&
            st.st_dev == sockets->made[i].dev && st.st_ino == sockets->made[i].ino)
            unlink(address->sock.un.sun_path);
    }
    mem_free(sockets->sockets);
    *sockets = (struct super_sockets){0};
}
