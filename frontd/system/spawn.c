/*
 * spawn_start() makes the environment, which needs memory, blocks signals, and forks. The new
 * process has one thread and a copy of everything: it begins a session, puts descriptors in order,
 * gives privileges up, gives signals their defaults, and executes its program. Signals stay blocked
 * until their handlers are gone, since those of libuv would write into the pipe that it shares with
 * its parent.
 */

#include "frontd/system/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/system/privileges.h"

int spawn_user_find(const char *name, struct spawn_user *ret_user)
{
    if (name == NULL || geteuid() != 0) {
        *ret_user = (struct spawn_user){.uid = geteuid(), .gid = getegid()};
        return 0;
    }
    errno = 0;
    const struct passwd *entry = getpwnam(name);
    if (entry == NULL)
        return errno == 0 ? -ENOENT : -errno;
    struct spawn_user user = {
        .uid = entry->pw_uid, .gid = entry->pw_gid, .ngroups = SPAWN_GROUPS_MAX};
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

int spawn_find(const char *program, char *ret_path, size_t size)
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

static bool is_left_out(const char *const *names, const char *variable)
{
    size_t n = strcspn(variable, "=");
    for (; names != NULL && *names != NULL; names++) {
        if (strlen(*names) == n && strncmp(variable, *names, n) == 0)
            return true;
    }
    return false;
}

/* What execve() takes; the texts are borrowed. */
struct words {
    char **argv;
    char **envp;
};

static void words_deinit(struct words *words)
{
    mem_free(words->argv);
    mem_free(words->envp);
}

static int words_init(struct words *words, const struct spawn *spawn)
{
    size_t nours = 0;
    while (environ[nours] != NULL)
        nours++;
    words->argv = mem_zalloc((spawn->n + 1) * sizeof(char *));
    words->envp = mem_zalloc((nours + spawn->nwith + 1) * sizeof(char *));
    if (words->argv == NULL || words->envp == NULL) {
        words_deinit(words);
        return -ENOMEM;
    }
    size_t n = 0;
    for (size_t i = 0; i < spawn->n; i++)
        words->argv[i] = spawn->words[i];
    for (size_t i = 0; i < nours; i++) {
        if (!is_left_out(spawn->without, environ[i]))
            words->envp[n++] = environ[i];
    }
    for (size_t i = 0; i < spawn->nwith; i++)
        words->envp[n++] = spawn->with[i];
    return 0;
}

/* From here on in the new process, with async-signal-safe calls only. */

_Noreturn static void give_up(const struct spawn *spawn, const char *what, const char *name)
{
    const char *why = strerrordesc_np(errno);
    const char *const parts[] = {what, name, ": ", why == NULL ? "?" : why, "\n"};
    for (size_t i = 0; spawn->told != NULL && i < ARRAY_LEN(parts); i++) {
        if (write(STDERR_FILENO, parts[i], strlen(parts[i])) < 0)
            break;
    }
    _exit(SPAWN_FAILED);
}

/*
 * Those that stand where another one goes are moved out of the way first. Standard error comes
 * before the others, for what is to be said of them.
 */
static void place_descriptors(const struct spawn *spawn)
{
    static const int order[SPAWN_FDS_MAX] = {STDERR_FILENO, 0, 1, 3};
    int fds[SPAWN_FDS_MAX] = {0};
    int n = (int)spawn->nfds;
    for (int i = 0; i < n; i++) {
        bool in_the_way = spawn->fds[i] >= 0 && spawn->fds[i] < n && spawn->fds[i] != i;
        fds[i] = in_the_way ? fcntl(spawn->fds[i], F_DUPFD, n) : spawn->fds[i];
        if (in_the_way && fds[i] < 0)
            give_up(spawn, "cannot take over descriptors", "");
    }
    for (int k = 0; k < SPAWN_FDS_MAX; k++) {
        int i = order[k];
        if (i >= n || fds[i] < 0)
            continue;
        if (fds[i] == i ? fcntl(i, F_SETFD, 0) < 0 : dup2(fds[i], i) < 0)
            give_up(spawn, "cannot take over descriptors", "");
    }
    close_range((unsigned)n, ~0U, 0);
}

static void give_up_privileges(const struct spawn *spawn)
{
    const struct spawn_user *user = spawn->user;
    if (spawn->privileges != SPAWN_UNPRIVILEGED) {
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        if (spawn->privileges == SPAWN_GAINS_NONE)
            prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        return;
    }
    const struct privileges_user wanted = {.uid = user->uid,
        .gid = user->gid,
        .groups = user->groups,
        .ngroups = (size_t)user->ngroups};
    bool changes = user->name[0] != '\0';
    int r = privileges_drop(changes ? &wanted : NULL, true);
    if (r < 0) {
        errno = -r;
        give_up(spawn, changes ? "cannot become user " : "cannot give up privileges", user->name);
    }
}

static void default_signals(bool ignored_too)
{
    const struct sigaction normal = {.sa_handler = SIG_DFL};
    struct sigaction action;
    for (int number = 1; number < NSIG; number++) {
        if (sigaction(number, NULL, &action) == 0 && (ignored_too || action.sa_handler != SIG_IGN))
            sigaction(number, &normal, NULL); /* fails for a few, which cannot be changed anyway */
    }
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

_Noreturn static void become(const struct spawn *spawn, const struct words *words)
{
    if (spawn->leads)
        setsid(); /* cannot fail: no group has the number of a process that has just been made */
    place_descriptors(spawn);
    give_up_privileges(spawn);
    default_signals(spawn->unignores);
    if (spawn->path == NULL) {
        spawn->run();
        _exit(0);
    }
    if (spawn->pid_text != NULL)
        write_pid(spawn->pid_text, getpid());
    execve(spawn->path, words->argv, words->envp);
    give_up(spawn, "cannot execute ", spawn->told);
}

/* Here again in the parent. */

int spawn_start(const struct spawn *spawn, pid_t *ret_pid)
{
    CHECK(spawn->nfds <= SPAWN_FDS_MAX);
    struct words words;
    int r = words_init(&words, spawn);
    if (r < 0)
        return r;
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    if (pid == 0)
        become(spawn, &words);
    r = pid < 0 ? -errno : 0;
    sigprocmask(SIG_SETMASK, &before, NULL);
    words_deinit(&words);
    if (r == 0)
        *ret_pid = pid;
    return r;
}
