/*
 * watch_init() puts an inotify watch on the pattern's folder and scans it. Every event leads to a
 * new scan; a file that is made anew is also told at once (appeared()). While the folder does not
 * exist, or inotify has no watch to give, it is scanned once a second instead.
 */

#include "frontd/shard/upstream/discovery.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/log.h"
#include "common/siphash.h"
#include "frontd/config/value.h"
#include "frontd/system/loop.h"

enum { SCAN_MS = 1000 };

static void on_scan_timer(uv_timer_t *timer);

/* After a scan without memory: it may be that no event leads to another one. */
static void scan_later(struct watch *watch)
{
    CHECK(uv_timer_start(&watch->scan, on_scan_timer, SCAN_MS, 0) == 0);
}

/* Whether this shard logs what all shards find alike: the first one does. */
static bool logs_for_all(const struct watch *watch)
{
    return watch->ctx->identity.shard == 0;
}

/* The files that a scan has found to fit, and to be no sockets. */
struct odd {
    uint64_t hash; /* of all of them */
    unsigned count;
    char first[160]; /* path and what it is */
};

static void note_odd(struct odd *odd, const char *path, const char *what)
{
    static const struct hash_key key = {1, 2}; /* only compared with what this process has made */
    odd->hash ^= hash_bytes(&key, path, strlen(path)) | 1;
    if (odd->count++ == 0)
        snprintf(odd->first, sizeof(odd->first), "%s: %s", path, what);
}

/* Logs them, once for each set. */
static void log_odd(struct watch *watch, const struct odd *odd)
{
    uint64_t hash = odd->count == 0 ? 0 : odd->hash | 1;
    if (hash != watch->odd && odd->count > 0 && logs_for_all(watch))
        log_warning("pool %s: %s; %u that fit %s are not used", watch->pool, odd->first, odd->count,
            watch->pattern);
    watch->odd = hash;
}

/* A scan has found a file that fits. */
static void meet_path(struct watch *watch, const char *path, struct odd *odd)
{
    char name[512];
    struct stat st;
    if (stat(path, &st) < 0) {
        if (errno != ENOENT) /* it was there a moment ago */
            note_odd(odd, path, log_error_text(-errno));
        else if (lstat(path, &st) == 0)
            note_odd(odd, path, "a symbolic link to nothing");
        return;
    }
    if (!S_ISSOCK(st.st_mode)) {
        note_odd(odd, path, "no socket");
        return;
    }
    snprintf(name, sizeof(name), "unix:%s", path);
    if (watch->ops->has_worker(watch, name))
        return;
    struct conf_address address;
    const char *wrong = conf_value_address(name, &address);
    if (wrong != NULL)
        log_warning("pool %s: worker %s: %s, ignored", watch->pool, name, wrong);
    else if (watch->ops->add_worker(watch, name, &address) < 0)
        scan_later(watch);
}

static bool path_fits(const struct watch *watch, const char *path)
{
    return fnmatch(watch->pattern, path, FNM_PATHNAME | FNM_PERIOD) == 0;
}

bool watch_fits(const struct watch *watch, const struct conf_address *address)
{
    return address->sock.any.sa_family == AF_UNIX && path_fits(watch, address->sock.un.sun_path);
}

/*
 * Not glob(): where it cannot open the folder for want of memory or descriptors it says that there
 * is nothing, and all workers would be let go of; and with glibc's, an allocation that fails may be
 * followed by a second free() of a name. A pattern has its wildcards in the last part only.
 */
static void scan(struct watch *watch)
{
    const char *folder_end = watch->folder[1] == '\0' ? "" : "/"; /* of "/" itself: none */
    struct odd odd = {0};
    watch->ops->scan_begun(watch);
    DIR *folder = opendir(watch->folder);
    if (folder == NULL && (errno == ENOMEM || errno == EMFILE || errno == ENFILE)) {
        log_error("pool %s: %s: cannot look for workers: %s", watch->pool, watch->pattern,
            log_error_text(-errno));
        scan_later(watch);
        return;
    }
    const struct dirent *entry;
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        char path[500]; /* far more than an address has */
        int n = snprintf(path, sizeof(path), "%s%s%s", watch->folder, folder_end, entry->d_name);
        if ((size_t)n < sizeof(path) && path_fits(watch, path))
            meet_path(watch, path, &odd);
    }
    if (folder != NULL)
        closedir(folder);
    log_odd(watch, &odd);
    watch->ops->scan_ended(watch);
}

/* Puts the watch on the folder where there is none; returns whether there is one now. */
static bool watch_folder(struct watch *watch)
{
    if (watch->handle >= 0)
        return true;
    watch->handle = inotify_add_watch(watch->fd, watch->folder,
        IN_CREATE | IN_MOVED_TO | IN_DELETE | IN_MOVED_FROM | IN_ATTRIB | IN_DELETE_SELF |
            IN_MOVE_SELF | IN_ONLYDIR);
    if (watch->handle >= 0) {
        if (watch->missing)
            log_info("pool %s: the folder %s is there now", watch->pool, watch->folder);
        watch->missing = false;
        uv_timer_stop(&watch->scan);
        return true;
    }
    if ((errno == ENOENT || errno == ENOTDIR) && !watch->missing && logs_for_all(watch)) {
        log_warning(
            "pool %s: there is no folder %s for its workers yet, looking there once a second",
            watch->pool, watch->folder);
        watch->missing = true;
    }
    if (errno != ENOENT && errno != ENOTDIR && !uv_is_active((uv_handle_t *)&watch->scan))
        log_warning("pool %s: cannot watch %s: %s, looking there once a second", watch->pool,
            watch->folder, log_error_text(-errno));
    CHECK(uv_timer_start(&watch->scan, on_scan_timer, SCAN_MS, SCAN_MS) == 0);
    return false;
}

static void on_scan_timer(uv_timer_t *timer)
{
    struct watch *watch = timer->data;
    watch_folder(watch);
    scan(watch);
}

/* A file has been made anew: a worker that could not be reached may listen there now. */
static void tell_appeared(struct watch *watch, const char *file)
{
    char name[512];
    snprintf(name, sizeof(name), "unix:%s%s%s", watch->folder,
        strcmp(watch->folder, "/") == 0 ? "" : "/", file);
    watch->ops->appeared(watch, name);
}

static void on_inotify(uv_poll_t *poll, int status, int events)
{
    (void)events;
    struct watch *watch = poll->data;
    _Alignas(struct inotify_event) char buffer[4096];
    ssize_t n = status < 0 ? -1 : read(watch->fd, buffer, sizeof(buffer));
    if (n <= 0)
        return;
    bool folder_gone = false;
    for (char *p = buffer; p < buffer + n;) {
        const struct inotify_event *event = (const void *)p;
        /* Removing a watch makes an event too, which comes when the next one is in place. */
        if (event->wd == watch->handle &&
            event->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED))
            folder_gone = true;
        if ((event->mask & (IN_CREATE | IN_MOVED_TO)) && event->len > 0)
            tell_appeared(watch, event->name);
        p += sizeof(*event) + event->len;
    }
    if (folder_gone) {
        inotify_rm_watch(watch->fd, watch->handle);
        watch->handle = -1;
        watch_folder(watch);
    }
    scan(watch);
}

int watch_init(struct watch *watch, struct ctx *ctx, const struct watch_ops *ops, void *owner,
    const char *pool, const char *pattern)
{
    *watch = (struct watch){
        .ctx = ctx, .ops = ops, .owner = owner, .pool = pool, .pattern = pattern, .handle = -1};
    const char *slash = strrchr(pattern, '/');
    watch->folder = slash == pattern ? mem_strdup("/")
                                     : mem_strndup(pattern, (size_t)(slash - pattern));
    if (watch->folder == NULL)
        return -ENOMEM;
    CHECK(uv_timer_init(&ctx->loop, &watch->scan) == 0);
    watch->scan.data = watch;
    watch->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (watch->fd < 0)
        return -errno;
    int r = loop_poll_init(&ctx->loop, &watch->poll, watch->fd);
    if (r < 0)
        return r;
    watch->poll.data = watch;
    r = uv_poll_start(&watch->poll, UV_READABLE, on_inotify);
    if (r < 0)
        return r;
    watch_folder(watch);
    scan(watch);
    return 0;
}

static void on_watch_closed(uv_handle_t *handle)
{
    struct watch *watch = handle->data;
    close(watch->fd);
}

void watch_close(struct watch *watch)
{
    uv_close((uv_handle_t *)&watch->scan, NULL);
    uv_close((uv_handle_t *)&watch->poll, on_watch_closed);
    watch->folder = mem_free(watch->folder);
}
