#pragma once

/*
 * Relative paths as the user means them. In a folder that a symbolic link leads to, the shell
 * shows the link's name, but the kernel knows only the folder. When the link is switched to
 * another folder (a new release), "./program" is to mean the program that is there then.
 */

#include "common/base.h"

/*
 * The working directory's name: $PWD where that is a name of it as `pwd -L` accepts it (absolute,
 * without "." and "..", and the same folder as "."), else that of the kernel, without links.
 * Returns 0 or -errno: -ENOENT where it has been removed, -ENAMETOOLONG.
 */
int cwd_name(char *ret_name, size_t size);

/*
 * A path made absolute: as it is where it begins with '/', else below `dir` as cwd_name() gave it.
 * Returns 0, or -ENAMETOOLONG with *ret_path untouched. `path` may be *ret_path.
 */
int cwd_join(const char *dir, const char *path, char *ret_path, size_t size);
