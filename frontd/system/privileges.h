#pragma once

/*
 * What a process may do. The supervisor keeps the few capabilities that it works with; shards and
 * the workers that frontd runs have none, can never get any, and keep their user for good.
 */

#include <sys/types.h>

#include "common/base.h"

/* The user that a process is to become. */
struct privileges_user {
    uid_t uid;
    gid_t gid;
    const gid_t *groups; /* ngroups of them, its own one among them */
    size_t ngroups;
};

/*
 * Looks a user up. Returns 0 with *ret_user, to be freed with privileges_forget(), or -ENOENT:
 * there is none of that name, or another -errno.
 */
int privileges_find(const char *name, struct privileges_user *ret_user);
void privileges_forget(struct privileges_user *user);

/*
 * Gives up everything, for good: no_new_privs; all sets of capabilities, the bounding set where the
 * process may change it; and its user and groups, where `user` is not NULL. It is checked that
 * nothing is left and that nothing comes back. A process that stays root has the files of root, but
 * none of its power over others'.
 *
 * executes: an execve() follows, by which a process that is not root loses what is not ambient.
 * That counts where a filter of the service manager refuses to change capabilities.
 *
 * Only async-signal-safe calls: may be called between fork() and execve().
 * Returns 0 or -errno; after a failure the process must end.
 */
int privileges_drop(const struct privileges_user *user, bool executes);

/*
 * No core dump, no ptrace() and no /proc/PID/mem by another process of the same user: what clients
 * have sent, and keys, stay here. execve() undoes it, so it is called by the program itself.
 * Returns 0 or -errno.
 */
int privileges_hide(void);

/*
 * The same for good, for a process that executes nothing: RLIMIT_CORE is 0, and a debugger that is
 * let in nevertheless leaves the memory out of a dump (coredump_filter). Before a filter of system
 * calls.
 */
int privileges_hide_for_good(void);

/*
 * For a child of the supervisor that is this program: all of the above, for good. name: of the user
 * that it becomes, where it is root; NULL: it stays what it is. Returns 0 or -errno; after a
 * failure the process must end.
 */
int privileges_lose(const char *name);

/*
 * For the supervisor: keeps what it needs (as root: see privileges.c; else to bind ports below
 * 1024, where it has that), and nothing more can come by an execve(). What the ambient set has of
 * it stays there, for the program that takes its place. Returns 0 or -errno; what could not be
 * given up is there still.
 */
int privileges_supervise(void);
