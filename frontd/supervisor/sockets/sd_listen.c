#include "frontd/supervisor/sockets/sd_listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"

enum {
    FIRST_FD = 3,       /* SD_LISTEN_FDS_START */
    PASSED_MAX = 65536, /* a larger LISTEN_FDS is a mistake */
    TEXT_MAX = 128,     /* an address as people read it; a UNIX path has at most 108 bytes */
};

/* The names of the sockets are of no use here; they go with the other variables. */
static const char *const variables[] = {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"};

static void set_close_on_exec(const struct sd_listen *sd_listen, bool on)
{
    for (int i = 0; i < sd_listen->passed; i++)
        fcntl(FIRST_FD + i, F_SETFD, on ? FD_CLOEXEC : 0);
}

/* How many sockets were passed to this process. */
static int read_variables(void)
{
    const char *pid = getenv("LISTEN_PID");
    const char *count = getenv("LISTEN_FDS");
    char *end;
    if (pid == NULL || count == NULL || strtol(pid, NULL, 10) != (long)getpid())
        return 0;
    long n = strtol(count, &end, 10);
    if (*count == '\0' || *end != '\0' || n < 0 || n > PASSED_MAX) {
        log_warning("LISTEN_FDS is no number of sockets: %s; no passed socket is used", count);
        return 0;
    }
    return (int)n;
}

static int option(int fd, int name)
{
    int value;
    socklen_t len = sizeof(value);
    return getsockopt(fd, SOL_SOCKET, name, &value, &len) < 0 ? -errno : value;
}

/* Why this descriptor cannot be used, or NULL with its address. */
static const char *check(int fd, struct conf_address *ret_address)
{
    struct conf_address address;
    memset(&address, 0, sizeof(address)); /* behind a path too, which need not come with its end */
    address.len = sizeof(address.sock);
    if (option(fd, SO_TYPE) != SOCK_STREAM)
        return "is no stream socket";
    if (option(fd, SO_ACCEPTCONN) != 1)
        return "does not listen (Accept=yes in its unit?)";
    if (getsockname(fd, &address.sock.any, &address.len) < 0)
        return strerror(errno);
    int family = address.sock.any.sa_family;
    if (family != AF_UNIX && family != AF_INET && family != AF_INET6)
        return "is neither TCP nor a UNIX socket";
    if (address.len > sizeof(address.sock))
        address.len = sizeof(address.sock); /* a path of 108 bytes, without its end */
    *ret_address = address;
    return NULL;
}

static int prepare(int fd, int family)
{
    int one = 1;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    /* As where we bind ourselves: accepted sockets inherit it. */
    if (family != AF_UNIX && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0)
        return -errno;
    return 0;
}

static void describe(const struct conf_address *address, char *text)
{
    char host[INET6_ADDRSTRLEN] = "?";
    const struct sockaddr_un *un = &address->sock.un;
    size_t path_len = address->len - offsetof(struct sockaddr_un, sun_path);
    switch (address->sock.any.sa_family) {
    case AF_INET:
        inet_ntop(AF_INET, &address->sock.in.sin_addr, host, sizeof(host));
        snprintf(text, TEXT_MAX, "%s:%u", host, ntohs(address->sock.in.sin_port));
        break;
    case AF_INET6:
        inet_ntop(AF_INET6, &address->sock.in6.sin6_addr, host, sizeof(host));
        snprintf(text, TEXT_MAX, "[%s]:%u", host, ntohs(address->sock.in6.sin6_port));
        break;
    default:
        if (path_len > 0 && un->sun_path[0] == '\0')
            snprintf(text, TEXT_MAX, "unix:@%.*s", (int)path_len - 1, un->sun_path + 1);
        else
            snprintf(text, TEXT_MAX, "unix:%.*s", (int)path_len, un->sun_path);
    }
}

static void take_one(struct sd_listen *sd_listen, int fd)
{
    struct conf_address address = {.len = 0};
    const char *wrong = check(fd, &address);
    if (wrong == NULL && sd_listen->count == SD_LISTEN_MAX)
        wrong = "is one too many";
    if (wrong == NULL) {
        int r = prepare(fd, address.sock.any.sa_family);
        if (r < 0)
            wrong = strerror(-r);
    }
    if (wrong != NULL) {
        log_warning("passed descriptor %d (LISTEN_FDS) %s, it is not used", fd, wrong);
        return;
    }
    sd_listen->sockets[sd_listen->count].fd = fd;
    sd_listen->sockets[sd_listen->count++].address = address;
    char text[TEXT_MAX];
    describe(&address, text);
    log_debug("passed descriptor %d listens on %s", fd, text);
}

void sd_listen_take(struct sd_listen *sd_listen)
{
    *sd_listen = (struct sd_listen){0};
    sd_listen->passed = read_variables();
    for (size_t i = 0; i < ARRAY_LEN(variables); i++)
        unsetenv(variables[i]);
    for (int i = 0; i < sd_listen->passed; i++) {
        if (fcntl(FIRST_FD + i, F_SETFD, FD_CLOEXEC) < 0) {
            /* A descriptor that this process opens at that number later was not passed. */
            log_warning(
                "LISTEN_FDS is %d, but descriptor %d is not open", sd_listen->passed, FIRST_FD + i);
            sd_listen->passed = i;
        } else {
            take_one(sd_listen, FIRST_FD + i);
        }
    }
}

static bool same(const struct conf_address *a, const struct conf_address *b)
{
    if (a->sock.any.sa_family != b->sock.any.sa_family)
        return false;
    switch (a->sock.any.sa_family) {
    case AF_INET:
        return a->sock.in.sin_port == b->sock.in.sin_port &&
               a->sock.in.sin_addr.s_addr == b->sock.in.sin_addr.s_addr;
    case AF_INET6:
        return a->sock.in6.sin6_port == b->sock.in6.sin6_port &&
               a->sock.in6.sin6_scope_id == b->sock.in6.sin6_scope_id &&
               memcmp(&a->sock.in6.sin6_addr, &b->sock.in6.sin6_addr, sizeof(struct in6_addr)) == 0;
    default:
        /* Of abstract names, which no config has, this compares nothing with a path. */
        return strncmp(a->sock.un.sun_path, b->sock.un.sun_path, sizeof(a->sock.un.sun_path)) == 0;
    }
}

int sd_listen_dup(const struct sd_listen *sd_listen, const struct conf_address *address, size_t nth)
{
    for (size_t i = 0; i < sd_listen->count; i++) {
        if (!same(&sd_listen->sockets[i].address, address) || nth-- > 0)
            continue;
        int fd = fcntl(sd_listen->sockets[i].fd, F_DUPFD_CLOEXEC, 0);
        return fd < 0 ? -errno : fd;
    }
    return -ENOENT;
}

bool sd_listen_has(const struct sd_listen *sd_listen, int fd)
{
    struct stat ours, theirs;
    for (size_t i = 0; i < sd_listen->count; i++) {
        if (fstat(sd_listen->sockets[i].fd, &ours) == 0 && fstat(fd, &theirs) == 0 &&
            ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino)
            return true;
    }
    return false;
}

void sd_listen_warn_unused(const struct sd_listen *sd_listen, const struct conf *conf)
{
    for (size_t i = 0; i < sd_listen->count; i++) {
        bool used = false;
        for (uint32_t k = 0; k < conf->nlisteners && !used; k++) {
            const struct conf_listener *listener = &conf->listeners[k];
            used = same(&sd_listen->sockets[i].address, &listener->address);
            for (uint32_t n = 1; n < listener->naddresses && !used; n++)
                used = same(&sd_listen->sockets[i].address, &listener->addresses[n]);
        }
        for (uint32_t n = 0; n < conf->admin.naddresses && !used; n++)
            used = same(&sd_listen->sockets[i].address, &conf->admin.addresses[n]);
        char text[TEXT_MAX];
        describe(&sd_listen->sockets[i].address, text);
        if (!used)
            log_warning("%s was passed by the service manager, but no listener has this address: "
                        "who connects to it waits in vain",
                text);
    }
}

int sd_listen_expose(const struct sd_listen *sd_listen)
{
    char pid[24];
    char count[24];
    if (sd_listen->passed == 0)
        return 0;
    snprintf(pid, sizeof(pid), "%ld", (long)getpid());
    snprintf(count, sizeof(count), "%d", sd_listen->passed);
    if (setenv("LISTEN_PID", pid, 1) < 0 || setenv("LISTEN_FDS", count, 1) < 0) {
        sd_listen_hide(sd_listen);
        return -ENOMEM;
    }
    set_close_on_exec(sd_listen, false);
    return 0;
}

int sd_listen_end(const struct sd_listen *sd_listen)
{
    return FIRST_FD + sd_listen->passed;
}

void sd_listen_hide(const struct sd_listen *sd_listen)
{
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    set_close_on_exec(sd_listen, true);
}

void sd_listen_deinit(struct sd_listen *sd_listen)
{
    for (int i = 0; i < sd_listen->passed; i++)
        close(FIRST_FD + i);
    *sd_listen = (struct sd_listen){0};
}
