#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <seccomp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frontd/system/privileges.h"

TestSuite(privileges, .timeout = 60);

#define BIT(capability) ((uint64_t)1 << (capability))

enum { SKIPPED = 77 };

/* In a child, since what it does is for good. The body says in which line it went wrong, or 0. */
static void run(int (*body)(void))
{
    int status;
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0)
        _exit(body());
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)
        cr_skip("only root can do this");
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "it failed in line %d (mod 256)",
        WEXITSTATUS(status));
}

#define NEEDS(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            return __LINE__ % 256 == 0 || __LINE__ % 256 == SKIPPED ? 1 : __LINE__ % 256;          \
    } while (0)

/* A number of 16 digits in /proc/self/status, such as "CapEff". */
static uint64_t status_of(const char *key)
{
    char line[256];
    unsigned long long value = UINT64_MAX;
    FILE *file = fopen("/proc/self/status", "re");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, key, strlen(key)) == 0 && line[strlen(key)] == ':')
            value = strtoull(line + strlen(key) + 1, NULL, 16);
    }
    if (file != NULL)
        fclose(file);
    return value;
}

static bool has_nothing(void)
{
    return status_of("CapEff") == 0 && status_of("CapPrm") == 0 && status_of("CapInh") == 0 &&
           status_of("CapAmb") == 0 && status_of("NoNewPrivs") == 1;
}

/* Makes a capability inheritable and ambient, as a service manager does. */
static int make_ambient(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {{0}};
    if (syscall(SYS_capget, &header, data) < 0)
        return -errno;
    data[0].inheritable = (uint32_t)(BIT(CAP_NET_BIND_SERVICE) | BIT(CAP_NET_RAW));
    if (syscall(SYS_capset, &header, data) < 0 ||
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0) < 0 ||
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0) < 0)
        return -errno;
    return 0;
}

static int drop_as_somebody_else(void)
{
    struct privileges_user user;
    uid_t uids[3];
    gid_t gids[3];
    gid_t groups[64];
    if (geteuid() != 0)
        return SKIPPED;
    const struct passwd *entry = getpwnam("nobody");
    NEEDS(entry != NULL && make_ambient() == 0);
    NEEDS(privileges_find("nobody", &user) == 0 && user.uid == entry->pw_uid);
    NEEDS(privileges_drop(&user, false) == 0);
    privileges_forget(&user);
    NEEDS(getresuid(&uids[0], &uids[1], &uids[2]) == 0 &&
          getresgid(&gids[0], &gids[1], &gids[2]) == 0);
    for (int i = 0; i < 3; i++)
        NEEDS(uids[i] == entry->pw_uid && gids[i] == entry->pw_gid);
    int n = getgroups(64, groups);
    NEEDS(n >= 1);
    for (int i = 0; i < n; i++)
        NEEDS(groups[i] != 0);
    NEEDS(has_nothing() && status_of("CapBnd") == 0);
    NEEDS(setuid(0) < 0 && setgid(0) < 0 && setgroups(0, NULL) < 0);
    return 0;
}

Test(privileges, somebody_else_for_good)
{
    run(drop_as_somebody_else);
}

static char path[] = "/tmp/test_privileges-XXXXXX";

/* It has the files of root, and none of its power. */
static int drop_as_root(void)
{
    if (geteuid() != 0)
        return SKIPPED;
    NEEDS(chown(path, 65534, 65534) == 0 && chmod(path, 0600) == 0);
    NEEDS(open(path, O_RDONLY | O_CLOEXEC) >= 0);
    NEEDS(privileges_drop(NULL, false) == 0);
    NEEDS(geteuid() == 0 && has_nothing() && status_of("CapBnd") == 0);
    NEEDS(open(path, O_RDONLY | O_CLOEXEC) < 0 && errno == EACCES);
    NEEDS(setuid(65534) < 0 && errno == EPERM);
    return 0;
}

Test(privileges, root_without_power)
{
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    close(fd);
    run(drop_as_root);
    cr_expect_eq(unlink(path), 0);
}

/* A process that has nothing to give up: as in a container, or under a service manager. */
static int drop_as_nobody(void)
{
    if (geteuid() == 0 && (setgroups(0, NULL) < 0 || setgid(65534) < 0 || setuid(65534) < 0))
        return SKIPPED;
    NEEDS(privileges_drop(NULL, false) == 0 && has_nothing());
    NEEDS(privileges_drop(NULL, false) == 0); /* again */
    return 0;
}

Test(privileges, nothing_to_give_up)
{
    run(drop_as_nobody);
}

/* A filter refuses capset(), as that of a systemd unit may. */
static int drop_under_a_filter(void)
{
    if (geteuid() != 0)
        return SKIPPED;
    NEEDS(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0);
    NEEDS(setgroups(0, NULL) == 0 && setgid(65534) == 0 && setuid(65534) == 0);
    NEEDS(make_ambient() == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    NEEDS(seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(capset), 0, NULL) == 0);
    NEEDS(seccomp_load(filter) == 0);
    seccomp_release(filter);
    NEEDS(privileges_drop(NULL, false) == -EPERM && status_of("CapAmb") == 0);
    NEEDS(privileges_drop(NULL, true) == 0);
    execl("/bin/grep", "grep", "-q", "^CapPrm:[[:space:]]*0*$", "/proc/self/status", NULL);
    return 1;
}

Test(privileges, what_an_execve_takes_away)
{
    run(drop_under_a_filter);
}

static int find(void)
{
    struct privileges_user user = {.uid = 4711};
    NEEDS(privileges_find("there-is-nobody-of-this-name", &user) == -ENOENT && user.uid == 4711);
    NEEDS(privileges_find("root", &user) == 0 && user.uid == 0 && user.ngroups >= 1);
    privileges_forget(&user);
    privileges_forget(&user);
    return 0;
}

Test(privileges, users_are_found)
{
    run(find);
}

static int supervise(void)
{
    static const uint64_t kept = BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_FOWNER) |
                                 BIT(CAP_KILL) | BIT(CAP_SETGID) | BIT(CAP_SETUID) |
                                 BIT(CAP_SETPCAP) | BIT(CAP_NET_BIND_SERVICE) |
                                 BIT(CAP_SYS_RESOURCE);
    if (geteuid() != 0)
        return SKIPPED;
    uint64_t before = status_of("CapPrm");
    NEEDS(before & ~kept); /* else this proves nothing */
    NEEDS(privileges_supervise() == 0);
    NEEDS(status_of("CapPrm") == (before & kept) && status_of("CapEff") == (before & kept));
    NEEDS((status_of("CapBnd") & ~kept) == 0);
    NEEDS(privileges_supervise() == 0 && status_of("CapPrm") == (before & kept));
    NEEDS(status_of("NoNewPrivs") == 0); /* the next program in its place is root too */
    return 0;
}

Test(privileges, the_supervisor_keeps_what_it_needs)
{
    run(supervise);
}

/* As systemd starts it with User= and AmbientCapabilities=. */
static int supervise_as_nobody(void)
{
    if (geteuid() != 0)
        return SKIPPED;
    NEEDS(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0);
    NEEDS(setgroups(0, NULL) == 0 && setgid(65534) == 0 && setuid(65534) == 0);
    NEEDS(make_ambient() == 0);
    NEEDS(privileges_supervise() == 0);
    NEEDS(status_of("CapPrm") == BIT(CAP_NET_BIND_SERVICE));
    NEEDS(status_of("CapEff") == BIT(CAP_NET_BIND_SERVICE));
    NEEDS(status_of("CapAmb") == BIT(CAP_NET_BIND_SERVICE)); /* so that it outlives execve() */
    return 0;
}

Test(privileges, a_supervisor_that_is_not_root_may_bind)
{
    run(supervise_as_nobody);
}

static int hide(void)
{
    struct rlimit limit;
    NEEDS(getrlimit(RLIMIT_CORE, &limit) == 0);
    rlim_t before = limit.rlim_max;
    NEEDS(privileges_hide() == 0);
    NEEDS(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
    NEEDS(getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_max == before);
    return 0;
}

static int hide_for_good(void)
{
    struct rlimit limit;
    char text[32] = "";
    if (geteuid() == 0)
        NEEDS(setgid(65534) == 0 && setuid(65534) == 0);
    NEEDS(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0); /* as after execve() */
    int fd = open("/proc/self/coredump_filter", O_RDONLY);
    NEEDS(fd >= 0 && pread(fd, text, sizeof(text) - 1, 0) > 0 && strtoul(text, NULL, 16) != 0);
    NEEDS(privileges_hide_for_good() == 0);
    NEEDS(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
    NEEDS(getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_cur == 0 && limit.rlim_max == 0);
    NEEDS(pread(fd, text, sizeof(text) - 1, 0) > 0 && strtoul(text, NULL, 16) == 0);
    return 0;
}

Test(privileges, no_core_dump)
{
    run(hide);
    run(hide_for_good);
}
