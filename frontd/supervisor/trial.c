#include "frontd/supervisor/trial.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "frontd/config/file.h"
#include "frontd/config/lines.h"
#include "frontd/ipc/control.h"
#include "frontd/supervisor/access_file.h"
#include "frontd/supervisor/admin_token.h"
#include "frontd/supervisor/paths.h"
#include "frontd/supervisor/record.h"
#include "frontd/supervisor/sockets/endpoint.h"
#include "frontd/supervisor/sockets/endpoints.h"
#include "frontd/supervisor/startup.h"
#include "frontd/supervisor/tls/load.h"
#include "frontd/system/folder.h"
#include "frontd/system/spawn.h"

struct trial {
    const char *file;
    struct conf_lines lines;
    unsigned findings;
    bool warns; /* it only warns, of what is missing */
};

static const char may_be_itself[] = "; at a reload that may be the frontd that is reloaded";

static void on_finding(void *data, const char *text)
{
    struct trial *trial = data;
    fprintf(stderr, "%s\n", text);
    trial->findings++;
}

__attribute__((format(printf, 3, 4))) static void tell(
    struct trial *trial, const char *key, const char *format, ...)
{
    char what[3072];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    fprintf(stderr, "%s%s:%u: %s: %s\n", trial->warns ? "warning: " : "", trial->file,
        conf_lines_near(&trial->lines, key), key, what);
    trial->findings++;
}

/* Whether a path stands right in run_dir, which is made first, where there is none yet. */
static bool is_in_run_dir(const struct conf *conf, const char *path)
{
    size_t n = strlen(conf->run_dir);
    return strncmp(path, conf->run_dir, n) == 0 && strrchr(path, '/') == path + n;
}

/* Tries the addresses of one key of the config. text: what is written there. */
static void try_addresses(struct trial *trial, const struct conf *conf, const char *key,
    const char *text, const struct conf_address *addresses, uint32_t n)
{
    bool bound = false; /* on one of them */
    int r = 0;
    for (uint32_t i = 0; i < n && (r == 0 || endpoint_is_foreign(r)); i++) {
        r = endpoint_probe(&addresses[i]);
        bound |= r == 0;
    }
    if (endpoint_is_foreign(r) && bound)
        return;
    if (r == -ENOENT && is_in_run_dir(conf, addresses[0].sock.un.sun_path))
        return;
    if (r < 0)
        tell(trial, key, "cannot listen on %s: %s%s", text, endpoint_explain(r),
            r == -EADDRINUSE ? may_be_itself : "");
}

static void try_listener(struct trial *trial, const struct conf *conf, unsigned index)
{
    const struct conf_listener *listener = &conf->listeners[index];
    char key[64];
    snprintf(key, sizeof(key), "listeners[%u].address", index);
    try_addresses(trial, conf, key, listener->text, listener->addresses, listener->naddresses);
}

/* Whether it is a folder that may be used in that way (faccessat(2)). Returns 0 or -errno. */
static int check_folder(const char *path, int mode)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return -errno;
    if (!S_ISDIR(st.st_mode))
        return -ENOTDIR;
    return faccessat(AT_FDCWD, path, mode, AT_EACCESS) < 0 ? -errno : 0;
}

/*
 * The process that has locked a file; 0: none, or it is not known. To lock it and see would keep a
 * frontd that starts now from it.
 */
static long holder_of(const struct stat *file)
{
    char line[256];
    long holder = 0;
    FILE *locks = fopen("/proc/locks", "re");
    while (locks != NULL && holder == 0 && fgets(line, sizeof(line), locks) != NULL) {
        long pid;
        unsigned long long inode;
        /* 1: FLOCK  ADVISORY  WRITE 4711 00:1a:5678 0 EOF */
        if (sscanf(line, "%*s FLOCK %*s WRITE %ld %*x:%*x:%llu", &pid, &inode) == 2 &&
            inode == file->st_ino)
            holder = pid;
    }
    if (locks != NULL)
        fclose(locks);
    return holder;
}

/* Looks at a folder of ours in run_dir, if it is there already. */
static void try_subfolder(struct trial *trial, const char *run_dir, const char *name)
{
    char path[2048];
    struct stat st;
    snprintf(path, sizeof(path), "%s/%s", run_dir, name);
    if (lstat(path, &st) < 0)
        return;
    if (!S_ISDIR(st.st_mode))
        tell(trial, "run_dir", "%s is no folder", path);
    else if (st.st_uid != geteuid())
        tell(trial, "run_dir", "%s belongs to another user", path);
}

/* Looks at the folder of shards, as shards_dir_open() would. */
static void try_shards_dir(struct trial *trial, const struct conf *conf, int run_dir)
{
    struct spawn_user user;
    struct stat st;
    if (fstatat(run_dir, CTL_REPORT_DIR, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return;
    if (!S_ISDIR(st.st_mode)) {
        tell(trial, "run_dir", "%s/" CTL_REPORT_DIR " is no folder", conf->run_dir);
        return;
    }
    bool ours = st.st_uid == geteuid() && (st.st_mode & (S_IWGRP | S_IWOTH)) == 0;
    bool before = spawn_user_find(conf->user, &user) == 0 && user.name[0] != '\0' &&
                  st.st_uid == user.uid && (st.st_mode & 07777) == 0700;
    if (!ours && !before)
        tell(trial, "run_dir",
            "%s/" CTL_REPORT_DIR " is of user %u, mode %04o: anything may be in "
            "it",
            conf->run_dir, (unsigned)st.st_uid, (unsigned)(st.st_mode & 07777));
}

/*
 * Looks at a file of the supervisor's in run_dir, if it is there already: plain, and of us alone.
 */
static void try_file(struct trial *trial, const struct conf *conf, int run_dir, const char *name)
{
    int fd = folder_open_file(run_dir, name, O_RDONLY, 0);
    if (fd >= 0)
        close(fd);
    else if (fd == -EPERM || fd == -ELOOP)
        tell(trial, "run_dir", "%s/%s is not a plain file of the user who runs frontd alone",
            conf->run_dir, name);
    else if (fd != -ENOENT)
        tell(trial, "run_dir", "%s/%s: %s", conf->run_dir, name, strerror(-fd));
}

static void try_run_dir(struct trial *trial, const struct conf *conf)
{
    char path[2048];
    char error[512] = "";
    struct stat st;
    int r = check_folder(conf->run_dir, W_OK | X_OK);
    if (r == -ENOENT) {
        size_t n = (size_t)snprintf(path, sizeof(path), "%s", conf->run_dir);
        while (n > 1 && path[n - 1] == '/')
            path[--n] = '\0';
        char *slash = strrchr(path, '/');
        slash[slash == path ? 1 : 0] = '\0';
        r = check_folder(path, W_OK | X_OK);
        if (r < 0)
            tell(trial, "run_dir", "%s: cannot make it: %s: %s", conf->run_dir, path, strerror(-r));
        else if (folder_open(conf->run_dir, false, error, sizeof(error)) != -ENOENT)
            tell(trial, "run_dir", "%s", error); /* what is on the way to it */
        return;
    }
    if (r < 0) {
        tell(trial, "run_dir", "%s: %s", conf->run_dir, strerror(-r));
        return;
    }
    int run_dir = folder_open(conf->run_dir, false, error, sizeof(error));
    if (run_dir < 0) {
        tell(trial, "run_dir", "%s", error);
        return;
    }
    try_shards_dir(trial, conf, run_dir);
    try_file(trial, conf, run_dir, STARTUP_PID_FILE);
    try_file(trial, conf, run_dir, RECORD_NAME);
    close(run_dir);
    bool workers = false;
    for (uint32_t i = 0; i < conf->npools; i++)
        workers |= conf->pools[i].command != NULL;
    if (workers)
        try_subfolder(trial, conf->run_dir, CONF_MANAGED_DIR);
    snprintf(path, sizeof(path), "%s/" STARTUP_PID_FILE, conf->run_dir);
    long holder = lstat(path, &st) < 0 ? 0 : holder_of(&st);
    if (holder > 0)
        tell(trial, "run_dir", "another frontd runs with it, process %ld%s", holder, may_be_itself);
}

static bool is_known(const char *host)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    if (getaddrinfo(host, NULL, &hints, &found) != 0)
        return false;
    freeaddrinfo(found);
    return true;
}

static void try_worker(struct trial *trial, const struct conf *conf,
    const struct conf_worker *worker, unsigned pool, unsigned index)
{
    char folder[1200];
    char key[64];
    snprintf(key, sizeof(key), "pools[%u].workers[%u]", pool, index);
    if (worker->host != NULL && !is_known(worker->host))
        tell(trial, key, "'%s': the host cannot be resolved; it is looked up again all the time",
            worker->text);
    if (worker->pattern == NULL)
        return;
    const char *slash = strrchr(worker->pattern, '/');
    int n = slash == worker->pattern ? 1 : (int)(slash - worker->pattern);
    if ((size_t)snprintf(folder, sizeof(folder), "%.*s", n, worker->pattern) >= sizeof(folder))
        return;
    int r = check_folder(folder, X_OK);
    if (trial->warns && r == -EACCES)
        return; /* the user who asks may not be the one who runs it */
    if (r < 0 && !(r == -ENOENT && is_in_run_dir(conf, worker->pattern)))
        tell(trial, key, "%s: %s; frontd would look again once a second", folder, strerror(-r));
}

static void try_pool(struct trial *trial, const struct conf *conf, unsigned index)
{
    const struct conf_pool *pool = &conf->pools[index];
    char path[4096];
    char key[64];
    for (unsigned i = 0; pool->command == NULL && i < pool->nworkers; i++)
        try_worker(trial, conf, &pool->workers[i], index, i);
    if (pool->command == NULL)
        return;
    int r = spawn_find(pool->command[0], path, sizeof(path));
    snprintf(key, sizeof(key), "pools[%u].command[0]", index);
    if (r < 0)
        tell(trial, key, "'%s': %s", pool->command[0], strerror(-r));
}

static void on_odd(void *data, const char *text)
{
    (void)data;
    fprintf(stderr, "warning: %s\n", text);
}

void trial_warn(const char *conf_name, const struct conf *conf, const struct buf *text)
{
    struct trial trial = {.file = conf_name, .warns = true};
    conf_lines_read(&trial.lines, buf_data(text), buf_len(text));
    for (uint32_t i = 0; i < conf->npools; i++)
        try_pool(&trial, conf, i);
    conf_lines_deinit(&trial.lines);
}

int trial_secrets(
    const char *conf_name, const struct conf *conf, bool warns, char *error, size_t error_size)
{
    const struct conf_findings findings = {.odd = warns ? on_odd : NULL};
    int r = tls_load(conf_name, conf, time(NULL), &findings, NULL, NULL, error, error_size);
    return r < 0 ? r : admin_token_load(conf_name, conf, &findings, NULL, error, error_size);
}

/* As a start would: what it cannot read, or write to, is wrong. */
static void try_files(struct trial *trial, const struct conf *conf)
{
    const struct conf_findings findings = {.odd = on_odd};
    char error[5120];
    int fd = -1;
    if (tls_load(trial->file, conf, time(NULL), &findings, &fd, NULL, error, sizeof(error)) < 0)
        on_finding(trial, error);
    if (fd >= 0)
        close(fd);
    fd = -1;
    if (admin_token_load(trial->file, conf, &findings, &fd, error, sizeof(error)) < 0)
        on_finding(trial, error);
    if (fd >= 0)
        close(fd);
    if (access_file_try(trial->file, conf, error, sizeof(error)) < 0)
        on_finding(trial, error);
}

int trial_run(const char *conf_name)
{
    struct trial trial = {.file = conf_name};
    const struct conf_findings findings = {.found = on_finding, .odd = on_odd, .data = &trial};
    struct buf text;
    struct conf *conf;
    char error[512];
    if (conf_file_try(conf_name, &findings, &text, &conf, error, sizeof(error)) < 0) {
        fprintf(stderr, "%s\n", error);
        return 1;
    }
    conf_lines_read(&trial.lines, buf_data(&text), buf_len(&text));
    int r = paths_try_self();
    if (r < 0) {
        fprintf(stderr, PATHS_SELF_WANTED "\n", strerror(-r));
        trial.findings++;
    }
    try_run_dir(&trial, conf);
    try_files(&trial, conf);
    for (uint32_t i = 0; i < conf->nlisteners; i++)
        try_listener(&trial, conf, i);
    if (conf->admin.text != NULL)
        try_addresses(&trial, conf, "admin.address", conf->admin.text, conf->admin.addresses,
            conf->admin.naddresses);
    for (uint32_t i = 0; i < conf->npools; i++)
        try_pool(&trial, conf, i);
    conf_lines_deinit(&trial.lines);
    buf_deinit(&text);
    conf_free(conf);
    return trial.findings > 0 ? 1 : 0;
}
