#pragma once

/* The listening socket. Reasons for a refusal go to the log, since a number does not say enough. */

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#include "common/base.h"

/* Zeroed with fd -1 is closed. */
struct socket {
    int fd;
    bool tcp;
    bool owns_path;
    dev_t dev; /* which file it is that we made */
    ino_t ino;
    char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
};

/* As workerd_listen(). The socket is non-blocking and close-on-exec. */
int socket_listen(struct socket *sock, const char *address);

/* As workerd_listen_fd(). fd: consumed, on failure too. */
int socket_take(struct socket *sock, int fd);

/* Closes it, and removes its file if that is still the one that we made. */
void socket_close(struct socket *sock);
