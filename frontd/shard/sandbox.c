/*
 * sandbox_enter() makes the filter of the tables below. A call that no rule allows raises SIGSYS in
 * the calling thread; the handler of that notes its number and has it fail with EPERM; it is logged
 * at the end of the loop's turn, or of the process. Where the handler does not know the machine's
 * registers the kernel has the call fail, and nothing is logged.
 *
 * A call that is missing in the tables is found by the tests: none accepts such a line in a log.
 */

#include "frontd/shard/sandbox.h"

#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "common/log.h"

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#if defined(__x86_64__)
#define RESULT_OF(context) ((context)->uc_mcontext.gregs[REG_RAX])
#elif defined(__aarch64__)
#define RESULT_OF(context) ((context)->uc_mcontext.regs[0])
#endif

/* Arguments of 32 bits, whatever is in the other half of the register. */
#define IS(arg, value) SCMP_CMP(arg, SCMP_CMP_MASKED_EQ, UINT32_MAX, value)

enum { FILTERED = 1 /* SYS_SECCOMP, for which glibc has no name */ };
enum { PROGRAM_MAX = BPF_MAXINSNS, CHILD_CPU_S = 1 };
enum { CALLS_MAX = 512 /* numbers of system calls that are told apart */ };

static volatile sig_atomic_t news;
static volatile sig_atomic_t refused[CALLS_MAX]; /* 1: to be logged, 2: logged */

/* Allowed with any arguments. */
static const int allowed[] = {
    /* descriptors that it has, or is passed */
    SCMP_SYS(read),
    SCMP_SYS(readv),
    SCMP_SYS(pread64),
    SCMP_SYS(preadv),
    SCMP_SYS(write),
    SCMP_SYS(writev),
    SCMP_SYS(pwrite64),
    SCMP_SYS(pwritev2), /* of the log, to a pipe that may be full */
    SCMP_SYS(lseek),
    SCMP_SYS(close),
    SCMP_SYS(close_range),
    SCMP_SYS(dup),
    SCMP_SYS(dup2),
    SCMP_SYS(dup3),
    SCMP_SYS(fstat),
    SCMP_SYS(fstat64),
    SCMP_SYS(ftruncate),
    SCMP_SYS(pipe2),
    SCMP_SYS(eventfd2),
    SCMP_SYS(memfd_create), /* the states of connections that are handed over */
    /* what is ready */
    SCMP_SYS(epoll_create1),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_pwait2),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    /* sockets: socket() and setsockopt() are below; none is bound or listens anew */
    SCMP_SYS(accept4),
    SCMP_SYS(connect),
    SCMP_SYS(shutdown),
    SCMP_SYS(recvfrom),
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(sendmsg),
    SCMP_SYS(getsockname),
    SCMP_SYS(getpeername),
    SCMP_SYS(getsockopt),
    /* the folders of workers' sockets; files are opened to be read only, below */
    SCMP_SYS(inotify_init1),
    SCMP_SYS(inotify_add_watch),
    SCMP_SYS(inotify_rm_watch),
    SCMP_SYS(getdents64),
    SCMP_SYS(stat),
    SCMP_SYS(lstat),
    SCMP_SYS(newfstatat),
    SCMP_SYS(fstatat64),
    SCMP_SYS(statx),
    SCMP_SYS(access),
    SCMP_SYS(faccessat),
    SCMP_SYS(faccessat2),
    SCMP_SYS(readlink),
    SCMP_SYS(readlinkat),
    /* memory: mmap() and mprotect() are below */
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(mincore),
    /* time, chance, itself */
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_gettime64),
    SCMP_SYS(clock_getres),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    SCMP_SYS(nanosleep),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(getrandom),
    SCMP_SYS(getpid),
    SCMP_SYS(getppid),
    SCMP_SYS(gettid),
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getegid),
    SCMP_SYS(getrlimit),
    SCMP_SYS(getrusage),
    SCMP_SYS(times),
    SCMP_SYS(uname),
    SCMP_SYS(sysinfo),
    SCMP_SYS(getcpu),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(sched_yield),
    SCMP_SYS(membarrier),
    SCMP_SYS(futex),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
#if SANITIZED
    /* The leak check clones a process that shares its memory and stops its threads; a report asks
     * after the stack and the program. */
    SCMP_SYS(clone),
    SCMP_SYS(getdents),
    SCMP_SYS(wait4),
    SCMP_SYS(ptrace),
    SCMP_SYS(prctl),
    SCMP_SYS(kill),
    SCMP_SYS(tgkill),
    SCMP_SYS(mmap),
    SCMP_SYS(mprotect),
    SCMP_SYS(personality),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(prlimit64),
    SCMP_SYS(process_vm_readv),
#endif
};

/* Never a bug or a new library: the process ends at once. */
static const int deadly[] = {
    /* another program, or into another process */
    SCMP_SYS(execve),
    SCMP_SYS(execveat),
#if !SANITIZED
    SCMP_SYS(ptrace),
    SCMP_SYS(process_vm_readv),
#endif
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(pidfd_getfd),
    SCMP_SYS(kcmp),
    /* another user, another world */
    SCMP_SYS(setuid),
    SCMP_SYS(setgid),
    SCMP_SYS(setreuid),
    SCMP_SYS(setregid),
    SCMP_SYS(setresuid),
    SCMP_SYS(setresgid),
    SCMP_SYS(setgroups),
    SCMP_SYS(setfsuid),
    SCMP_SYS(setfsgid),
    SCMP_SYS(capset),
    SCMP_SYS(setns),
    SCMP_SYS(unshare),
    SCMP_SYS(chroot),
    SCMP_SYS(pivot_root),
    SCMP_SYS(mount),
    SCMP_SYS(umount2),
    SCMP_SYS(open_tree),
    SCMP_SYS(move_mount),
    SCMP_SYS(fsopen),
    SCMP_SYS(fsconfig),
    SCMP_SYS(fsmount),
    SCMP_SYS(fspick),
    SCMP_SYS(mount_setattr),
    SCMP_SYS(open_by_handle_at),
    /* the kernel itself */
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(delete_module),
    SCMP_SYS(kexec_load),
    SCMP_SYS(kexec_file_load),
    SCMP_SYS(bpf),
    SCMP_SYS(perf_event_open),
    SCMP_SYS(userfaultfd),
    SCMP_SYS(keyctl),
    SCMP_SYS(add_key),
    SCMP_SYS(request_key),
    SCMP_SYS(iopl),
    SCMP_SYS(ioperm),
    SCMP_SYS(reboot),
    SCMP_SYS(swapon),
    SCMP_SYS(swapoff),
    SCMP_SYS(acct),
    SCMP_SYS(syslog),
    SCMP_SYS(settimeofday),
    SCMP_SYS(clock_settime),
    SCMP_SYS(adjtimex),
    SCMP_SYS(clock_adjtime),
    SCMP_SYS(sethostname),
    SCMP_SYS(setdomainname),
    SCMP_SYS(quotactl),
};

/* One system call with one argument of these values. */
struct values {
    int call;
    unsigned arg;
    const unsigned *values;
    size_t n;
};

static const unsigned fcntls[] = {
    F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD, F_DUPFD_CLOEXEC, F_ADD_SEALS, F_GET_SEALS};
static const unsigned ioctls[] = {FIONBIO, FIONREAD, SIOCOUTQ, TCGETS};

static const struct values by_value[] = {
    {SCMP_SYS(fcntl), 1, fcntls, ARRAY_LEN(fcntls)},
    {SCMP_SYS(fcntl64), 1, fcntls, ARRAY_LEN(fcntls)},
    {SCMP_SYS(ioctl), 1, ioctls, ARRAY_LEN(ioctls)},
};

static const struct {
    unsigned level;
    unsigned option;
} options[] = {
    {SOL_SOCKET, SO_KEEPALIVE},
    {SOL_SOCKET, SO_LINGER},
    {SOL_SOCKET, SO_SNDBUF},
    {SOL_SOCKET, SO_RCVBUF},
    {IPPROTO_TCP, TCP_NODELAY},
    {IPPROTO_TCP, TCP_KEEPIDLE},
    {IPPROTO_TCP, TCP_KEEPINTVL},
    {IPPROTO_TCP, TCP_KEEPCNT},
    {IPPROTO_TCP, TCP_USER_TIMEOUT},
    {IPPROTO_TCP, TCP_NOTSENT_LOWAT},
};

static const struct {
    unsigned family;
    unsigned type;
} sockets[] = {
    {AF_UNIX, SOCK_STREAM},    /* workers */
    {AF_UNIX, SOCK_SEQPACKET}, /* a new supervisor */
    {AF_INET, SOCK_STREAM},
    {AF_INET6, SOCK_STREAM},
};

static bool is_known(int call)
{
    return call >= 0 && call < CALLS_MAX;
}

static void on_refused(int number, siginfo_t *info, void *context)
{
    (void)number;
    if (info->si_code != FILTERED) /* kill(1) */
        return;
#ifdef RESULT_OF
    ucontext_t *registers = context;
    RESULT_OF(registers) = -EPERM;
#else
    (void)context;
#endif
    int call = is_known(info->si_syscall) ? info->si_syscall : CALLS_MAX - 1;
    if (refused[call] == 0) {
        refused[call] = 1;
        news = 1;
    }
}

bool sandbox_has_news(void)
{
    return news != 0;
}

void sandbox_tell(void)
{
    news = 0;
    for (int i = 0; i < CALLS_MAX; i++) {
        if (refused[i] != 1)
            continue;
        refused[i] = 2;
        char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, i);
        log_error("the seccomp filter has refused the system call %s (%d): see `seccomp` in the "
                  "documentation of the config",
            name == NULL ? "?" : name, i);
        free(name); /* NOLINT: libseccomp's */
    }
}

static int add(scmp_filter_ctx filter, uint32_t action, int call, const struct scmp_arg_cmp *args,
    unsigned nargs)
{
    int r = seccomp_rule_add_array(filter, action, call, nargs, args);
    return r == -EDOM ? 0 : r; /* this machine has no such call */
}

static int allow_if(
    scmp_filter_ctx filter, int call, const struct scmp_arg_cmp *args, unsigned nargs)
{
    return add(filter, SCMP_ACT_ALLOW, call, args, nargs);
}

/* open() and openat(): to read what is there. */
static int allow_opens(scmp_filter_ctx filter)
{
    static const uint64_t writes = O_ACCMODE | O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY);
    const struct scmp_arg_cmp at = SCMP_A2(SCMP_CMP_MASKED_EQ, writes, O_RDONLY);
    const struct scmp_arg_cmp old = SCMP_A1(SCMP_CMP_MASKED_EQ, writes, O_RDONLY);
    int r = allow_if(filter, SCMP_SYS(openat), &at, 1);
    return r == 0 ? allow_if(filter, SCMP_SYS(open), &old, 1) : r;
}

static int allow_sockets(scmp_filter_ctx filter)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(sockets); i++) {
        const struct scmp_arg_cmp args[] = {
            IS(0, sockets[i].family),
            SCMP_A1(SCMP_CMP_MASKED_EQ, 0xf, sockets[i].type), /* beside it are flags */
            IS(2, 0),
        };
        r = allow_if(filter, SCMP_SYS(socket), args, ARRAY_LEN(args));
    }
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(options); i++) {
        const struct scmp_arg_cmp args[] = {
            IS(1, options[i].level),
            IS(2, options[i].option),
        };
        r = allow_if(filter, SCMP_SYS(setsockopt), args, ARRAY_LEN(args));
    }
    return r;
}

static int allow_rest(scmp_filter_ctx filter, pid_t pid)
{
    int r = 0;
    (void)pid; /* with sanitizers */
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(by_value); i++) {
        for (size_t k = 0; r == 0 && k < by_value[i].n; k++) {
            const struct scmp_arg_cmp arg = IS(by_value[i].arg, by_value[i].values[k]);
            r = allow_if(filter, by_value[i].call, &arg, 1);
        }
    }
#if !SANITIZED
    static const int memory[] = {SCMP_SYS(mmap), SCMP_SYS(mmap2), SCMP_SYS(mprotect)};
    const struct scmp_arg_cmp no_code = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(memory); i++)
        r = allow_if(filter, memory[i], &no_code, 1);
    /* abort() */
    const struct scmp_arg_cmp itself = IS(0, (scmp_datum_t)pid);
    if (r == 0)
        r = allow_if(filter, SCMP_SYS(tgkill), &itself, 1);
    const struct scmp_arg_cmp only_read = SCMP_A2(SCMP_CMP_EQ, 0, 0);
    if (r == 0)
        r = allow_if(filter, SCMP_SYS(prlimit64), &only_read, 1);
#endif
    return r;
}

static int fill(scmp_filter_ctx filter, uint32_t end, pid_t pid)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(allowed); i++)
        r = add(filter, SCMP_ACT_ALLOW, allowed[i], NULL, 0);
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(deadly); i++)
        r = add(filter, end, deadly[i], NULL, 0);
    if (r == 0)
        r = allow_opens(filter);
    if (r == 0)
        r = allow_sockets(filter);
    return r == 0 ? allow_rest(filter, pid) : r;
}

/* *ret_end: how a call ends the process. */
static int set_attributes(scmp_filter_ctx filter, uint32_t *ret_end)
{
    /* What a foreign ABI (32 bits on a kernel of 64) asks for ends the process too. Where only
     * prctl() takes filters, as under an older systemd, its thread can be ended, and it has one. */
    *ret_end = SCMP_ACT_KILL_PROCESS;
    int r = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, *ret_end);
    if (r < 0) {
        *ret_end = SCMP_ACT_KILL;
        r = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, *ret_end);
    }
    /* The rest is not needed, and older libraries may not know it. */
    seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    seccomp_attr_set(filter, SCMP_FLTATR_API_SYSRAWRC, 1);
    return r;
}

/* The kernel looks for the filter, and finds none at address 0, if it knows of filters at all. */
static bool kernel_has_seccomp(void)
{
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL, 0, 0) == 0 ||
           (errno != EINVAL && errno != ENOSYS);
}

/* Writes the program that the kernel is to run for that process. Returns 0 or -errno. */
static int write_program(int fd, pid_t pid)
{
#ifdef RESULT_OF
    static const uint32_t otherwise = SCMP_ACT_TRAP;
#else
    static const uint32_t otherwise = SCMP_ACT_ERRNO(EPERM);
#endif
    scmp_filter_ctx filter = seccomp_init(otherwise);
    if (filter == NULL)
        return -ENOMEM;
    uint32_t end;
    int r = set_attributes(filter, &end);
    if (r == 0)
        r = fill(filter, end, pid);
    if (r == 0)
        r = seccomp_export_bpf(filter, fd);
    seccomp_release(filter);
    return r;
}

/* What libseccomp does, in a process of its own: where memory is short it may crash, never end, or
 * leave out rules and not say so. It takes a millisecond. */
static int write_in_child(int fd)
{
    pid_t own = getpid();
    int status;
    pid_t child = fork();
    if (child < 0)
        return -errno;
    if (child == 0) {
        /* The child's end is seen by this process, and is to leave no other trace. */
        signal(SIGSEGV, SIG_DFL);
        signal(SIGABRT, SIG_DFL);
        setrlimit(RLIMIT_CPU, &(struct rlimit){CHILD_CPU_S, CHILD_CPU_S});
        _exit(write_program(fd, own) == 0 ? 0 : 1);
    }
    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ENOMEM;
}

/* Makes and reads it. Returns how many instructions it has, or -errno. */
static ssize_t make_program(struct sock_filter program[static PROGRAM_MAX])
{
    int fd = memfd_create("frontd-filter", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    int r = write_in_child(fd);
    ssize_t n = r < 0 ? r : pread(fd, program, PROGRAM_MAX * sizeof(*program), 0);
    if (r == 0 && n < 0)
        n = -errno;
    close(fd);
    if (n < 0)
        return n;
    bool whole = n > 0 && (size_t)n % sizeof(*program) == 0;
    return whole ? n / (ssize_t)sizeof(*program) : -EIO;
}

static int load(struct sock_filter *program, size_t n)
{
    const struct sock_fprog all = {.len = (unsigned short)n, .filter = program};
    /* The mitigation that comes with a filter otherwise is for programs that run code of others; it
     * slows down. Older kernels know neither it nor the call. */
    const unsigned flags = SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &all) == 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &all, 0, 0) == 0)
        return 0;
    return -errno;
}

int sandbox_without_rings(void)
{
    /* The number is the same on every architecture. */
    static struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    return kernel_has_seccomp() ? load(program, ARRAY_LEN(program)) : 1;
}

int sandbox_enter(void)
{
    static struct sock_filter programs[2][PROGRAM_MAX];
    struct sigaction action = {.sa_sigaction = on_refused, .sa_flags = SA_SIGINFO | SA_RESTART};
    if (!kernel_has_seccomp())
        return 1;
    if (sigaction(SIGSYS, &action, NULL) < 0)
        return -errno;
    /* Made twice in the same way, it is all there. */
    ssize_t n[2];
    for (unsigned i = 0; i < 2; i++) {
        n[i] = make_program(programs[i]);
        if (n[i] < 0)
            return (int)n[i];
    }
    if (n[0] != n[1] || memcmp(programs[0], programs[1], (size_t)n[0] * sizeof(**programs)) != 0)
        return -ENOMEM;
    int r = load(programs[0], (size_t)n[0]);
    if (r == 0 && atexit(sandbox_tell) != 0)
        r = -ENOMEM;
    return r;
}
