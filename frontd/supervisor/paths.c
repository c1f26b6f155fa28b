#include "frontd/supervisor/paths.h"

#include <errno.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cwd.h"
#include "frontd/system/spawn.h"
#include "proto/json_read.h"

/*
 * As cwd_join(), also in place; where the working directory has no name, or the whole is too long,
 * as given.
 */
static void absolute(const struct paths *paths, const char *path, char ret_path[PATH_MAX])
{
    if ((paths->cwd[0] == '\0' || cwd_join(paths->cwd, path, ret_path, PATH_MAX) < 0) &&
        path != ret_path)
        snprintf(ret_path, PATH_MAX, "%s", path);
}

static bool is_running(const char *path)
{
    struct stat there;
    struct stat self;
    return stat(path, &there) == 0 && stat(PATHS_SELF, &self) == 0 && there.st_dev == self.st_dev &&
           there.st_ino == self.st_ino;
}

/* The path that the kernel was asked to execute; false: it will not do later. */
static bool find_executed(const struct paths *paths, char ret_path[PATH_MAX])
{
    const char *path = (const char *)(uintptr_t)getauxval(AT_EXECFN);
    if (path == NULL || strncmp(path, "/proc/", 6) == 0 || strncmp(path, "/dev/fd/", 8) == 0)
        return false; /* a descriptor's */
    absolute(paths, path, ret_path);
    return is_running(ret_path);
}

static void find_exe(struct paths *paths, const char *argv0)
{
    char given[PATH_MAX] = "";
    bool is_path = strchr(argv0, '/') != NULL;
    if (is_path || spawn_find(argv0, given, sizeof(given)) == 0)
        absolute(paths, is_path ? argv0 : given, given);
    bool will_do = is_path ? access(given, F_OK) == 0 : is_running(given);
    if (!will_do && !find_executed(paths, given)) {
        ssize_t n = readlink(PATHS_SELF, given, sizeof(given) - 1);
        given[MAX(n, (ssize_t)0)] = '\0';
    }
    memcpy(paths->exe, given, sizeof(paths->exe));
}

void paths_find(struct paths *paths, const char *argv0, const char *conf)
{
    if (cwd_name(paths->cwd, sizeof(paths->cwd)) < 0)
        paths->cwd[0] = '\0';
    absolute(paths, conf, paths->conf);
    find_exe(paths, argv0);
}

int paths_enter(const struct paths *paths)
{
    if (paths->cwd[0] == '\0')
        return -ENOENT;
    return chdir(paths->cwd) < 0 ? -errno : 0;
}

int paths_try_self(void)
{
    struct stat st;
    if (stat(PATHS_SELF, &st) < 0)
        return -errno;
    return S_ISREG(st.st_mode) ? 0 : -EACCES;
}

/* A path may have any bytes, a JSON text not. */
void paths_save(const struct paths *paths, struct json_writer *out)
{
    json_add_bytes(out, "exe", paths->exe, strlen(paths->exe));
    json_add_bytes(out, "cwd", paths->cwd, strlen(paths->cwd));
}

static void restore(struct span state, const char *name, char path[PATH_MAX])
{
    char bytes[PATH_MAX];
    size_t n = json_read_bytes(json_read_member(state, name), bytes, sizeof(bytes) - 1);
    if (n == 0 || bytes[0] != '/' || memchr(bytes, '\0', n) != NULL)
        return;
    memcpy(path, bytes, n);
    path[n] = '\0';
}

void paths_restore(struct paths *paths, struct span state)
{
    restore(state, "exe", paths->exe);
    restore(state, "cwd", paths->cwd);
}
