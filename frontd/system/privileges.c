#include "frontd/system/privileges.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/alloc.h"

#define CAP_BIT(capability) ((uint64_t)1 << (capability))

/*
 * What a supervisor that was started as root works with:
 *   CHOWN, FOWNER           folders and sockets for shards and workers of another user
 *   DAC_OVERRIDE            the config, `run_dir` and UNIX listeners, wherever they are
 *   KILL                    shards and workers of another user
 *   SYS_RESOURCE            more descriptors on their way to shards than one process may have
 *   SETUID, SETGID, SETPCAP children become that user, and give up their bounding set
 *   NET_BIND_SERVICE        ports below 1024
 */
static const uint64_t supervisor_capabilities = CAP_BIT(CAP_CHOWN) | CAP_BIT(CAP_DAC_OVERRIDE) |
                                                CAP_BIT(CAP_FOWNER) | CAP_BIT(CAP_KILL) |
                                                CAP_BIT(CAP_SETGID) | CAP_BIT(CAP_SETUID) |
                                                CAP_BIT(CAP_SETPCAP) |
                                                CAP_BIT(CAP_NET_BIND_SERVICE) |
                                                CAP_BIT(CAP_SYS_RESOURCE);

struct capabilities {
    uint64_t effective;
    uint64_t permitted;
    uint64_t inheritable;
};

static int read_capabilities(struct capabilities *ret_capabilities)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {{0}};
    if (syscall(SYS_capget, &header, data) < 0)
        return -errno;
    *ret_capabilities = (struct capabilities){
        .effective = data[0].effective | (uint64_t)data[1].effective << 32,
        .permitted = data[0].permitted | (uint64_t)data[1].permitted << 32,
        .inheritable = data[0].inheritable | (uint64_t)data[1].inheritable << 32,
    };
    return 0;
}

static int write_capabilities(const struct capabilities *capabilities)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {{0}};
    for (unsigned i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
        data[i].effective = (uint32_t)(capabilities->effective >> 32 * i);
        data[i].permitted = (uint32_t)(capabilities->permitted >> 32 * i);
        data[i].inheritable = (uint32_t)(capabilities->inheritable >> 32 * i);
    }
    return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

/* Leaves of the bounding set what is in `keep`, where the process may change it at all. */
static int limit_bounding_set(const struct capabilities *now, uint64_t keep)
{
    if (!(now->effective & CAP_BIT(CAP_SETPCAP)))
        return 0;
    for (unsigned long i = 0; i < 64; i++) {
        int there = prctl(PR_CAPBSET_READ, i, 0, 0, 0);
        if (there < 0) /* the kernel knows of no more */
            return 0;
        if (there == 1 && !(keep >> i & 1) && prctl(PR_CAPBSET_DROP, i, 0, 0, 0) < 0)
            return -errno;
    }
    return 0;
}

static int become(const struct privileges_user *user)
{
    uid_t uids[3];
    gid_t gids[3];
    if (setgroups(user->ngroups, user->groups) < 0 || setgid(user->gid) < 0 ||
        setuid(user->uid) < 0)
        return -errno;
    if (getresuid(&uids[0], &uids[1], &uids[2]) < 0 || getresgid(&gids[0], &gids[1], &gids[2]) < 0)
        return -errno;
    for (int i = 0; i < 3; i++) {
        if (uids[i] != user->uid || gids[i] != user->gid)
            return -EPERM;
    }
    return 0;
}

int privileges_find(const char *name, struct privileges_user *ret_user)
{
    errno = 0;
    const struct passwd *entry = getpwnam(name);
    if (entry == NULL)
        return errno == 0 ? -ENOENT : -errno;
    struct privileges_user user = {.uid = entry->pw_uid, .gid = entry->pw_gid};
    int ngroups = 0;
    getgrouplist(name, user.gid, NULL, &ngroups); /* says how many there are */
    gid_t *groups = mem_zalloc(((size_t)MAX(ngroups, 1)) * sizeof(*groups));
    if (groups == NULL)
        return -ENOMEM;
    if (getgrouplist(name, user.gid, groups, &ngroups) < 0) { /* more than a moment ago */
        mem_free(groups);
        return -EAGAIN;
    }
    user.groups = groups;
    user.ngroups = (size_t)ngroups;
    *ret_user = user;
    return 0;
}

void privileges_forget(struct privileges_user *user)
{
    mem_free((void *)(uintptr_t)user->groups);
    *user = (struct privileges_user){0};
}

int privileges_drop(const struct privileges_user *user, bool executes)
{
    static const struct capabilities none;
    struct capabilities now = {0};
    int r = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : read_capabilities(&now);
    if (r == 0)
        r = limit_bounding_set(&now, 0);
    if (r == 0 && user != NULL)
        r = become(user);
    if (r < 0)
        return r;
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); /* EINVAL: before Linux 4.3 */
    bool refused = write_capabilities(&none) < 0;
    r = read_capabilities(&now);
    if (r < 0)
        return r;
    bool goes = refused && executes && geteuid() != 0;
    if (!goes && (now.effective | now.permitted | now.inheritable) != 0)
        return -EPERM;
    if (user != NULL && user->uid != 0 && (setuid(0) == 0 || seteuid(0) == 0))
        return -EPERM;
    return 0;
}

int privileges_hide(void)
{
    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? -errno : 0;
}

/* Nothing of what this process has in memory is of use in a dump. Without /proc, or with a kernel
 * that makes no dumps, there is nothing to say it to. */
static void leave_out_of_dumps(void)
{
    int fd = open("/proc/self/coredump_filter", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t n = write(fd, "0", 1);
    (void)n;
    close(fd);
}

int privileges_hide_for_good(void)
{
    static const struct rlimit none = {0, 0};
    leave_out_of_dumps(); /* while the file is still this user's */
    return setrlimit(RLIMIT_CORE, &none) < 0 ? -errno : privileges_hide();
}

int privileges_lose(const char *name)
{
    struct privileges_user user = {0};
    bool changes = name != NULL && geteuid() == 0;
    int r = changes ? privileges_find(name, &user) : 0;
    if (r == 0)
        r = privileges_drop(changes ? &user : NULL, false);
    privileges_forget(&user);
    return r == 0 ? privileges_hide_for_good() : r;
}

int privileges_supervise(void)
{
    struct capabilities now = {0};
    uint64_t keep = geteuid() == 0 ? supervisor_capabilities : CAP_BIT(CAP_NET_BIND_SERVICE);
    int r = read_capabilities(&now);
    if (r == 0)
        r = limit_bounding_set(&now, keep);
    if (r < 0)
        return r;
    struct capabilities kept = {
        .effective = now.permitted & keep,
        .permitted = now.permitted & keep,
        .inheritable = now.inheritable & keep,
    };
    bool same = kept.permitted == now.permitted && kept.effective == now.effective &&
                kept.inheritable == now.inheritable;
    return same ? 0 : write_capabilities(&kept);
}
