/*
 * Whether shards are alive is told by a lock: all of them have run_dir/shards/alive.lock open by
 * the one description that is locked. Each tries the socket beside it again and again
 * (shard/report.c), and sends REPORT with its descriptors, LISTEN with its listening sockets, and
 * READY.
 *
 * The newest generation that accepts serves on, and what is missing of it is started; newer shards
 * were about to start and are ended; an older generation is there if it was just leaving. The
 * supervisor reloads afterwards, so that all shards are its own.
 */

#include "frontd/super/adopt.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "common/mem.h"

enum {
    WAIT_MS = 3000,  /* for all shards; they try every 100 ms */
    RETRY_MS = 100,  /* between two looks at the lock */
    QUIET_MS = 500,  /* after the last report, where no other shard is known of */
    REPORT_MS = 500, /* for the rest of a report */
    REPORTS_MAX = SUPER_GENERATIONS * CONF_SHARDS_MAX,
};

/* One shard, as it says. */
struct found {
    struct ctl_report report;
    int sock;
    int fds[CTL_START_FDS];
    int *sockets;
    size_t nsockets;
};

struct findings {
    struct found all[REPORTS_MAX];
    size_t count;
};

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* As root, the shards' user has to get into run_dir and its folder for shards. */
static int give_folder(const struct conf *conf, const char *path)
{
    if (conf->user == NULL || geteuid() != 0)
        return 0;
    errno = 0;
    const struct passwd *entry = getpwnam(conf->user);
    if (entry == NULL)
        return errno == 0 ? -ENOENT : -errno;
    if (lchown(conf->run_dir, (uid_t)-1, entry->pw_gid) < 0 ||
        lchown(path, entry->pw_uid, entry->pw_gid) < 0)
        return -errno;
    return 0;
}

static int make_folder(const struct conf *conf)
{
    char path[4096];
    struct stat st;
    if ((size_t)snprintf(path, sizeof(path), "%s/" CTL_REPORT_DIR, conf->run_dir) >= sizeof(path))
        return -ENAMETOOLONG;
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return -errno;
    if (lstat(path, &st) < 0 || !S_ISDIR(st.st_mode))
        return -ENOTDIR;
    return give_folder(conf, path);
}

static int open_lock(const struct conf *conf)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/" CTL_ALIVE_LOCK, conf->run_dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    return fd < 0 ? -errno : fd;
}

static int listen_for_reports(const struct conf *conf, struct sockaddr_un *ret_address)
{
    struct sockaddr_un *address = ret_address;
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    size_t room = sizeof(address->sun_path);
    if ((size_t)snprintf(address->sun_path, room, "%s/" CTL_REPORT_SOCK, conf->run_dir) >= room)
        return -ENAMETOOLONG;
    unlink(address->sun_path); /* the folder is ours alone, and so is the lock of run_dir */
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    const struct passwd *entry = conf->user != NULL && geteuid() == 0 ? getpwnam(conf->user) : NULL;
    if (bind(fd, (struct sockaddr *)address, sizeof(*address)) < 0 ||
        chmod(address->sun_path, 0600) < 0 ||
        (entry != NULL && lchown(address->sun_path, entry->pw_uid, entry->pw_gid) < 0) ||
        listen(fd, REPORTS_MAX) < 0) {
        int r = -errno;
        close(fd);
        return r;
    }
    return fd;
}

/* The process at the other end, if it may be one of our shards; else -1. */
static pid_t trusted_peer(int sock, const struct conf *conf)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);
    if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
        return -1;
    if (peer.uid == geteuid() || peer.uid == 0)
        return peer.pid;
    const struct passwd *entry = conf->user != NULL ? getpwnam(conf->user) : NULL;
    return entry != NULL && peer.uid == entry->pw_uid ? peer.pid : -1;
}

static int receive(int sock, struct ctl_message *message, int *fds, size_t *ret_nfds)
{
    struct pollfd poll_sock = {.fd = sock, .events = POLLIN};
    int r;
    while ((r = ctl_receive(sock, message, fds, ret_nfds)) == -EAGAIN) {
        if (poll(&poll_sock, 1, REPORT_MS) <= 0)
            return -ETIMEDOUT;
    }
    return r;
}

static int add_sockets(struct found *found, const int *fds, size_t nfds)
{
    int *sockets = mem_zalloc((found->nsockets + nfds + 1) * sizeof(*sockets));
    if (sockets == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < found->nsockets; i++)
        sockets[i] = found->sockets[i];
    memcpy(sockets + found->nsockets, fds, nfds * sizeof(*fds));
    mem_free(found->sockets);
    found->sockets = sockets;
    found->nsockets += nfds;
    return 0;
}

static void let_go(struct found *found)
{
    fdpass_close(found->sockets, found->nsockets);
    fdpass_close(found->fds, CTL_START_FDS);
    if (found->sock >= 0)
        close(found->sock);
    mem_free(found->sockets);
    *found = (struct found){.sock = -1};
    for (size_t i = 0; i < CTL_START_FDS; i++)
        found->fds[i] = -1;
}

/* Takes a report in full. sock: consumed. pid: who is there. Returns 0 or -errno. */
static int take_report(struct found *found, int sock, pid_t pid)
{
    struct ctl_message message;
    int fds[FDPASS_FDS_MAX];
    size_t nfds;
    int r = receive(sock, &message, fds, &nfds);
    if (r == 0 && message.type != CTL_REPORT) {
        fdpass_close(fds, nfds);
        r = -EPROTO;
    }
    if (r < 0) {
        close(sock);
        return r;
    }
    *found = (struct found){.sock = sock, .report = message.u.report};
    memcpy(found->fds, fds, sizeof(found->fds));
    const struct ctl_start *start = &found->report.start;
    /* A process that may be killed later has to be the one that says so. */
    bool valid = start->seat <= SHARE_SEAT_LAST && start->shard < start->shards &&
                 start->shards <= CONF_SHARDS_MAX && pid > 0 && found->report.pid == pid;
    r = valid ? 0 : -EPROTO;
    while (r == 0 && (r = receive(sock, &message, fds, &nfds)) == 0) {
        if (message.type == CTL_READY)
            return 0;
        r = message.type == CTL_LISTEN ? add_sockets(found, fds, nfds) : -EPROTO;
        if (r < 0)
            fdpass_close(fds, nfds);
    }
    let_go(found);
    return r;
}

/* Whether that cannot be true, as the others have reported: each place is one shard's. */
static bool contradicts(const struct findings *findings, const struct ctl_start *start)
{
    for (size_t i = 0; i < findings->count; i++) {
        const struct ctl_start *other = &findings->all[i].report.start;
        if (other->seat == start->seat)
            return true;
        if (other->generation == start->generation &&
            (other->shard == start->shard || other->shards != start->shards))
            return true;
    }
    return false;
}

static size_t count_of(const struct findings *findings, uint64_t generation)
{
    size_t n = 0;
    for (size_t i = 0; i < findings->count; i++)
        n += findings->all[i].report.start.generation == generation;
    return n;
}

/*
 * The newest generation that serves clients; 0: none does. *ret_complete: all its shards have
 * reported.
 */
static uint64_t newest_serving(const struct findings *findings, bool *ret_complete)
{
    uint64_t newest = 0;
    *ret_complete = false;
    for (size_t i = 0; i < findings->count; i++) {
        const struct ctl_report *report = &findings->all[i].report;
        if (report->leaving || !report->open || report->start.generation < newest)
            continue;
        newest = report->start.generation;
        *ret_complete = count_of(findings, newest) == report->start.shards;
    }
    return newest;
}

/*
 * Whether as many have reported as any of them knows of. An old one that still has connections to
 * give away may be slower than the new ones; without a supervisor it would lose them in the end.
 */
static bool all_known_reported(const struct findings *findings)
{
    for (size_t i = 0; i < findings->count; i++) {
        if (findings->all[i].report.known > findings->count)
            return false;
    }
    return true;
}

/* Until all have reported, or *lock can be had: then the last of them has ended before. */
static void collect(struct findings *findings, int listener, int lock, const struct conf *conf)
{
    struct pollfd poll_listener = {.fd = listener, .events = POLLIN};
    uint64_t until = now_ms() + WAIT_MS;
    uint64_t last = now_ms();
    while (findings->count < REPORTS_MAX) {
        uint64_t now = now_ms();
        bool complete;
        newest_serving(findings, &complete);
        bool quick = complete && all_known_reported(findings);
        uint64_t end = quick ? MIN(until, last + QUIET_MS) : until;
        if (now >= end || (findings->count == 0 && flock(lock, LOCK_EX | LOCK_NB) == 0))
            return;
        if (poll(&poll_listener, 1, (int)MIN(end - now, (uint64_t)RETRY_MS)) <= 0)
            continue;
        int sock = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (sock < 0)
            continue;
        pid_t pid = trusted_peer(sock, conf);
        if (pid < 0) {
            log_warning("somebody else reports as a shard: refused");
            close(sock);
            continue;
        }
        int r = take_report(&findings->all[findings->count], sock, pid);
        if (r < 0) {
            log_warning("a shard reports in a way that is not understood: %s", strerror(-r));
            continue;
        }
        if (contradicts(findings, &findings->all[findings->count].report.start)) {
            log_warning("a shard reports twice, or as another one: refused");
            let_go(&findings->all[findings->count]);
            continue;
        }
        findings->count++;
        last = now_ms();
    }
}

/* Its sockets, where another shard has not brought them already. */
static int take_sockets(struct super *super, struct found *found)
{
    for (size_t i = 0; i < found->nsockets; i++) {
        struct conf_address address;
        struct stat mine;
        struct stat other;
        int fd = found->sockets[i];
        found->sockets[i] = -1;
        bool known = fstat(fd, &mine) < 0 || endpoint_address(fd, &address) < 0;
        const struct endpoint *endpoint = known ? NULL
                                                : endpoints_find(&super->endpoints, &address);
        for (uint32_t k = 0; endpoint != NULL && k < endpoint->count; k++)
            known |= fstat(endpoint->fds[k], &other) == 0 && other.st_ino == mine.st_ino;
        if (known) {
            close(fd);
            continue;
        }
        int r = endpoints_add(&super->endpoints, &address, fd);
        if (r < 0)
            return r;
    }
    found->nsockets = 0;
    return 0;
}

static int take_shard(struct generation *generation, struct found *found)
{
    const struct ctl_start *start = &found->report.start;
    struct child *child = &generation->children[start->shard];
    child->seat = start->seat;
    child->incarnation = start->incarnation;
    struct super *super = generation->super;
    super->incarnations = MAX(super->incarnations, start->incarnation);
    super->wake_fds[start->seat] = found->fds[CTL_WAKE];
    found->fds[CTL_WAKE] = -1;
    int sock = found->sock;
    found->sock = -1;
    int r = take_sockets(super, found);
    if (r == 0)
        r = child_adopt(child, found->report.pid, sock, false);
    if (r != -ESRCH)
        return r;
    child_lost(child, -1); /* it has ended meanwhile */
    return 0;
}

/* Makes a generation of what its shards say. */
static int take_generation(
    struct super *super, struct findings *findings, uint64_t number, size_t slot)
{
    struct generation *generation = NULL;
    char error[512];
    int r = 0;
    for (size_t i = 0; r == 0 && i < findings->count; i++) {
        struct found *found = &findings->all[i];
        if (found->report.start.generation != number)
            continue;
        if (generation == NULL) {
            uint32_t shards = found->report.start.shards;
            generation = generation_found(super, found->fds[CTL_CONF], found->fds[CTL_SHARE],
                number, shards, error, sizeof(error));
            found->fds[CTL_CONF] = found->fds[CTL_SHARE] = -1;
            if (generation == NULL) {
                log_error("%s", error);
                return -EINVAL;
            }
            super->generations[slot] = generation;
            generation->role = slot == 0 ? GENERATION_SERVING : GENERATION_LEAVING;
            for (uint32_t k = 0; k < shards; k++)
                child_init(&generation->children[k], generation, k, SHARE_SEAT_LAST);
            generation->nchildren = shards;
        }
        r = take_shard(generation, found);
    }
    return r;
}

/* Who this front is, from any shard of it. */
static void take_identity(struct super *super, struct found *found)
{
    memcpy(super->instance, found->report.start.instance, sizeof(super->instance));
    super->instance[sizeof(super->instance) - 1] = '\0';
    memcpy(super->conn_key, found->report.start.conn_key, sizeof(super->conn_key));
    super->alive_fd = found->fds[CTL_ALIVE];
    found->fds[CTL_ALIVE] = -1;
}

/* Of those that do not serve: who leaves does so; who was about to start ends. */
static int settle_others(struct super *super, struct findings *findings, uint64_t serving)
{
    uint64_t leaving = 0;
    for (size_t i = 0; i < findings->count; i++) {
        const struct ctl_report *report = &findings->all[i].report;
        if (report->start.generation == serving)
            continue;
        if (report->start.generation < serving && (leaving == 0 || report->leaving)) {
            leaving = report->start.generation;
        } else if (report->start.generation > serving) {
            log_info("pid %d was about to replace a shard: ending it", report->pid);
            kill(report->pid, SIGKILL);
        }
    }
    return leaving == 0 ? 0 : take_generation(super, findings, leaving, 1);
}

/* What those who were killed too held in the shared memory is free again. */
static void reclaim_empty_seats(const struct super *super, struct share *share)
{
    uint64_t taken = 0;
    for (size_t g = 0; g < SUPER_GENERATIONS; g++) {
        const struct generation *generation = super->generations[g];
        for (uint32_t i = 0; generation != NULL && i < generation->nchildren; i++) {
            if (generation->children[i].pid > 0)
                taken |= (uint64_t)1 << generation->children[i].seat;
        }
    }
    for (unsigned seat = 0; share != NULL && seat <= SHARE_SEAT_LAST; seat++) {
        if (!(taken >> seat & 1))
            share_reclaim(share, seat);
    }
}

/* Shards that were killed with the supervisor, and their sockets, are made anew. */
static int complete(struct super *super, struct generation *generation)
{
    char error[512];
    reclaim_empty_seats(super, generation->share);
    if (endpoints_bind(&super->endpoints, generation->conf, error, sizeof(error)) < 0)
        log_error("%s", error); /* the others are served, and the reload tries again */
    int r = endpoints_listen(&super->endpoints);
    return r == 0 ? generation_seat_missing(generation) : r;
}

static int use(struct super *super, struct findings *findings)
{
    bool all;
    uint64_t serving = newest_serving(findings, &all);
    /* Where only some are left that were leaving, or had not begun, they have to do. */
    for (size_t i = 0; serving == 0 && i < findings->count; i++)
        serving = findings->all[i].report.start.generation;
    struct found *first = &findings->all[0];
    for (size_t i = 0; i < findings->count; i++) {
        if (findings->all[i].report.start.generation == serving)
            first = &findings->all[i];
    }
    take_identity(super, first);
    int r = take_generation(super, findings, serving, 0);
    if (r == 0)
        r = settle_others(super, findings, serving);
    if (r == 0)
        r = complete(super, super->generations[0]);
    if (r < 0)
        return r;
    log_info("found %s shards of generation %llu, which serve on", all ? "the" : "some",
        (unsigned long long)serving);
    return 0;
}

/* *ret_found: whether there was any; else the lock is ours. */
static int find(struct super *super, const struct conf *conf, int lock, bool *ret_found)
{
    struct sockaddr_un address;
    int listener = listen_for_reports(conf, &address);
    if (listener < 0)
        return listener;
    struct findings *findings = mem_zalloc(sizeof(*findings));
    int r = findings == NULL ? -ENOMEM : 0;
    if (r == 0) {
        collect(findings, listener, lock, conf);
        *ret_found = findings->count > 0;
        if (*ret_found)
            r = use(super, findings);
        else if (flock(lock, LOCK_EX | LOCK_NB) < 0)
            r = -ETIMEDOUT;
        for (size_t i = 0; i < findings->count; i++)
            let_go(&findings->all[i]);
    }
    mem_free(findings);
    close(listener);
    unlink(address.sun_path);
    return r;
}

int adopt_shards(
    struct super *super, const struct conf *conf, bool *ret_found, char *error, size_t error_size)
{
    int r = make_folder(conf);
    int lock = r < 0 ? r : open_lock(conf);
    *ret_found = false;
    if (lock < 0) {
        snprintf(error, error_size, "run_dir %s: cannot make its folder for shards: %s",
            conf->run_dir, strerror(-lock));
        return lock;
    }
    if (flock(lock, LOCK_EX | LOCK_NB) < 0) {
        log_info("shards of a front that was killed are alive: waiting for their reports");
        r = find(super, conf, lock, ret_found);
    }
    if (r == 0 && !*ret_found) {
        super->alive_fd = lock; /* it is locked for the shards to come */
        return 0;
    }
    close(lock);
    if (r < 0)
        snprintf(error, error_size,
            "shards of a front that was killed are alive, and cannot be taken over: %s",
            strerror(-r));
    return r;
}
