#pragma once

/* What stands where a UNIX socket is to be bound: one rule for what may be replaced. */

#include <sys/stat.h>
#include <sys/un.h>

enum unix_socket {
    UNIX_SOCKET_ABSENT,  /* nothing has the name */
    UNIX_SOCKET_STALE,   /* a socket of this process's user on which no process listens any more */
    UNIX_SOCKET_FOREIGN, /* the same, but another user's */
    UNIX_SOCKET_LIVE,    /* a socket on which a process listens */
    UNIX_SOCKET_FILE,    /* another kind of file, a symbolic link too */
};

/*
 * Looks at a name, and connects to it where it is a socket; changes nothing. Only what is
 * UNIX_SOCKET_STALE may be replaced, unless all sockets in the folder are the program's own: then
 * what is UNIX_SOCKET_FOREIGN may be, too. Between this call and the next step another process may
 * do the same: *ret_st tells the caller which file it was.
 *
 * dir, name: as of fstatat(); address: a path of the same file. *ret_st: of the file, zeroed where
 * there is none. Returns an enum unix_socket, or -errno: of connect(), too, for other errors than
 * ECONNREFUSED (nothing listens) and those of a full backlog.
 */
int unix_socket_look(
    int dir, const char *name, const struct sockaddr_un *address, struct stat *ret_st);
