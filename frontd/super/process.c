#include "frontd/super/process.h"

#include <fcntl.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "frontd/super/managed_dir.h"

/* Before pidfs, all pidfds had one inode. */
static const long PIDFS = 0x50494446;

struct process_mark process_mark(pid_t pid, int pidfd)
{
    struct process_mark mark = {.birth = managed_process_birth(pid)};
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
