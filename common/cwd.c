#include "common/cwd.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Whether a path has a component that is "." or "..". */
static bool has_dots(const char *path)
{
    for (const char *part = path; *part != '\0';) {
        size_t n = strcspn(part, "/");
        if ((n == 1 && part[0] == '.') || (n == 2 && part[0] == '.' && part[1] == '.'))
            return true;
        part += n + (part[n] == '/');
    }
    return false;
}

int cwd_name(char *ret_name, size_t size)
{
    struct stat named;
    struct stat here;
    const char *pwd = getenv("PWD");
    if (pwd != NULL && pwd[0] == '/' && !has_dots(pwd) && strlen(pwd) < size &&
        stat(pwd, &named) == 0 && stat(".", &here) == 0 && named.st_dev == here.st_dev &&
        named.st_ino == here.st_ino) {
        memcpy(ret_name, pwd, strlen(pwd) + 1);
        return 0;
    }
    if (getcwd(ret_name, size) == NULL)
        return errno == ERANGE ? -ENAMETOOLONG : -errno;
    return 0;
}

int cwd_join(const char *dir, const char *path, char *ret_path, size_t size)
{
    char joined[PATH_MAX];
    const char *slash = path[0] == '/' || strcmp(dir, "/") == 0 ? "" : "/";
    while (path[0] == '.' &&
           path[1] == '/') { /* "/folder/program" reads better than "/folder/./program" */
        path += 2;
        path += strspn(path, "/");
    }
    int n = snprintf(joined, sizeof(joined), "%s%s%s", path[0] == '/' ? "" : dir, slash, path);
    if (n < 0 || (size_t)n >= MIN(sizeof(joined), size))
        return -ENAMETOOLONG;
    memcpy(ret_path, joined, (size_t)n + 1);
    return 0;
}
