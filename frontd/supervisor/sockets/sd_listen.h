#pragma once

/*
 * Socket activation: listening sockets that the service manager has bound and passed to this
 * process, as sd_listen_fds(3) describes: descriptors from 3 on, LISTEN_FDS of them, for the
 * process LISTEN_PID. A listener uses the one that has its address, instead of binding its own.
 *
 * They stay open, at their numbers, as long as the process lives: the manager has them bound
 * anyway, so a listener that is added by a later config could not bind that address itself. Users
 * get duplicates. A program that is executed in place takes them once more (sd_listen_expose()).
 */

#include "frontd/config/config.h"

enum { SD_LISTEN_MAX = CONF_LISTENERS_MAX }; /* more are not used */

struct sd_listen {
    struct {
        struct conf_address address;
        int fd;
    } sockets[SD_LISTEN_MAX];
    size_t count;
    int passed; /* descriptors, with those that are of no use */
};

/*
 * Takes what was passed to this process, and removes the variables from the environment. Each
 * socket becomes close-on-exec and non-blocking, TCP ones get TCP_NODELAY. One that is no listening
 * stream socket is logged and not used. Nothing may have been done to descriptors from 3 on before.
 */
void sd_listen_take(struct sd_listen *sd_listen);

/*
 * The nth passed socket (from 0) with exactly this address: there are several where the manager
 * binds with SO_REUSEPORT. Returns a duplicate, which is the caller's, -ENOENT when there are no
 * more, or another -errno.
 */
int sd_listen_dup(
    const struct sd_listen *sd_listen, const struct conf_address *address, size_t nth);

/* Whether this descriptor is one of them, or a duplicate. */
bool sd_listen_has(const struct sd_listen *sd_listen, int fd);

/* Logs each passed socket that no listener of this config has: its clients wait in vain. */
void sd_listen_warn_unused(const struct sd_listen *sd_listen, const struct conf *conf);

/*
 * Before this process executes another program in place: what it executes takes them in turn.
 * Returns 0 or -ENOMEM, when nothing has changed.
 */
int sd_listen_expose(const struct sd_listen *sd_listen);

/* Takes that back, after an execve() that failed. */
void sd_listen_hide(const struct sd_listen *sd_listen);

/* The first descriptor that was not passed, of those that a process is not started with. */
int sd_listen_end(const struct sd_listen *sd_listen);

/* Closes them. */
void sd_listen_deinit(struct sd_listen *sd_listen);
