#pragma once

/*
 * Folders and files that no other user than that of this process can have made, changed or
 * replaced. What is found is looked at through the descriptor that is used afterwards, never by its
 * path twice.
 */

#include <sys/types.h>

#include "common/base.h"

/*
 * Opens a folder; `make`: makes it with mode 0750 where it is not there. It has to be ours, and
 * not writable by others; it may not be a symbolic link. Every folder above it has to be root's or
 * ours, and not writable by others unless it is sticky (as /tmp), links on the way root's or ours.
 * Returns the descriptor (close-on-exec, the caller's), or -errno with what is wrong, and what to
 * do about it, in `error`.
 */
int folder_open(const char *path, bool make, char *error, size_t error_size);

/* Whether that is a folder of ours that no other user can write to: 0, or -errno. */
int folder_check(int dir);

/*
 * Opens a file in it. flags: of open(); a new one has this mode. It has to be a regular file of
 * ours that has no other name, and that no other user can write to.
 * Returns the descriptor (close-on-exec, the caller's), or -errno: -EPERM where it is not so, and
 * -ELOOP where it is a symbolic link.
 */
int folder_open_file(int dir, const char *name, int flags, mode_t mode);

/*
 * Opens a file in it to append lines to: a regular file as above, which is made with mode 0640
 * where `make` says so, or a FIFO of ours that no other user can write to, whether something reads
 * it or not. Without waiting: O_NONBLOCK is set. Returns the descriptor (close-on-exec, the
 * caller's) or -errno, as folder_open_file().
 */
int folder_open_log(int dir, const char *name, bool make);

/*
 * Reads such a file as a whole: the caller's (mem_free()), with a NUL behind its *ret_n bytes.
 * Returns 0, -EFBIG where there are more than `max`, or another -errno.
 */
int folder_read(int dir, const char *name, size_t max, char **ret_text, size_t *ret_n);

/*
 * Puts a file there in one step, mode 0600, in the place of whatever has the name.
 * Returns 0 or -errno; then what was there still is.
 */
int folder_write(int dir, const char *name, const char *text, size_t n);

/* Unlinks a name if what it means is the file that was looked at. Returns 0 or -errno. */
int folder_unlink(int dir, const char *name, dev_t dev, ino_t ino);

/* The path of a name in it, for what takes no descriptor: bind(), connect(). */
void folder_path(int dir, const char *name, char *ret_path, size_t size);
