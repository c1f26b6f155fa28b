#include "frontd/supervisor/sockets/endpoints.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/log.h"
#include "frontd/supervisor/sockets/endpoint.h"

enum {
    BACKLOG = 4096, /* the kernel cuts it to net.core.somaxconn */
    AWAIT_TRIES = 100,
    AWAIT_PAUSE_MS = 10,
};

/* What the config has addresses for: a listener, or `admin`, which comes after the last of them. */
struct place {
    const char *kind; /* with the name behind it: "listener web", "admin" */
    const char *name;
    const char *text; /* the address as written */
    const struct conf_address *addresses;
    uint32_t naddresses;
    uint32_t sockets; /* of each TCP address: one for each process that accepts */
};

/* The place with that number, counted from 0; false: there are no more. conf: NULL has none. */
static bool place_at(const struct conf *conf, uint32_t index, struct place *ret_place)
{
    if (conf == NULL || index > conf->nlisteners ||
        (index == conf->nlisteners && conf->admin.text == NULL))
        return false;
    if (index == conf->nlisteners) {
        *ret_place = (struct place){.kind = "admin",
            .name = "",
            .text = conf->admin.text,
            .addresses = conf->admin.addresses,
            .naddresses = conf->admin.naddresses,
            .sockets = 1};
        return true;
    }
    const struct conf_listener *listener = &conf->listeners[index];
    *ret_place = (struct place){.kind = "listener ",
        .name = listener->name,
        .text = listener->text,
        .addresses = listener->addresses,
        .naddresses = listener->naddresses,
        .sockets = conf->shards};
    return true;
}

bool endpoint_is(const struct endpoint *endpoint, const struct conf_address *address)
{
    return endpoint->address.len == address->len &&
           memcmp(&endpoint->address.sock, &address->sock, address->len) == 0;
}

struct endpoint *endpoints_find(struct endpoints *endpoints, const struct conf_address *address)
{
    for (size_t i = 0; i < endpoints->count; i++) {
        if (endpoint_is(&endpoints->all[i], address))
            return &endpoints->all[i];
    }
    return NULL;
}

static int append(struct endpoint *endpoint, int fd)
{
    int *fds = mem_zalloc((endpoint->count + 1) * sizeof(*fds));
    if (fds == NULL) {
        close(fd);
        return -ENOMEM;
    }
    if (endpoint->count > 0)
        memcpy(fds, endpoint->fds, endpoint->count * sizeof(*fds));
    mem_free(endpoint->fds);
    endpoint->fds = fds;
    endpoint->fds[endpoint->count++] = fd;
    return 0;
}

/* Whether a socket has no SO_REUSEPORT: then there can be no other of its address. */
static bool is_alone(int fd)
{
    int reuse_port = 0;
    socklen_t len = sizeof(reuse_port);
    return getsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &reuse_port, &len) == 0 && reuse_port == 0;
}

int endpoints_add(struct endpoints *endpoints, const struct conf_address *address, int fd)
{
    struct endpoint *endpoint = endpoints_find(endpoints, address);
    struct stat st;
    if (endpoint == NULL) {
        if (endpoints->count == ARRAY_LEN(endpoints->all)) {
            close(fd);
            return -ENOSPC;
        }
        endpoint = &endpoints->all[endpoints->count++];
        *endpoint = (struct endpoint){.address = *address};
        bool passed = sd_listen_has(endpoints->sd_listen, fd);
        bool local = address->sock.any.sa_family == AF_UNIX;
        endpoint->shared = local || passed || is_alone(fd);
        if (local && !passed && lstat(address->sock.un.sun_path, &st) == 0) {
            endpoint->dev = st.st_dev;
            endpoint->ino = st.st_ino;
        }
    }
    return append(endpoint, fd);
}

static int add_bound(struct endpoints *endpoints, const struct conf_address *address, int fd)
{
    return fd < 0 ? fd : endpoints_add(endpoints, address, fd);
}

/* Adds the sockets of that address that were passed, if any. */
static int add_passed(struct endpoints *endpoints, const struct conf_address *address)
{
    for (size_t n = 0;; n++) {
        int fd = sd_listen_dup(endpoints->sd_listen, address, n);
        if (fd == -ENOENT)
            return 0;
        int r = fd < 0 ? fd : endpoints_add(endpoints, address, fd);
        if (r < 0)
            return r;
    }
}

static bool is_any(const struct conf_address *address)
{
    if (address->sock.any.sa_family == AF_INET)
        return address->sock.in.sin_addr.s_addr == htonl(INADDR_ANY);
    return memcmp(&address->sock.in6.sin6_addr, &in6addr_any, sizeof(in6addr_any)) == 0;
}

static in_port_t port_of(const struct conf_address *address)
{
    return address->sock.any.sa_family == AF_INET ? address->sock.in.sin_port
                                                  : address->sock.in6.sin6_port;
}

/*
 * Whether we listen on an address that takes in this one, or is taken in by it: 127.0.0.1:80 and
 * 0.0.0.0:80. Then a bind without SO_REUSEPORT fails because of ourselves, and says nothing.
 */
static bool is_beside_ours(const struct endpoints *endpoints, const struct conf_address *address)
{
    for (size_t i = 0; i < endpoints->count; i++) {
        const struct conf_address *ours = &endpoints->all[i].address;
        if (ours->sock.any.sa_family == address->sock.any.sa_family &&
            port_of(ours) == port_of(address) && (is_any(ours) || is_any(address)))
            return true;
    }
    return false;
}

static int bind_listener(
    struct endpoints *endpoints, const struct conf_address *address, uint32_t shards)
{
    struct endpoint *endpoint = endpoints_find(endpoints, address);
    if (endpoint == NULL) {
        int passed = add_passed(endpoints, address);
        if (passed < 0)
            return passed;
        endpoint = endpoints_find(endpoints, address);
    }
    if (address->sock.any.sa_family == AF_UNIX)
        return endpoint != NULL ? 0 : add_bound(endpoints, address, endpoint_bind_unix(address));
    if (endpoint != NULL && endpoint->shared)
        return 0;
    bool probe = endpoint == NULL && !is_beside_ours(endpoints, address);
    int r = probe ? endpoint_try_tcp(address) : 0;
    for (uint32_t i = endpoint == NULL ? 0 : endpoint->count; r == 0 && i < shards; i++)
        r = add_bound(endpoints, address, endpoint_bind_tcp(address, true));
    return r;
}

static void close_endpoint(struct endpoint *endpoint)
{
    for (uint32_t i = 0; i < endpoint->count; i++)
        close(endpoint->fds[i]);
    endpoint_unlink(&endpoint->address, endpoint->dev, endpoint->ino);
    mem_free(endpoint->fds);
}

void endpoints_roll_back(struct endpoints *endpoints, const struct endpoints *before)
{
    while (endpoints->count > before->count)
        close_endpoint(&endpoints->all[--endpoints->count]);
    for (size_t i = 0; i < endpoints->count; i++) {
        struct endpoint *endpoint = &endpoints->all[i];
        while (endpoint->count > before->all[i].count)
            close(endpoint->fds[--endpoint->count]);
        if (endpoint->ino != before->all[i].ino || endpoint->dev != before->all[i].dev)
            endpoint_unlink(
                &endpoint->address, endpoint->dev, endpoint->ino); /* it was bound anew */
        endpoint->dev = before->all[i].dev;
        endpoint->ino = before->all[i].ino;
    }
}

/* Makes another socket at the path, which is that of all shards from now on. 0 or -errno. */
static int renew(struct endpoint *endpoint)
{
    struct stat st;
    int fd = endpoint_bind_unix(&endpoint->address);
    if (fd < 0)
        return fd;
    bool made = lstat(endpoint->address.sock.un.sun_path, &st) == 0;
    endpoint->dev = made ? st.st_dev : 0;
    endpoint->ino = made ? st.st_ino : 0;
    return append(endpoint, fd);
}

int endpoints_renew(
    struct endpoints *endpoints, const struct conf *conf, char *error, size_t error_size)
{
    struct place place;
    for (uint32_t i = 0; place_at(conf, i, &place); i++) {
        struct endpoint *endpoint = place.naddresses == 0
                                        ? NULL
                                        : endpoints_find(endpoints, &place.addresses[0]);
        struct stat st;
        if (endpoint == NULL || endpoint->address.sock.any.sa_family != AF_UNIX)
            continue;
        const char *path = endpoint->address.sock.un.sun_path;
        bool there = lstat(path, &st) == 0;
        bool passed = sd_listen_has(endpoints->sd_listen, endpoint->fds[0]);
        if (passed && !there)
            log_warning("%s%s: %s is gone, and it is the service manager's to make it: restart its "
                        "socket unit",
                place.kind, place.name, path);
        if (passed || (there && st.st_dev == endpoint->dev && st.st_ino == endpoint->ino))
            continue;
        int r = renew(endpoint);
        if (r < 0) {
            snprintf(error, error_size, "%s%s: %s was %s, and cannot be bound again: %s",
                place.kind, place.name, path, there ? "replaced" : "removed", endpoint_explain(r));
            return r;
        }
        log_warning("%s%s: %s was %s, it is bound again", place.kind, place.name, path,
            there ? "replaced" : "removed");
    }
    return 0;
}

/* Whether the service manager has passed a socket of that address. */
static bool is_passed(const struct endpoints *endpoints, const struct conf_address *address)
{
    int fd = sd_listen_dup(endpoints->sd_listen, address, 0);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* Binds the addresses of one place. Returns 0, where there is one at least, or -errno. */
static int bind_addresses(struct endpoints *endpoints, const struct place *place)
{
    bool passed = false;
    bool bound = place->naddresses == 0; /* its addresses are not known; they may be there */
    int missing = 0;
    for (uint32_t i = 0; i < place->naddresses; i++)
        passed |= is_passed(endpoints, &place->addresses[i]);
    for (uint32_t i = 0; i < place->naddresses; i++) {
        const struct conf_address *address = &place->addresses[i];
        if (passed && place->naddresses > 1 && !is_passed(endpoints, address))
            continue; /* what it is to listen on is the service manager's business */
        int r = bind_listener(endpoints, address, place->sockets);
        if (endpoint_is_foreign(r))
            missing = r;
        else if (r < 0)
            return r;
        bound |= r == 0;
    }
    if (bound && missing < 0)
        log_info("%s%s: not on all addresses of %s: %s", place->kind, place->name, place->text,
            strerror(-missing));
    return bound ? 0 : missing;
}

int endpoints_bind(
    struct endpoints *endpoints, const struct conf *conf, char *error, size_t error_size)
{
    const struct endpoints before = *endpoints;
    struct place place;
    for (uint32_t i = 0; place_at(conf, i, &place); i++) {
        int r = bind_addresses(endpoints, &place);
        if (r < 0) {
            snprintf(error, error_size, "%s%s: cannot listen on %s: %s", place.kind, place.name,
                place.text, endpoint_explain(r));
            endpoints_roll_back(endpoints, &before);
            return r;
        }
    }
    return 0;
}

void endpoints_await(const struct endpoints *endpoints, const struct conf_admin *admin)
{
    static const struct timespec pause = {.tv_nsec = AWAIT_PAUSE_MS * 1000 * 1000};
    int tries = AWAIT_TRIES;
    for (uint32_t i = 0; admin->text != NULL && i < admin->naddresses; i++) {
        if (is_passed(endpoints, &admin->addresses[i]))
            continue;
        while (tries-- > 0 && endpoint_probe(&admin->addresses[i]) == -EADDRINUSE)
            nanosleep(&pause, NULL);
    }
}

int endpoints_listen(const struct endpoints *endpoints)
{
    int r = 0;
    for (size_t i = 0; i < endpoints->count; i++) {
        const struct endpoint *endpoint = &endpoints->all[i];
        for (uint32_t k = 0; k < endpoint->count; k++) {
            /* Those that were passed listen already, with the backlog that their unit gives. */
            if (!sd_listen_has(endpoints->sd_listen, endpoint->fds[k]) &&
                listen(endpoint->fds[k], BACKLOG) < 0)
                r = -errno;
        }
    }
    return r;
}

static bool wanted(const struct endpoint *endpoint, const struct conf *conf)
{
    struct place place;
    for (uint32_t i = 0; place_at(conf, i, &place); i++) {
        for (uint32_t k = 0; k < place.naddresses; k++) {
            if (endpoint_is(endpoint, &place.addresses[k]))
                return true;
        }
    }
    return false;
}

/*
 * Sockets that are at their path no more, where another one is: no client can dial them, and the
 * shards that serve have them with what is in their queues.
 */
static void drop_old(const struct endpoints *endpoints, struct endpoint *endpoint)
{
    if (endpoint->address.sock.any.sa_family != AF_UNIX || endpoint->count < 2 ||
        sd_listen_has(endpoints->sd_listen, endpoint->fds[0]))
        return;
    for (uint32_t i = 0; i + 1 < endpoint->count; i++)
        close(endpoint->fds[i]);
    endpoint->fds[0] = endpoint->fds[endpoint->count - 1];
    endpoint->count = 1;
}

void endpoints_prune(struct endpoints *endpoints, const struct conf *conf)
{
    size_t kept = 0;
    for (size_t i = 0; i < endpoints->count; i++) {
        if (wanted(&endpoints->all[i], conf)) {
            drop_old(endpoints, &endpoints->all[i]);
            endpoints->all[kept++] = endpoints->all[i];
        } else {
            close_endpoint(&endpoints->all[i]);
        }
    }
    endpoints->count = kept;
}
