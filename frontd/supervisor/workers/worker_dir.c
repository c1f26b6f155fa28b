#include "frontd/supervisor/workers/worker_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/buf.h"
#include "common/log.h"
#include "common/unix_socket.h"
#include "frontd/system/folder.h"
#include "frontd/system/process.h"

enum {
    BACKLOG = 1024,    /* each shard has one place in it, and another one for each 5 s of waiting */
    SERIAL_TRIES = 64, /* more files than that are left of no frontd */
    PIDS_MAX = 1024 * 1024,
};

#define PIDS "pids"

/* The folder, if it is what worker_dir_make() has left; else -errno. */
static int open_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int r = fd < 0 ? -errno : folder_check(fd);
    if (r == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return r;
}

int worker_dir_make(const char *dir, const struct spawn_user *user)
{
    char error[512];
    struct stat st;
    int fd = folder_open(dir, true, error, sizeof(error));
    if (fd < 0)
        return fd;
    int r = fstat(fd, &st) < 0 ? -errno : 0;
    if (r == 0 && user->name[0] != '\0' && st.st_gid != user->gid &&
        fchown(fd, (uid_t)-1, user->gid) < 0)
        r = -errno;
    /* After fchown(), and whatever the umask is. */
    if (r == 0 && (st.st_mode & 07777) != 0750 && fchmod(fd, 0750) < 0)
        r = -errno;
    close(fd);
    return r;
}

static void write_path(
    const char *dir, const struct worker_name *name, const char *suffix, char path[WORKER_PATH_MAX])
{
    int n = snprintf(path, WORKER_PATH_MAX, "%s/%s.%" PRIu32 "-%" PRIu32 ".%s", dir, name->pool,
        name->slot, name->serial, suffix);
    CHECK(n > 0 && n < WORKER_PATH_MAX); /* the config's check has seen to it */
}

void worker_dir_path(const char *dir, const struct worker_name *name, char path[WORKER_PATH_MAX])
{
    write_path(dir, name, "sock", path);
}

bool worker_dir_parse(const char *file, struct worker_name *ret_name)
{
    struct worker_name name = {0};
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
static int bind_at(int dir, const char *path, const struct spawn_user *user)
{
    struct sockaddr_un address = address_of(path);
    const char *name = strrchr(path, '/') + 1;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    unlinkat(dir, name, 0); /* of one that was killed here */
    mode_t before = umask(0177);
    int r = bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
    umask(before);
    if (r == 0 && user->name[0] != '\0' &&
        fchownat(dir, name, user->uid, user->gid, AT_SYMLINK_NOFOLLOW) < 0)
        r = -errno;
    if (r == 0 && listen(fd, BACKLOG) < 0)
        r = -errno;
    if (r == 0)
        return fd;
    close(fd);
    unlinkat(dir, name, 0);
    return r;
}

int worker_dir_bind(const char *dir, struct worker_name *name, const struct spawn_user *user)
{
    char path[WORKER_PATH_MAX];
    char bound[WORKER_PATH_MAX];
    struct stat st;
    worker_dir_path(dir, name, path);
    for (int i = 0; lstat(path, &st) == 0; i++) {
        if (i == SERIAL_TRIES)
            return -EEXIST;
        name->serial++;
        worker_dir_path(dir, name, path);
    }
    write_path(dir, name, "new", bound);
    int folder = open_dir(dir);
    if (folder < 0)
        return folder;
    int fd = bind_at(folder, bound, user);
    close(folder);
    if (fd >= 0 && rename(bound, path) < 0) {
        int r = -errno;
        unlink(bound);
        close(fd);
        return r;
    }
    return fd;
}

/* Appends a line; boot: in which run of the system the process is. Returns 0 or -ENOMEM. */
static int add_line(struct buf *text, const struct worker_dir_process *process, const char *boot)
{
    char line[160];
    int n = snprintf(line, sizeof(line), "%ld %" PRIu64 " %s.%" PRIu32 "-%" PRIu32 ".sock %s\n",
        (long)process->pid, process->birth, process->name.pool, process->name.slot,
        process->name.serial, boot);
    return buf_append(text, line, (size_t)n);
}

int worker_dir_write(const char *dir, const struct worker_dir_process *processes, size_t n)
{
    struct buf text = {0};
    int folder = open_dir(dir);
    if (folder < 0) /* without a folder there are no workers */
        return n == 0 && folder == -ENOENT ? 0 : folder;
    char boot[PROCESS_BOOT_SIZE];
    int r = 0;
    process_boot(boot);
    for (size_t i = 0; r == 0 && i < n; i++)
        r = add_line(&text, &processes[i], boot);
    if (r == 0 && n > 0)
        r = folder_write(folder, PIDS, buf_data(&text), buf_len(&text));
    else if (r == 0 && unlinkat(folder, PIDS, 0) < 0 && errno != ENOENT)
        r = -errno;
    buf_deinit(&text);
    close(folder);
    return r;
}

/*
 * Reads a line, which ends with a NUL; false where it is none of ours, or of another run of the
 * system. boot: of this one.
 */
static bool read_line(const char *line, const char *boot, struct worker_dir_process *ret_process)
{
    struct worker_dir_process process = {0};
    long pid;
    char name[96];
    char in[PROCESS_BOOT_SIZE] = "";
    if (sscanf(line, "%ld %" SCNu64 " %95s %36s", &pid, &process.birth, name, in) < 3 || pid <= 1 ||
        pid > INT32_MAX || !worker_dir_parse(name, &process.name))
        return false;
    process.same_boot = in[0] != '\0' && strcmp(in, boot) == 0;
    if (in[0] != '\0' && boot[0] != '\0' && !process.same_boot)
        return false;
    process.pid = (pid_t)pid;
    *ret_process = process;
    return true;
}

ssize_t worker_dir_read(const char *dir, struct worker_dir_process *ret_processes, size_t max)
{
    char *text;
    size_t size;
    size_t n = 0;
    char boot[PROCESS_BOOT_SIZE];
    int folder = open_dir(dir);
    if (folder < 0)
        return folder == -ENOENT ? 0 : folder;
    int r = folder_read(folder, PIDS, PIDS_MAX, &text, &size);
    close(folder);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    process_boot(boot);
    char *rest = text;
    for (char *line; n < max && (line = strsep(&rest, "\n")) != NULL;)
        n += read_line(line, boot, &ret_processes[n]);
    mem_free(text);
    return (ssize_t)n;
}

void worker_dir_sweep(const char *dir)
{
    DIR *found = opendir(dir);
    if (found == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(found)) != NULL;) {
        char path[WORKER_PATH_MAX];
        struct worker_name name;
        struct stat st;
        int n = snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
        if ((size_t)n >= sizeof(path) || !worker_dir_parse(entry->d_name, &name))
            continue;
        struct sockaddr_un address = address_of(path);
        int r = unix_socket_look(AT_FDCWD, path, &address, &st);
        if (r == UNIX_SOCKET_STALE || r == UNIX_SOCKET_FOREIGN) /* of a worker's user */
            unlink(path);
    }
    closedir(found);
}
