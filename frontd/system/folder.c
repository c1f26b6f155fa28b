#include "frontd/system/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/alloc.h"

enum { PATH_SIZE = 4096, LINKS_MAX = 40, WRITABLE = S_IWGRP | S_IWOTH };

/* A walk from the root of the file system, one name after the other. */
struct walk {
    int at;               /* where it is: an O_PATH descriptor */
    char rest[PATH_SIZE]; /* what is left of the path */
    unsigned links;       /* symbolic links so far */
    const char *path;     /* as it was asked for */
    char *error;
    size_t error_size;
};

__attribute__((format(printf, 3, 4))) static int refuse(
    const struct walk *walk, int r, const char *format, ...)
{
    va_list args;
    int n = snprintf(walk->error, walk->error_size, "%s: ", walk->path);
    va_start(args, format);
    if (n >= 0 && (size_t)n < walk->error_size)
        vsnprintf(walk->error + n, walk->error_size - (size_t)n, format, args);
    va_end(args);
    return r;
}

static bool is_trusted(uid_t uid)
{
    return uid == 0 || uid == geteuid();
}

static void step_to(struct walk *walk, int fd)
{
    close(walk->at);
    walk->at = fd;
}

/* Whether another user could put something else in the place of what is in that folder. */
static int check_above(const struct walk *walk, const struct stat *st, const char *name)
{
    if (!is_trusted(st->st_uid))
        return refuse(walk, -EPERM,
            "the folder '%s' on the way belongs to user %u, who could replace it: it has to be "
            "root's or that of the user who runs frontd",
            name, (unsigned)st->st_uid);
    if ((st->st_mode & WRITABLE) != 0 && (st->st_mode & S_ISVTX) == 0)
        return refuse(walk, -EPERM,
            "the folder '%s' on the way can be written to by others: take that away "
            "(chmod go-w), or choose another place",
            name);
    return 0;
}

static int check_last(const struct walk *walk, const struct stat *st)
{
    if (st->st_uid != geteuid())
        return refuse(walk, -EPERM,
            "it belongs to user %u: make it the folder of the user who runs frontd (%u), "
            "or remove it",
            (unsigned)st->st_uid, (unsigned)geteuid());
    if ((st->st_mode & WRITABLE) != 0)
        return refuse(walk, -EPERM, "others can write to it: take that away (chmod go-w)");
    return 0;
}

/* Cuts the next name off what is left. False where there is none. */
static bool next_name(struct walk *walk, char *name)
{
    const char *from = walk->rest + strspn(walk->rest, "/");
    size_t n = strcspn(from, "/");
    memcpy(name, from, n);
    name[n] = '\0';
    from += n;
    from += strspn(from, "/");
    memmove(walk->rest, from, strlen(from) + 1);
    return n > 0;
}

static int open_root(struct walk *walk)
{
    struct stat st;
    int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return refuse(walk, -errno, "cannot open /: %s", strerror(errno));
    step_to(walk, fd);
    return fstat(fd, &st) < 0 ? -errno : check_above(walk, &st, "/");
}

static int follow(struct walk *walk, const char *name, const struct stat *st)
{
    char target[PATH_SIZE];
    if (!is_trusted(st->st_uid) || ++walk->links > LINKS_MAX)
        return refuse(walk, -ELOOP, "the symbolic link '%s' on the way is not followed", name);
    ssize_t n = readlinkat(walk->at, name, target, sizeof(target));
    if (n < 0 || (size_t)n + strlen(walk->rest) + 2 > sizeof(walk->rest))
        return refuse(walk, -ENAMETOOLONG, "the symbolic link '%s' cannot be read", name);
    memmove(walk->rest + n + 1, walk->rest, strlen(walk->rest) + 1);
    memcpy(walk->rest, target, (size_t)n);
    walk->rest[n] = '/';
    return target[0] == '/' ? open_root(walk) : 0;
}

static int open_last(struct walk *walk, const char *name, bool make)
{
    struct stat st;
    bool made = make && mkdirat(walk->at, name, 0750) == 0;
    if (make && !made && errno != EEXIST)
        return refuse(walk, -errno, "cannot make it: %s", strerror(errno));
    int fd = openat(walk->at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && (errno == ELOOP || errno == ENOTDIR))
        return refuse(walk, -ENOTDIR, "it is not a folder (a symbolic link is not followed)");
    if (fd < 0)
        return refuse(walk, -errno, "cannot open it: %s", strerror(errno));
    int r = fstat(fd, &st) < 0 ? -errno : check_last(walk, &st);
    if (r == 0 && made && fchmod(fd, 0750) < 0) /* whatever the umask is */
        r = refuse(walk, -errno, "cannot set its mode: %s", strerror(errno));
    if (r == 0)
        return fd;
    close(fd);
    return r;
}

static int step(struct walk *walk, const char *name)
{
    struct stat st;
    if (fstatat(walk->at, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return refuse(walk, -errno, "'%s' on the way: %s", name, strerror(errno));
    if (S_ISLNK(st.st_mode))
        return follow(walk, name, &st);
    int fd = openat(walk->at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return refuse(walk, -errno, "'%s' on the way: %s", name, strerror(errno));
    step_to(walk, fd);
    if (fstat(fd, &st) < 0)
        return -errno;
    return check_above(walk, &st, name);
}

int folder_open(const char *path, bool make, char *error, size_t error_size)
{
    char name[PATH_SIZE];
    struct walk walk = {.at = -1, .path = path, .error = error, .error_size = error_size};
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    if (path[0] != '/' || n >= sizeof(walk.rest))
        return refuse(&walk, -EINVAL, "an absolute path is needed");
    memcpy(walk.rest, path, n);
    int r = open_root(&walk);
    while (r == 0 && next_name(&walk, name)) {
        if (walk.rest[0] == '\0') {
            r = open_last(&walk, name, make);
            break;
        }
        r = step(&walk, name);
    }
    if (r == 0) /* nothing opens the root of the file system, which is descriptor 0 at the least */
        r = refuse(&walk, -EINVAL, "not the root of the file system");
    if (walk.at >= 0)
        close(walk.at);
    return r;
}

int folder_check(int dir)
{
    struct stat st;
    if (fstat(dir, &st) < 0)
        return -errno;
    if (!S_ISDIR(st.st_mode))
        return -ENOTDIR;
    return st.st_uid == geteuid() && (st.st_mode & WRITABLE) == 0 ? 0 : -EPERM;
}

int folder_open_file(int dir, const char *name, int flags, mode_t mode)
{
    struct stat st;
    /* O_NONBLOCK: a FIFO of that name does not stop us before we have seen that it is one. */
    int fd = openat(dir, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, mode);
    if (fd < 0)
        return -errno;
    int r = fstat(fd, &st) < 0 ? -errno : 0;
    if (r == 0 && (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_nlink != 1 ||
                      (st.st_mode & WRITABLE) != 0))
        r = -EPERM;
    if (r == 0)
        return fd;
    close(fd);
    return r;
}

/* A FIFO without a reader can be opened by what reads it too, and then takes what there is room
 * for. */
static int open_fifo(int dir, const char *name)
{
    struct stat st;
    int fd = openat(dir, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    int r = fstat(fd, &st) < 0 ? -errno : 0;
    if (r == 0 && (!S_ISFIFO(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & WRITABLE) != 0))
        r = -EPERM;
    if (r == 0)
        return fd;
    close(fd);
    return r;
}

int folder_open_log(int dir, const char *name, bool make)
{
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISFIFO(st.st_mode))
        return open_fifo(dir, name);
    return folder_open_file(dir, name, O_WRONLY | O_APPEND | (make ? O_CREAT : 0), 0640);
}

int folder_read(int dir, const char *name, size_t max, char **ret_text, size_t *ret_n)
{
    struct stat st;
    int fd = folder_open_file(dir, name, O_RDONLY, 0);
    if (fd < 0)
        return fd;
    int r = fstat(fd, &st) < 0 ? -errno : st.st_size > (off_t)max ? -EFBIG : 0;
    size_t size = r == 0 ? (size_t)st.st_size : 0;
    char *text = r == 0 ? mem_zalloc(size + 1) : NULL;
    if (r == 0 && text == NULL)
        r = -ENOMEM;
    if (r == 0 && read(fd, text, size) != (ssize_t)size)
        r = -EIO;
    close(fd);
    if (r < 0) {
        mem_free(text);
        return r;
    }
    *ret_text = text;
    *ret_n = size;
    return 0;
}

static int write_all(int fd, const char *text, size_t n)
{
    while (n > 0) {
        ssize_t written = write(fd, text, n);
        if (written < 0 && errno != EINTR)
            return -errno;
        text += MAX(written, (ssize_t)0);
        n -= (size_t)MAX(written, (ssize_t)0);
    }
    return 0;
}

int folder_write(int dir, const char *name, const char *text, size_t n)
{
    char fresh[64];
    if ((size_t)snprintf(fresh, sizeof(fresh), "%s.new", name) >= sizeof(fresh))
        return -ENAMETOOLONG;
    unlinkat(dir, fresh, 0); /* of one that was killed here */
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(dir, fresh, flags, 0600);
    if (fd < 0)
        return -errno;
    int r = write_all(fd, text, n);
    if (close(fd) < 0 && r == 0)
        r = -errno;
    if (r == 0 && renameat(dir, fresh, dir, name) < 0)
        r = -errno;
    if (r < 0)
        unlinkat(dir, fresh, 0);
    return r;
}

int folder_unlink(int dir, const char *name, dev_t dev, ino_t ino)
{
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    if (st.st_dev != dev || st.st_ino != ino)
        return -EEXIST;
    return unlinkat(dir, name, 0) < 0 ? -errno : 0;
}

void folder_path(int dir, const char *name, char *ret_path, size_t size)
{
    int n = snprintf(ret_path, size, "/proc/self/fd/%d/%s", dir, name);
    CHECK(n > 0 && (size_t)n < size);
}
