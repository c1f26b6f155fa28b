/*
 * launch_start() prepares all that needs memory (words, environment), blocks signals, and forks.
 * The new process has one thread and a copy of everything: it begins a session and a process group,
 * puts descriptors in order, becomes the user without any privilege, gives signals their defaults,
 * says in LISTEN_PID who it is, and executes the program.
 * Signals stay blocked until their handlers are gone, since those of libuv would write into the
 * pipe that it shares with the parent.
 */

#include "frontd/supervisor/workers/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/system/privileges.h"

enum { LISTEN_FD = 3 };

int launch_user_find(const char *name, struct launch_user *ret_user)
{
    if (name == NULL || geteuid() != 0) {
        *ret_user = (struct launch_user){.uid = geteuid(), .gid = getegid()};
        return 0;
    }
    errno = 0;
    const struct passwd *entry = getpwnam(name);
    if (entry == NULL)
        return errno == 0 ? -ENOENT : -errno;
    struct launch_user user = {
        .uid = entry->pw_uid, .gid = entry->pw_gid, .ngroups = LAUNCH_GROUPS_MAX};
    if ((size_t)snprintf(user.name, sizeof(user.name), "%s", name) >= sizeof(user.name))
        return -ENAMETOOLONG;
    snprintf(user.home, sizeof(user.home), "%s", entry->pw_dir);
    if (getgrouplist(name, entry->pw_gid, user.groups, &user.ngroups) < 0)
        return -E2BIG;
    *ret_user = user;
    return 0;
}

static int check_program(const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return -errno;
    return S_ISREG(st.st_mode) && (st.st_mode & 0111) != 0 ? 0 : -EACCES;
}

int launch_find(const char *program, char *ret_path, size_t size)
{
    char path[4096];
    int r = -ENOENT;
    if (strchr(program, '/') != NULL) {
        if ((size_t)snprintf(path, sizeof(path), "%s", program) >= MIN(sizeof(path), size))
            return -ENAMETOOLONG;
        r = check_program(path);
    } else {
        const char *dirs = getenv("PATH");
        for (const char *dir = dirs == NULL ? "/usr/local/bin:/usr/bin:/bin" : dirs; r != 0;) {
            size_t n = strcspn(dir, ":");
            /* An empty entry means the working directory. */
            int length = snprintf(
                path, sizeof(path), "%.*s/%s", n == 0 ? 1 : (int)n, n == 0 ? "." : dir, program);
            if ((size_t)length < MIN(sizeof(path), size)) {
                int found = check_program(path);
                r = found == 0 || found == -EACCES ? found : r;
            }
            if (dir[n] == '\0')
                break;
            dir += n + 1;
        }
    }
    if (r == 0)
        snprintf(ret_path, size, "%s", path);
    return r;
}

/* What execve() takes. */
struct words {
    char **argv; /* the words are borrowed */
    char **envp; /* ours are in `texts`, others are borrowed */
    char *listen_pid;
    char texts[5][256];
};

/* Variables that say something of us, not of the worker. */
static bool is_dropped(const char *variable, bool new_user)
{
    static const char *const dropped[] = {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES",
        "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "MAINPID", "USER", "LOGNAME", "HOME"};
    size_t n = strcspn(variable, "=");
    for (size_t i = 0; i < ARRAY_LEN(dropped) - (new_user ? 0 : 3); i++) {
        if (strlen(dropped[i]) == n && strncmp(variable, dropped[i], n) == 0)
            return true;
    }
    return false;
}

static int make_words(const struct launch *launch, struct words *words)
{
    const struct launch_user *user = launch->user;
    size_t nvariables = 0;
    while (environ[nvariables] != NULL)
        nvariables++;
    words->argv = mem_zalloc((launch->n + 1) * sizeof(char *));
    words->envp = mem_zalloc((nvariables + ARRAY_LEN(words->texts) + 2) * sizeof(char *));
    if (words->argv == NULL || words->envp == NULL)
        return -ENOMEM;
    memcpy(words->argv, launch->command, launch->n * sizeof(char *));
    size_t n = 0;
    for (size_t i = 0; i < nvariables; i++) {
        if (!is_dropped(environ[i], user->name[0] != '\0'))
            words->envp[n++] = environ[i];
    }
    static char listen_fds[] = "LISTEN_FDS=1";
    words->envp[n++] = listen_fds;
    snprintf(words->texts[0], sizeof(words->texts[0]), "LISTEN_FDNAMES=%s", launch->pool);
    snprintf(words->texts[1], sizeof(words->texts[1]), "LISTEN_PID=");
    words->listen_pid = words->texts[1] + strlen(words->texts[1]);
    size_t ntexts = 2;
    if (user->name[0] != '\0') {
        snprintf(words->texts[2], sizeof(words->texts[2]), "USER=%s", user->name);
        snprintf(words->texts[3], sizeof(words->texts[3]), "LOGNAME=%s", user->name);
        snprintf(words->texts[4], sizeof(words->texts[4]), "HOME=%s", user->home);
        ntexts = 5;
    }
    for (size_t i = 0; i < ntexts; i++)
        words->envp[n++] = words->texts[i];
    return 0;
}

static void free_words(struct words *words)
{
    mem_free(words->argv);
    mem_free(words->envp);
}

/* From here on in the new process, with async-signal-safe calls only. */

_Noreturn static void give_up(const char *what, const char *path)
{
    const char *why = strerrordesc_np(errno);
    const char *const parts[] = {what, path, ": ", why == NULL ? "?" : why, "\n"};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (write(STDERR_FILENO, parts[i], strlen(parts[i])) < 0)
            break;
    }
    _exit(127);
}

/* 0 to 3, and no others. Each is first moved out of the way of all. */
static void place_descriptors(int null, int output, int listener)
{
    int fds[] = {null, output, output, listener};
    for (int i = 0; i < 4; i++)
        fds[i] = fcntl(fds[i], F_DUPFD, LISTEN_FD + 1);
    if (fds[1] < 0 || dup2(fds[1], STDERR_FILENO) < 0)
        _exit(127);
    for (int i = 0; i < 4; i++) {
        if (fds[i] < 0 || dup2(fds[i], i) < 0)
            give_up("cannot take over descriptors", "");
    }
    close_range(LISTEN_FD + 1, ~0U, 0);
    /* The flag belongs to the socket, and a process before this one may have set it. */
    fcntl(LISTEN_FD, F_SETFL, fcntl(LISTEN_FD, F_GETFL) & ~O_NONBLOCK);
}

/* The user, if there is one, and nobody who may do more than others. */
static void become_user(const struct launch_user *user)
{
    const struct privileges_user wanted = {.uid = user->uid,
        .gid = user->gid,
        .groups = user->groups,
        .ngroups = (size_t)user->ngroups};
    bool changes = user->name[0] != '\0';
    int r = privileges_drop(changes ? &wanted : NULL, true);
    if (r < 0) {
        errno = -r;
        give_up(changes ? "cannot become user " : "cannot give up privileges", user->name);
    }
}

static void default_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    for (int number = 1; number < NSIG; number++)
        sigaction(number, &action, NULL); /* fails for a few, which cannot be changed anyway */
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void write_pid(char *out, pid_t pid)
{
    char digits[16];
    size_t n = 0;
    for (; pid > 0; pid /= 10)
        digits[n++] = (char)('0' + pid % 10);
    for (size_t i = 0; i < n; i++)
        out[i] = digits[n - 1 - i];
    out[n] = '\0';
}

_Noreturn static void become_worker(
    const struct launch *launch, struct words *words, int null, int output)
{
    setsid(); /* cannot fail: no group has the number of a process that has just been made */
    place_descriptors(null, output, launch->listener);
    become_user(launch->user);
    default_signals();
    write_pid(words->listen_pid, getpid());
    execve(launch->path, words->argv, words->envp);
    give_up("cannot execute ", launch->path);
}

int launch_start(const struct launch *launch, pid_t *ret_pid, int *ret_output)
{
    struct words words = {0};
    int pipe_fds[2] = {-1, -1};
    int null = -1;
    int r = make_words(launch, &words);
    if (r == 0 && pipe2(pipe_fds, O_CLOEXEC) < 0)
        r = -errno;
    if (r == 0 && fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK) < 0)
        r = -errno;
    /* So that it can open /dev/stderr. */
    if (r == 0 && launch->user->name[0] != '\0' &&
        fchown(pipe_fds[1], launch->user->uid, (gid_t)-1) < 0)
        r = -errno;
    if (r == 0 && (null = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0)
        r = -errno;
    if (r == 0) {
        sigset_t all;
        sigset_t before;
        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, &before);
        pid_t pid = fork();
        if (pid == 0)
            become_worker(launch, &words, null, pipe_fds[1]);
        r = pid < 0 ? -errno : 0;
        sigprocmask(SIG_SETMASK, &before, NULL);
        if (r == 0) {
            *ret_pid = pid;
            *ret_output = pipe_fds[0];
            pipe_fds[0] = -1;
        }
    }
    for (int i = 0; i < 2; i++) {
        if (pipe_fds[i] >= 0)
            close(pipe_fds[i]);
    }
    if (null >= 0)
        close(null);
    free_words(&words);
    return r;
}

int launch_signal(pid_t pid, int number)
{
    if (kill(-pid, number) == 0)
        return 0;
    /* One that has not come to setsid() yet, or that a program before this one has started. */
    return errno == ESRCH && kill(pid, number) == 0 ? 0 : -errno;
}
