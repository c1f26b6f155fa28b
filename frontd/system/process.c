#include "frontd/system/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

/* Before pidfs, all pidfds had one inode. */
static const long PIDFS = 0x50494446;

bool process_stat(pid_t pid, struct process_stat *ret_stat)
{
    char path[32];
    char text[1024];
    struct process_stat stat = {0};
    char state;
    uint64_t user;
    uint64_t kernel;
    uint64_t pages;
    snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[MAX(n, 0)] = '\0';
    /*
     * The second field is the program's name in brackets, with any bytes in it; birth is field 22.
     */
    const char *name = strchr(text, '(');
    const char *rest = strrchr(text, ')');
    if (name == NULL || rest == NULL || rest < name ||
        sscanf(rest + 1,
            " %c %d %d %d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64
            " %*d %*d %*d %*d %*d %*d %" SCNu64 " %*u %" SCNu64,
            &state, &stat.parent, &stat.group, &stat.session, &user, &kernel, &stat.birth,
            &pages) != 8)
        return false;
    snprintf(stat.name, sizeof(stat.name), "%.*s", (int)(rest - name - 1), name + 1);
    stat.zombie = state == 'Z' || state == 'X';
    stat.stopped = state == 'T' || state == 't';
    stat.cpu_ms = (user + kernel) * 1000 / (uint64_t)sysconf(_SC_CLK_TCK);
    stat.memory = pages * (uint64_t)sysconf(_SC_PAGESIZE);
    *ret_stat = stat;
    return true;
}

bool process_group_lives(pid_t leader, uint64_t birth)
{
    bool lives = false;
    DIR *folder = opendir("/proc");
    const struct dirent *entry;
    while (folder != NULL && !lives && (entry = readdir(folder)) != NULL) {
        struct process_stat stat;
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        lives = pid > 0 && process_stat(pid, &stat) && !stat.zombie && stat.group == leader &&
                stat.session == leader && stat.birth >= birth;
    }
    if (folder != NULL)
        closedir(folder);
    return lives;
}

uint64_t process_birth(pid_t pid)
{
    struct process_stat stat;
    return process_stat(pid, &stat) ? stat.birth : 0;
}

bool process_is_child(pid_t pid)
{
    siginfo_t info;
    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

struct process_mark process_mark(pid_t pid, int pidfd)
{
    struct process_mark mark = {.birth = process_birth(pid)};
    struct statfs fs;
    struct stat st;
    int fd = pidfd >= 0 ? pidfd : pidfd_open(pid, 0);
    if (fd >= 0 && fstatfs(fd, &fs) == 0 && (long)fs.f_type == PIDFS && fstat(fd, &st) == 0)
        mark.ino = st.st_ino;
    if (fd >= 0 && pidfd < 0)
        close(fd);
    return mark;
}

bool process_is(const struct process_mark *mark, pid_t pid, int pidfd)
{
    struct process_mark now = process_mark(pid, pidfd);
    bool births = mark->birth != 0 && now.birth != 0;
    bool inos = mark->ino != 0 && now.ino != 0;
    return (births || inos) && (!births || mark->birth == now.birth) &&
           (!inos || mark->ino == now.ino);
}

void process_boot(char ret_boot[PROCESS_BOOT_SIZE])
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, ret_boot, PROCESS_BOOT_SIZE - 1);
    ret_boot[MAX(n, (ssize_t)0)] = '\0';
    if (fd >= 0)
        close(fd);
}
