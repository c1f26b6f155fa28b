#pragma once

/* Binds the listening sockets: one SO_REUSEPORT socket for each shard and TCP address, one shared
 * socket for each UNIX address. */

#include "frontd/conf.h"

struct super_socket {
    int fd;
    uint32_t listener; /* index into the config */
    uint32_t shard;    /* whose it is; UNIX sockets are everybody's */
    bool shared;
};

struct super_sockets {
    struct super_socket *sockets;
    size_t count;
    /* What bind() made of each listener's UNIX path, so that nobody else's is unlinked. */
    struct {
        uint64_t dev;
        uint64_t ino;
    } made[CONF_LISTENERS_MAX];
};

/*
 * Binds everything or nothing. Returns 0, or -errno with a message that names the listener in
 * `error`. Descriptors are close-on-exec and non-blocking.
 */
int super_listen(
    struct super_sockets *sockets, const struct conf *conf, char *error, size_t error_size);

/* Closes the sockets and unlinks the UNIX paths that are still ours. */
void super_unlisten(struct super_sockets *sockets, const struct conf *conf);
