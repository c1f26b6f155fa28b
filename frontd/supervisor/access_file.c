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

int access_file_open(const char *conf_name, const struct conf *conf, char *error, size_t error_size)
{
    const struct conf_access_log *log = conf->access_log;
    char folder[4096];
    char why[400];
    if (log == NULL || log->path == NULL)
        return -ENOENT;
    const char *slash = strrchr(log->path, '/');
    int n = snprintf(folder, sizeof(folder), "%.*s", (int)(slash - log->path), log->path);
    int dir = n == 0 || n >= (int)sizeof(folder) ? -EINVAL
                                                 : folder_open(folder, false, why, sizeof(why));
    if (dir == -EINVAL && (n == 0 || n >= (int)sizeof(folder)))
        snprintf(why, sizeof(why), "%s: it is in a folder of its own", log->path);
    int r = dir < 0 ? dir : folder_open_log(dir, slash + 1);
    if (dir >= 0 && r < 0)
        snprintf(why, sizeof(why), "%s: %s", log->path, explain(r));
    if (dir >= 0)
        close(dir);
    if (r < 0)
        snprintf(error, error_size, "%s:%u: access_log.path: %s", conf_name, log->line, why);
    return r == -ENOENT ? -ENOTDIR : r;
}
