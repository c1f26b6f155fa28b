#pragma once

/*
 * Starts a process: a program, or a function of this one. It has the descriptors that are meant for
 * it and no others, no signal that is blocked or has a handler, and an environment without what is
 * meant for its parent alone. Its working directory is that of its parent.
 */

#include <sys/types.h>

#include "common/base.h"

enum {
    SPAWN_FDS_MAX = 4,
    SPAWN_GROUPS_MAX = 64,
    SPAWN_FAILED = 127, /* the exit status of a process that did not come to its program */
};

/* The user that a process runs as. */
struct spawn_user {
    char name[64]; /* empty: that of its parent */
    char home[200];
    uid_t uid;
    gid_t gid;
    gid_t groups[SPAWN_GROUPS_MAX];
    int ngroups;
};

enum spawn_privileges {
    SPAWN_INHERITS,   /* its parent's, but for ambient capabilities, which its program would get */
    SPAWN_GAINS_NONE, /* the same, and what it executes can never get more (no_new_privs) */
    SPAWN_UNPRIVILEGED, /* it is `user`, has no capability and can get none: privileges_drop() */
};

/* What is not set is NULL, 0 or false. */
struct spawn {
    const char *path;   /* of the program; NULL: run() is called */
    char *const *words; /* for it, n of them, its name first */
    size_t n;
    void (*run)(void);      /* the process ends when it returns */
    int fds[SPAWN_FDS_MAX]; /* nfds of them become 0, 1, ...; borrowed; -1: the parent's one */
    size_t nfds;
    const char *const *without; /* names of variables that it does not get; ends with NULL */
    char *const *with;          /* variables that it gets besides the others: nwith of them */
    size_t nwith;
    char *pid_text; /* in one of `with`, 16 bytes: where it writes its process id, and a NUL */
    const struct spawn_user *user;
    enum spawn_privileges privileges;
    bool leads;     /* it begins a session and a process group, without a terminal */
    bool unignores; /* signals that its parent ignores have their default, too */
    /* The program's name in what the child writes to descriptor 2 where something fails; NULL: it
     * writes nothing. */
    const char *told;
};

/*
 * name: NULL, or of a user; without effect unless we are root. Returns 0, -ENOENT, or another
 * -errno.
 */
int spawn_user_find(const char *name, struct spawn_user *ret_user);

/*
 * Finds a program: a name without a slash is looked for in PATH.
 * Returns 0, -ENOENT, -EACCES (not a regular file that can be executed), or -ENAMETOOLONG.
 */
int spawn_find(const char *program, char *ret_path, size_t size);

/*
 * Starts the process. What fails in it before the program runs is its end, with SPAWN_FAILED.
 * Returns 0 with *ret_pid, a child of the caller, or -errno.
 */
int spawn_start(const struct spawn *spawn, pid_t *ret_pid);
