#include "frontd/supervisor/access_file.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "frontd/system/folder.h"

static const char *explain(int r)
{
    switch (r) {
    case -EPERM:
        return "it is no regular file or FIFO of the user who runs frontd, or others can write to "
               "it";
    case -ELOOP: return "a symbolic link is not followed";
    default: return strerror(-r);
    }
}

/* As access_file_open(). make: the file is made where there is none; else *ret_fd is -1 then. */
static int open_file(const char *conf_name, const struct conf_access_log *log, bool make,
    char *error, size_t error_size, int *ret_fd)
{
    char folder[4096];
    char why[400];
    const char *slash = strrchr(log->path, '/');
    int n = snprintf(folder, sizeof(folder), "%.*s", (int)(slash - log->path), log->path);
    bool fits = n > 0 && (size_t)n < sizeof(folder);
    int dir = fits ? folder_open(folder, false, why, sizeof(why)) : -EINVAL;
    if (!fits)
        snprintf(why, sizeof(why), "%s: it is in a folder of its own", log->path);
    int r = dir < 0 ? dir : folder_open_log(dir, slash + 1, make);
    bool missing = dir >= 0 && r == -ENOENT && !make;
    if (dir >= 0 && r < 0)
        snprintf(why, sizeof(why), "%s: %s", log->path, explain(r));
    if (dir >= 0)
        close(dir);
    if (r < 0 && !missing) {
        snprintf(error, error_size, "%s:%u: access_log.path: %s", conf_name, log->line, why);
        return r == -ENOENT ? -ENOTDIR : r;
    }
    *ret_fd = MAX(r, -1);
    return 0;
}

int access_file_open(const char *conf_name, const struct conf *conf, char *error, size_t error_size)
{
    int fd;
    if (conf->access_log == NULL || conf->access_log->path == NULL)
        return -ENOENT;
    int r = open_file(conf_name, conf->access_log, true, error, error_size, &fd);
    return r < 0 ? r : fd;
}

int access_file_try(const char *conf_name, const struct conf *conf, char *error, size_t error_size)
{
    int fd;
    if (conf->access_log == NULL || conf->access_log->path == NULL)
        return 0;
    int r = open_file(conf_name, conf->access_log, false, error, error_size, &fd);
    if (r == 0 && fd >= 0)
        close(fd);
    return r;
}
