#include "frontd/super/managed_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/log.h"

enum {
    BACKLOG = 1024,    /* each shard has one place in it, and another one for each 5 s of waiting */
    SERIAL_TRIES = 64, /* more files than that are left of no frontd */
};

int managed_dir_make(const char *dir, const struct launch_user *user)
{
    struct stat st;
    if (mkdir(dir, 0750) < 0 && errno != EEXIST)
        return -errno;
    if (lstat(dir, &st) < 0)
        return -errno;
    if (!S_ISDIR(st.st_mode))
        return -ENOTDIR;
    if (st.st_uid != geteuid())
        return -EPERM;
    if (user->name[0] != '\0' && st.st_gid != user->gid && chown(dir, (uid_t)-1, user->gid) < 0)
        return -errno;
    /* After chown(), and whatever the umask is. */
    return (st.st_mode & 07777) != 0750 && chmod(dir, 0750) < 0 ? -errno : 0;
}

static void write_path(const char *dir, const struct managed_name *name, const char *suffix,
    char path[MANAGED_PATH_MAX])
{
    int n = snprintf(path, MANAGED_PATH_MAX, "%s/%s.%" PRIu32 "-%" PRIu32 ".%s", dir, name->pool,
        name->slot, name->serial, suffix);
    CHECK(n > 0 && n < MANAGED_PATH_MAX); /* the config's check has seen to it */
}

void managed_dir_path(const char *dir, const struct managed_name *name, char path[MANAGED_PATH_MAX])
{
    write_path(dir, name, "sock", path);
}

bool managed_dir_parse(const char *file, struct managed_name *ret_name)
{
    struct managed_name name = {0};
    char again[96];
    size_t n = strcspn(file, ".");
    if (n == 0 || n >= sizeof(name.pool) ||
        sscanf(file + n, ".%" SCNu32 "-%" SCNu32, &name.slot, &name.serial) != 2)
        return false;
    memcpy(name.pool, file, n);
    snprintf(
        again, sizeof(again), "%s.%" PRIu32 "-%" PRIu32 ".sock", name.pool, name.slot, name.serial);
    if (strchr(name.pool, '/') != NULL || strcmp(file, again) != 0)
        return false;
    *ret_name = name;
    return true;
}

static struct sockaddr_un address_of(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    CHECK(strlen(path) < sizeof(address.sun_path));
    memcpy(address.sun_path, path, strlen(path));
    return address;
}

/* Binds under a name that no shard looks for, since a file is there before it can be dialled. */
static int bind_at(const char *path, const struct launch_user *user)
{
    struct sockaddr_un address = address_of(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    unlink(path); /* of one that was killed here */
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && chmod(path, 0600) == 0 &&
        (user->name[0] == '\0' || chown(path, user->uid, user->gid) == 0) &&
        listen(fd, BACKLOG) == 0)
        return fd;
    int r = -errno;
    close(fd);
    unlink(path);
    return r;
}

int managed_dir_bind(const char *dir, struct managed_name *name, const struct launch_user *user)
{
    char path[MANAGED_PATH_MAX];
    char bound[MANAGED_PATH_MAX];
    struct stat st;
    managed_dir_path(dir, name, path);
    for (int i = 0; lstat(path, &st) == 0; i++) {
        if (i == SERIAL_TRIES)
            return -EEXIST;
        name->serial++;
        managed_dir_path(dir, name, path);
    }
    write_path(dir, name, "new", bound);
    int fd = bind_at(bound, user);
    if (fd >= 0 && rename(bound, path) < 0) {
        int r = -errno;
        unlink(bound);
        close(fd);
        return r;
    }
    return fd;
}

uint64_t managed_process_birth(pid_t pid)
{
    char path[32];
    char text[1024];
    unsigned long long birth = 0;
    snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[MAX(n, 0)] = '\0';
    /* The second field is the program's name in brackets, with any bytes in it; birth is field 22.
     */
    const char *rest = strrchr(text, ')');
    if (rest == NULL || sscanf(rest + 1,
                            " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d "
                            "%*d %*d %llu",
                            &birth) != 1)
        return 0;
    return birth;
}

int managed_dir_write(const char *dir, const struct managed_process *processes, size_t n)
{
    char path[MANAGED_PATH_MAX + 8];
    char fresh[MANAGED_PATH_MAX + 8];
    snprintf(path, sizeof(path), "%s/pids", dir);
    snprintf(fresh, sizeof(fresh), "%s/pids.new", dir);
    if (n == 0)
        return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
    if (file == NULL) {
        int r = -errno;
        if (fd >= 0)
            close(fd);
        return r;
    }
    for (size_t i = 0; i < n; i++)
        fprintf(file, "%ld %" PRIu64 " %s.%" PRIu32 "-%" PRIu32 ".sock\n", (long)processes[i].pid,
            processes[i].birth, processes[i].name.pool, processes[i].name.slot,
            processes[i].name.serial);
    bool written = ferror(file) == 0;
    if (fclose(file) != 0 || !written)
        return -EIO;
    return rename(fresh, path) < 0 ? -errno : 0;
}

ssize_t managed_dir_read(const char *dir, struct managed_process *ret_processes, size_t max)
{
    char path[MANAGED_PATH_MAX + 8];
    char line[160];
    size_t n = 0;
    snprintf(path, sizeof(path), "%s/pids", dir);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return errno == ENOENT ? 0 : -errno;
    while (n < max && fgets(line, sizeof(line), file) != NULL) {
        struct managed_process process;
        long pid;
        char name[96];
        if (sscanf(line, "%ld %" SCNu64 " %95s", &pid, &process.birth, name) != 3 || pid <= 1 ||
            pid > INT32_MAX || !managed_dir_parse(name, &process.name))
            continue;
        process.pid = (pid_t)pid;
        ret_processes[n++] = process;
    }
    fclose(file);
    return (ssize_t)n;
}

static bool is_stale(const char *path)
{
    struct sockaddr_un address = address_of(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return false;
    bool refused = connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 &&
                   errno == ECONNREFUSED;
    close(fd);
    return refused;
}

void managed_dir_sweep(const char *dir)
{
    DIR *found = opendir(dir);
    if (found == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(found)) != NULL;) {
        char path[MANAGED_PATH_MAX];
        struct managed_name name;
        struct stat st;
        int n = snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
        if ((size_t)n >= sizeof(path) || !managed_dir_parse(entry->d_name, &name) ||
            lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode))
            continue;
        if (is_stale(path))
            unlink(path);
    }
    closedir(found);
}
