#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frontd/shard/sandbox.h"

TestSuite(sandbox, .timeout = 120);

enum { WORKS = 0, REFUSED = EPERM, ENDS = -1 };

#define A(pointer) ((long)(intptr_t)(pointer))

/*
 * A system call with its arguments, and what becomes of it: WORKS, ENDS the process, or an errno.
 */
struct row {
    const char *what;
    long number;
    long args[6];
    int outcome;
};

static char bytes[4096];
static int one = 1;

static const struct row rows[] = {
    {"reads a file", SYS_openat, {AT_FDCWD, A("/dev/null"), O_RDONLY | O_CLOEXEC}, WORKS},
    {"reads a folder", SYS_openat, {AT_FDCWD, A("/"), O_RDONLY | O_DIRECTORY | O_CLOEXEC}, WORKS},
    {"one that is not there", SYS_openat, {AT_FDCWD, A("/nowhere/at/all"), O_RDONLY}, ENOENT},
    {"writes", SYS_openat, {AT_FDCWD, A("/dev/null"), O_WRONLY}, REFUSED},
    {"reads and writes", SYS_openat, {AT_FDCWD, A("/dev/null"), O_RDWR}, REFUSED},
    {"makes a file", SYS_openat, {AT_FDCWD, A("/tmp/sandbox"), O_RDONLY | O_CREAT, 0600}, REFUSED},
    {"cuts a file", SYS_openat, {AT_FDCWD, A("/dev/null"), O_RDONLY | O_TRUNC}, REFUSED},
    {"a file without a name", SYS_openat, {AT_FDCWD, A("/tmp"), O_RDWR | O_TMPFILE, 0600}, REFUSED},
    {"openat2()", SYS_openat2, {AT_FDCWD, A("/dev/null"), A(bytes), 24}, REFUSED},
    {"removes", SYS_unlinkat, {AT_FDCWD, A("/nowhere/at/all"), 0}, REFUSED},
    {"renames", SYS_renameat2, {AT_FDCWD, A("/nowhere"), AT_FDCWD, A("/else"), 0}, REFUSED},
    {"makes a folder", SYS_mkdirat, {AT_FDCWD, A("/nowhere/at/all"), 0700}, REFUSED},
    {"a mode", SYS_fchmodat, {AT_FDCWD, A("/nowhere/at/all"), 0700}, REFUSED},
    {"an owner", SYS_fchownat, {AT_FDCWD, A("/nowhere/at/all"), 0, 0, 0}, REFUSED},
    {"worker: UNIX", SYS_socket, {AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0}, WORKS},
    {"supervisor", SYS_socket, {AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0}, WORKS},
    {"worker: IPv4", SYS_socket, {AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0}, WORKS},
    {"datagrams", SYS_socket, {AF_UNIX, SOCK_DGRAM, 0}, REFUSED},
    {"UDP", SYS_socket, {AF_INET, SOCK_DGRAM, 0}, REFUSED},
    {"raw packets", SYS_socket, {AF_INET, SOCK_RAW, IPPROTO_ICMP}, REFUSED},
    {"SCTP", SYS_socket, {AF_INET, SOCK_STREAM, IPPROTO_SCTP}, REFUSED},
    {"netlink", SYS_socket, {AF_NETLINK, SOCK_RAW, 0}, REFUSED},
    {"packet", SYS_socket, {AF_PACKET, SOCK_STREAM, 0}, REFUSED},
    {"vsock", SYS_socket, {40, SOCK_STREAM, 0}, REFUSED},
    {"a pair", SYS_socketpair, {AF_UNIX, SOCK_STREAM, 0, A(bytes)}, REFUSED},
    {"bind()", SYS_bind, {-1, A(bytes), 16}, REFUSED},
    {"listen()", SYS_listen, {-1, 1}, REFUSED},
    {"accept4()", SYS_accept4, {-1, 0, 0, SOCK_CLOEXEC}, EBADF},
    {"connect()", SYS_connect, {-1, A(bytes), 16}, EBADF},
    {"keep-alive", SYS_setsockopt, {-1, SOL_SOCKET, SO_KEEPALIVE, A(&one), 4}, EBADF},
    {"its rhythm", SYS_setsockopt, {-1, IPPROTO_TCP, TCP_KEEPIDLE, A(&one), 4}, EBADF},
    {"no delay", SYS_setsockopt, {-1, IPPROTO_TCP, TCP_NODELAY, A(&one), 4}, EBADF},
    {"a filter", SYS_setsockopt, {-1, SOL_SOCKET, SO_ATTACH_FILTER, A(bytes), 16}, REFUSED},
    {"a device", SYS_setsockopt, {-1, SOL_SOCKET, SO_BINDTODEVICE, A("lo"), 2}, REFUSED},
    {"another layer", SYS_setsockopt, {-1, IPPROTO_TCP, TCP_ULP, A("tls"), 3}, REFUSED},
    {"firewall", SYS_setsockopt, {-1, IPPROTO_IP, 64, A(bytes), 16}, REFUSED},
    {"not blocking", SYS_ioctl, {-1, FIONBIO, A(&one)}, EBADF},
    {"types for a terminal", SYS_ioctl, {-1, TIOCSTI, A(bytes)}, REFUSED},
    {"takes a terminal", SYS_ioctl, {-1, TIOCSCTTY, 0}, REFUSED},
    {"a log line", SYS_pwritev2, {-1, A(bytes), 0, 0, 0, 0}, EBADF},
    {"flags", SYS_fcntl, {2, F_GETFL, 0}, WORKS},
    {"owner of signals", SYS_fcntl, {2, F_SETOWN, 1}, REFUSED},
    {"a lease", SYS_fcntl, {2, F_SETLEASE, F_RDLCK}, REFUSED},
    {"inotify", SYS_inotify_init1, {IN_CLOEXEC}, WORKS},
    {"fanotify", SYS_fanotify_init, {0, 0}, REFUSED},
    {"states of connections", SYS_memfd_create, {A("clients"), MFD_CLOEXEC}, WORKS},
    {"chance", SYS_getrandom, {A(bytes), 8, 0}, WORKS},
    {"a limit is read", SYS_prlimit64, {0, RLIMIT_NOFILE, 0, A(bytes)}, WORKS},
    {"another session", SYS_setsid, {0}, REFUSED},
    {"io_uring", SYS_io_uring_setup, {8, A(bytes)}, REFUSED},
    {"another filter", SYS_seccomp, {SECCOMP_SET_MODE_STRICT, 0, 0}, REFUSED},
    {"a thread", SYS_clone3, {A(bytes), 64}, REFUSED},
    {"a new system call", 499, {0}, REFUSED},
    {"execve()", SYS_execve, {A("/bin/true"), 0, 0}, ENDS},
    {"execveat()", SYS_execveat, {AT_FDCWD, A("/bin/true"), 0, 0, 0}, ENDS},
    {"writes into a process", SYS_process_vm_writev, {1, 0, 0, 0, 0, 0}, ENDS},
    {"takes a descriptor", SYS_pidfd_getfd, {-1, 0, 0}, ENDS},
    {"setuid()", SYS_setuid, {0}, ENDS},
    {"setgroups()", SYS_setgroups, {0, 0}, ENDS},
    {"capset()", SYS_capset, {A(bytes), A(bytes)}, ENDS},
    {"setns()", SYS_setns, {-1, 0}, ENDS},
    {"unshare()", SYS_unshare, {0}, ENDS},
    {"chroot()", SYS_chroot, {A("/")}, ENDS},
    {"mount()", SYS_mount, {0, 0, 0, 0, 0}, ENDS},
    {"umount2()", SYS_umount2, {A("/nowhere/at/all"), 0}, ENDS},
    {"pivot_root()", SYS_pivot_root, {A("/"), A("/")}, ENDS},
    {"init_module()", SYS_init_module, {0, 0, 0}, ENDS},
    {"finit_module()", SYS_finit_module, {-1, 0, 0}, ENDS},
    {"kexec_load()", SYS_kexec_load, {0, 0, 0, 0}, ENDS},
    {"bpf()", SYS_bpf, {0, 0, 0}, ENDS},
    {"perf_event_open()", SYS_perf_event_open, {0, 0, 0, -1, 0}, ENDS},
    {"userfaultfd()", SYS_userfaultfd, {0}, ENDS},
    {"keyctl()", SYS_keyctl, {0, 0, 0, 0, 0}, ENDS},
    {"open_by_handle_at()", SYS_open_by_handle_at, {-1, 0, 0}, ENDS},
    {"reboot()", SYS_reboot, {0, 0, 0, 0}, ENDS},
#ifndef __SANITIZE_ADDRESS__ /* which has to do these */
    {"memory", SYS_mmap, {0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0},
        WORKS},
    {"code", SYS_mmap, {0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0},
        REFUSED},
    {"memory becomes code", SYS_mprotect, {0, 4096, PROT_READ | PROT_EXEC}, REFUSED},
    {"fork()", SYS_clone, {SIGCHLD, 0, 0, 0, 0}, REFUSED},
    {"ptrace()", SYS_ptrace, {0, 0, 0, 0}, ENDS},
    {"reads a process", SYS_process_vm_readv, {1, 0, 0, 0, 0, 0}, ENDS},
    {"is dumped after all", SYS_prctl, {PR_SET_DUMPABLE, 1, 0, 0, 0}, REFUSED},
    {"a signal to others", SYS_kill, {1, 0}, REFUSED},
    {"a signal to a thread of others", SYS_tgkill, {1, 1, 0}, REFUSED},
    {"a limit is set", SYS_prlimit64, {0, RLIMIT_NOFILE, A(bytes), 0}, REFUSED},
#endif
};

/* Arguments of 32 bits count as such, whatever stands beside them in the register. */
static const struct row halves[] = {
    {"family", SYS_socket, {AF_INET | (1L << 32), SOCK_STREAM, 0}, WORKS},
    {"another family", SYS_socket, {AF_NETLINK | (1L << 32), SOCK_RAW, 0}, REFUSED},
    {"flags of a file", SYS_openat, {AT_FDCWD, A("/dev/null"), O_WRONLY | (1L << 32)}, REFUSED},
    {"command", SYS_fcntl, {2, F_SETLEASE | (1L << 32), F_RDLCK}, REFUSED},
};

static int run(int (*body)(const void *), const void *data)
{
    int status;
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0)
        _exit(body(data)); /* without a leak check, which belongs to the parent */
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    return status;
}

static int do_call(const void *data)
{
    const struct row *row = data;
    if (sandbox_enter() != 0)
        return 255;
    errno = 0;
    long r = syscall(row->number, row->args[0], row->args[1], row->args[2], row->args[3],
        row->args[4], row->args[5]);
    int error = r < 0 ? errno : 0;
    return sandbox_has_news() == (error == EPERM) ? error : 254;
}

static void check_row(const struct row *row)
{
    int status = run(do_call, row);
    if (row->outcome == ENDS)
        cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "%s: status %#x", row->what,
            (unsigned)status);
    else
        cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == row->outcome, "%s: status %#x",
            row->what, (unsigned)status);
}

Test(sandbox, what_works_what_is_refused_and_what_ends_it)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check_row(&rows[i]);
    for (size_t i = 0; i < ARRAY_LEN(halves); i++)
        check_row(&halves[i]);
}

static int do_abort(const void *data)
{
    (void)data;
    signal(SIGABRT, SIG_DFL); /* Criterion and ASan have their own */
    if (sandbox_enter() == 0)
        abort();
    return 255;
}

Test(sandbox, a_failed_check_is_seen_as_such)
{
    int status = run(do_abort, NULL);
    cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "status %#x", (unsigned)status);
}

static int do_tell(const void *data)
{
    const int *pipe_fds = data;
    dup2(pipe_fds[1], STDERR_FILENO);
    if (sandbox_enter() != 0 || sandbox_has_news())
        return 1;
    for (int i = 0; i < 3; i++) {
        if (bind(-1, NULL, 0) == 0 || errno != EPERM || listen(-1, 0) == 0 || errno != EPERM)
            return 2;
        if (sandbox_has_news() != (i == 0))
            return 3;
        sandbox_tell();
        sandbox_tell();
    }
    return 0;
}

static int do_without_rings(const void *data)
{
    char params[256] = {0};
    (void)data;
    if (sandbox_without_rings() != 0)
        return 1;
    if (syscall(SYS_io_uring_setup, 8, params) != -1 || errno != ENOSYS)
        return 2;
    if (socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0) < 0 || sandbox_has_news())
        return 3; /* nothing else has changed */
    if (sandbox_enter() != 0)
        return 4;
    if (syscall(SYS_io_uring_setup, 8, params) != -1 || errno != EPERM || !sandbox_has_news())
        return 5; /* the filter says it with more weight */
    return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0) == -1 && errno == EPERM ? 0 : 6;
}

/* A library that can do without a ring asks for one in vain, and is not refused what it has. */
Test(sandbox, there_are_no_rings)
{
    cr_expect_eq(run(do_without_rings, NULL), 0);
}

static size_t count(const char *text, const char *word)
{
    size_t n = 0;
    for (const char *at = text; (at = strstr(at, word)) != NULL; at++)
        n++;
    return n;
}

Test(sandbox, each_refused_call_is_logged_once)
{
    int pipe_fds[2];
    char text[4096] = {0};
    cr_assert_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
    int status = run(do_tell, pipe_fds);
    close(pipe_fds[1]);
    cr_assert_eq(status, 0, "status %#x", (unsigned)status);
    cr_assert_gt(read(pipe_fds[0], text, sizeof(text) - 1), 0);
    close(pipe_fds[0]);
    cr_expect_eq(count(text, "has refused the system call"), 2U, "%s", text);
    cr_expect_eq(count(text, "system call bind ("), 1U, "%s", text);
    cr_expect_eq(count(text, "system call listen ("), 1U, "%s", text);
}

/* A kernel of which filters are asked in vain, for this reason. */
struct under {
    int error;
    bool prctl_too;
    int result; /* 0: it has its filter, which ends it; 1: none there; 2: failed */
};

/* Without libseccomp, which remembers what the kernel could do before. */
static int put_under(const struct under *under)
{
    const uint32_t number = offsetof(struct seccomp_data, nr);
    const uint32_t first = offsetof(struct seccomp_data, args); /* its lower half, or all of it 0 */
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, number),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_seccomp, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prctl, 0, 2),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, first),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, under->prctl_too ? PR_SET_SECCOMP : UINT32_MAX, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)under->error),
    };
    struct sock_fprog program = {.len = ARRAY_LEN(code), .filter = code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0
               ? -errno
               : prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}

static int do_enter_under(const void *data)
{
    if (put_under(data) < 0)
        return 255;
    int r = sandbox_enter();
    if (r == 0 && (bind(-1, NULL, 0) == 0 || errno != EPERM))
        return 3;
    if (r == 0)
        syscall(SYS_unshare, 0); /* ends it */
    return r < 0 ? 2 : r;
}

Test(sandbox, a_kernel_without_seccomp_and_one_that_refuses)
{
    static const struct under cases[] = {{EINVAL, true, 1}, {ENOSYS, true, 1}, {EPERM, true, 2},
        {ENOMEM, true, 2}, {EPERM, false, 0}, {ENOSYS, false, 0}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct under *under = &cases[i];
        int status = run(do_enter_under, under);
        bool ended = WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
        cr_expect(
            under->result == 0 ? ended : WIFEXITED(status) && WEXITSTATUS(status) == under->result,
            "%s: status %#x", strerrorname_np(under->error), (unsigned)status);
    }
}
