#include "frontd/supervisor/shards_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/log.h"
#include "frontd/ipc/control.h"
#include "frontd/system/folder.h"

enum { ASIDE_MAX = 100 };

#define ALIVE_NAME "alive.lock" /* of a program before: locked while a shard of it lives */

static bool is_another(const struct spawn_user *user)
{
    return user->name[0] != '\0' && user->uid != geteuid();
}

static int open_folder(int parent, const char *name)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* Only for the log: in a folder that is the shards' own this proves nothing. */
static bool seems_alive(int dir)
{
    struct stat st;
    char path[64];
    int found = openat(dir, ALIVE_NAME, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (found < 0)
        return false;
    folder_path(found, "", path, sizeof(path));
    path[strlen(path) - 1] = '\0'; /* the file itself */
    int fd = fstat(found, &st) == 0 && S_ISREG(st.st_mode) ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    bool locked = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
    if (fd >= 0)
        close(fd);
    close(found);
    return locked;
}

/* A program before has given the folder to the shards' user: anything may be in it. */
static int set_aside(int run_dir, int dir)
{
    char name[32];
    int r = -EEXIST;
    bool alive = seems_alive(dir);
    for (unsigned i = 0; r == -EEXIST && i < ASIDE_MAX; i++) {
        snprintf(name, sizeof(name), CTL_REPORT_DIR ".before-%u", i);
        r = renameat2(run_dir, CTL_REPORT_DIR, run_dir, name, RENAME_NOREPLACE) < 0 ? -errno : 0;
    }
    if (r < 0)
        return r;
    unlinkat(dir, ALIVE_NAME, 0);
    unlinkat(dir, CTL_REPORT_NAME, 0);
    bool gone = unlinkat(run_dir, name, AT_REMOVEDIR) == 0;
    log_info("the folder " CTL_REPORT_DIR " of a program before is %s%s", gone ? "removed" : "now ",
        gone ? "" : name);
    if (alive)
        log_warning("shards of a program before seem to be alive: they are not taken over, and end "
                    "by themselves within five minutes, or when they are killed");
    return 0;
}

static int make_folder(int run_dir)
{
    if (mkdirat(run_dir, CTL_REPORT_DIR, 0700) < 0)
        return -errno;
    return open_folder(run_dir, CTL_REPORT_DIR);
}

__attribute__((format(printf, 3, 4))) static void explain(
    char *error, size_t error_size, const char *format, ...)
{
    va_list args;
    int n = snprintf(error, error_size, CTL_REPORT_DIR " in it ");
    va_start(args, format);
    if (n > 0 && (size_t)n < error_size)
        vsnprintf(error + n, error_size - (size_t)n, format, args);
    va_end(args);
}

/* Returns 0; 1 where it is to be set aside; or -errno. */
static int judge(int dir, const struct spawn_user *user, char *error, size_t error_size)
{
    struct stat st;
    if (fstat(dir, &st) < 0)
        return -errno;
    if (st.st_uid != geteuid()) {
        if (is_another(user) && st.st_uid == user->uid && (st.st_mode & 07777) == 0700)
            return 1;
        explain(error, error_size,
            "belongs to user %u, and anything may be in it: see who made it, and remove it",
            (unsigned)st.st_uid);
        return -EPERM;
    }
    if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
        explain(error, error_size,
            "has mode %04o, and anything may be in it: see who has changed that, and remove it",
            (unsigned)st.st_mode & 07777);
        return -EPERM;
    }
    return 0;
}

static int set_mode(int dir, const struct spawn_user *user)
{
    bool another = is_another(user);
    if (another && fchown(dir, (uid_t)-1, user->gid) < 0)
        return -errno;
    return fchmod(dir, another ? 0750 : 0700) < 0 ? -errno : 0;
}

/* Lets the shards' user through run_dir. */
static int let_through(int run_dir, const struct spawn_user *user)
{
    struct stat st;
    if (!is_another(user))
        return 0;
    if (fstat(run_dir, &st) < 0)
        return -errno;
    bool enters = (st.st_mode & S_IXOTH) != 0 ||
                  (st.st_gid == user->gid && (st.st_mode & S_IXGRP) != 0);
    return enters || fchown(run_dir, (uid_t)-1, user->gid) == 0 ? 0 : -errno;
}

int shards_dir_open(int run_dir, const struct spawn_user *user, char *error, size_t error_size)
{
    error[0] = '\0';
    int dir = open_folder(run_dir, CTL_REPORT_DIR);
    int r = dir >= 0 ? judge(dir, user, error, error_size) : dir;
    if (r == 1) {
        r = set_aside(run_dir, dir);
        close(dir);
        dir = r == 0 ? -ENOENT : r;
    }
    if (dir == -ENOENT)
        r = dir = make_folder(run_dir);
    if (dir == -ELOOP || dir == -ENOTDIR)
        explain(error, error_size, "is not a folder: remove it");
    if (r >= 0)
        r = let_through(run_dir, user);
    if (r == 0)
        r = set_mode(dir, user);
    if (r == 0)
        return dir;
    if (error[0] == '\0')
        snprintf(error, error_size, "cannot make its folder " CTL_REPORT_DIR ": %s", strerror(-r));
    if (dir >= 0)
        close(dir);
    return r;
}

int shards_dir_listen(int shards_dir, const struct spawn_user *user, int backlog)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    bool another = is_another(user);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    unlinkat(shards_dir, CTL_REPORT_NAME, 0); /* of one that was killed here */
    folder_path(shards_dir, CTL_REPORT_NAME, address.sun_path, sizeof(address.sun_path));
    mode_t before = umask(another ? 0117 : 0177);
    int r = bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
    umask(before);
    if (r == 0 && another &&
        fchownat(shards_dir, CTL_REPORT_NAME, (uid_t)-1, user->gid, AT_SYMLINK_NOFOLLOW) < 0)
        r = -errno;
    if (r == 0 && listen(fd, backlog) < 0)
        r = -errno;
    if (r == 0)
        return fd;
    close(fd);
    return r;
}

void shards_dir_unlink(int shards_dir)
{
    unlinkat(shards_dir, CTL_REPORT_NAME, 0);
}
