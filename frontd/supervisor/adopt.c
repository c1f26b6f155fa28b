/*
 * The record says which processes were started, what each is and what its generation was about to
 * do. reports.c finds those that are alive and hears them. The generation that served goes on, and
 * what is missing of it is started; one that was about to start is ended; an older one is there if
 * it was just leaving. The supervisor reloads afterwards, so that all shards are its own.
 *
 * Configs come from the record, and what wakes shards is made anew: the old ones find a free slot
 * without it, when they look for one by themselves.
 */

#include "frontd/supervisor/adopt.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/log.h"
#include "frontd/supervisor/discard.h"
#include "frontd/supervisor/reports.h"
#include "frontd/supervisor/shards_dir.h"
#include "frontd/supervisor/sockets/endpoint.h"

/* Its sockets, where another shard has not brought them already. */
static int take_sockets(struct front *front, const struct record *record, struct reporter *reporter)
{
    int r = 0;
    for (size_t i = 0; i < reporter->nsockets; i++) {
        int fd = reporter->sockets[i];
        uint64_t cookie = endpoint_cookie(fd);
        const struct record_endpoint *from = record_find_socket(record, cookie);
        struct endpoint *to = endpoints_find(&front->endpoints, &from->address);
        bool known = false;
        for (uint32_t k = 0; to != NULL && k < to->count; k++)
            known |= endpoint_cookie(to->fds[k]) == cookie;
        reporter->sockets[i] = -1;
        if (known || r < 0) {
            close(fd);
            continue;
        }
        bool fresh = to == NULL;
        r = endpoints_add(&front->endpoints, &from->address, fd);
        to = endpoints_find(&front->endpoints, &from->address);
        if (fresh && to != NULL) {
            to->shared = from->shared;
            to->dev = from->dev;
            to->ino = from->ino;
        }
    }
    reporter->nsockets = 0;
    return r;
}

static int take_shard(
    struct generation *generation, const struct record *record, struct reporter *reporter)
{
    struct front *front = generation->front;
    struct shard_process *process = &generation->processes[reporter->shard];
    process->seat = reporter->process->seat;
    process->incarnation = reporter->process->incarnation;
    process->mark = reporter->process->mark;
    int sock = reporter->sock;
    reporter->sock = -1;
    int r = take_sockets(front, record, reporter);
    if (r == 0)
        r = front_make_wake(front, process->seat);
    if (r < 0) {
        close(sock);
        return r;
    }
    r = shard_process_adopt(process, reporter->process->pid, sock, false, true);
    if (r != -ESRCH)
        return r;
    shard_process_lost(process, -1); /* it has ended meanwhile */
    return 0;
}

/* Any of them that reported has brought the same memory. */
static int take_share(struct reports *reports, size_t from)
{
    for (size_t i = 0; i < reports->count; i++) {
        struct reporter *reporter = &reports->all[i];
        if (reporter->generation == from && reporter->complete) {
            int fd = reporter->share;
            reporter->share = -1;
            return fd;
        }
    }
    return -ENOENT;
}

/* Makes a generation of what the record says. */
static int take_generation(struct front *front, struct reports *reports, size_t from, size_t slot)
{
    char error[512];
    const struct record_generation *found = &reports->record->generations[from];
    int conf_fd = generation_make_conf(found->conf, found->conf_n);
    if (conf_fd < 0)
        return conf_fd;
    struct generation *generation = generation_found(front, conf_fd, take_share(reports, from),
        &found->share, found->number, found->shards, error, sizeof(error));
    if (generation == NULL) {
        log_error("%s", error);
        return -EINVAL;
    }
    front->generations[slot] = generation;
    generation->role = slot == 0 ? GENERATION_SERVING : GENERATION_LEAVING;
    for (uint32_t k = 0; k < found->shards; k++)
        shard_process_init(&generation->processes[k], generation, k, SHARE_SEAT_LAST);
    generation->nprocesses = found->shards;
    int r = 0;
    for (size_t i = 0; r == 0 && i < reports->count; i++) {
        struct reporter *reporter = &reports->all[i];
        if (reporter->generation == from && reporter->complete)
            r = take_shard(generation, reports->record, reporter);
    }
    return r;
}

/* Shards that were killed with the supervisor, and their sockets, are made anew. */
static int complete(struct front *front, struct generation *generation)
{
    char error[512];
    generation_reclaim(front);
    if (endpoints_bind(&front->endpoints, generation->conf, error, sizeof(error)) < 0)
        log_error("%s", error); /* the others are served, and the reload tries again */
    int r = endpoints_listen(&front->endpoints);
    return r == 0 ? generation_seat_missing(generation) : r;
}

static int use(struct front *front, struct reports *reports)
{
    const struct record *record = reports->record;
    /* Where only some are left that were leaving, they have to do. */
    size_t serving = 0;
    while (reports_count(reports, serving) == 0)
        serving++;
    memcpy(front->instance, record->instance, sizeof(front->instance));
    memcpy(front->conn_key, record->conn_key, sizeof(front->conn_key));
    front->incarnations = record->incarnations;
    front->last_generation = record->last_generation;
    int r = take_generation(front, reports, serving, 0);
    for (size_t g = serving + 1; r == 0 && g < record->ngenerations; g++) {
        if (reports_count(reports, g) > 0)
            r = take_generation(front, reports, g, 1);
    }
    if (r == 0)
        r = complete(front, front->generations[0]);
    if (r < 0)
        return r;
    front->ops->changed(front);
    bool all = reports_count(reports, serving) == record->generations[serving].shards;
    log_info("found %s shards of generation %llu, which serve on", all ? "the" : "some",
        (unsigned long long)record->generations[serving].number);
    return 0;
}

/* Those that the supervisor before would not have kept. */
static void end_starting(struct reports *reports)
{
    for (size_t i = 0; i < reports->count; i++) {
        struct reporter *reporter = &reports->all[i];
        if (reports->record->generations[reporter->generation].role != GENERATION_STARTING)
            continue;
        log_info("pid %ld was about to replace a shard: ending it", (long)reporter->process->pid);
        reports_kill(reporter);
    }
    reports_wait_killed(reports);
}

/* Nobody else will ever hear them, and they hold the sockets. */
static void end_silent(struct reports *reports)
{
    for (size_t i = 0; i < reports->count; i++) {
        struct reporter *reporter = &reports->all[i];
        if (reporter->pidfd < 0 || reporter->complete)
            continue;
        log_error("shard %u (pid %ld) has not reported as it should, killing it", reporter->shard,
            (long)reporter->process->pid);
        reports_kill(reporter);
    }
    reports_wait_killed(reports);
}

static bool is_anybody_alive(const struct reports *reports)
{
    for (size_t i = 0; i < reports->count; i++) {
        if (reports->all[i].pidfd >= 0)
            return true;
    }
    return false;
}

static int find(struct front *front, struct reports *reports, int shards_dir,
    const struct spawn_user *user, bool *ret_found)
{
    end_starting(reports);
    if (!is_anybody_alive(reports))
        return 0;
    log_info("shards of a front that was killed are alive: waiting for their reports");
    int listener = shards_dir_listen(shards_dir, user, REPORTS_MAX);
    if (listener < 0)
        return listener;
    reports_collect(reports, listener);
    /* Who is still in its queue may have brought anything. */
    discard(&listener, 1, 0);
    shards_dir_unlink(shards_dir);
    end_silent(reports);
    *ret_found = reports_count(reports, SIZE_MAX) > 0;
    return *ret_found ? use(front, reports) : 0;
}

/* Returns 0 with *ret_record, which is NULL where there is none that is understood, or -errno. */
static int read_record(
    const struct front *front, struct record **ret_record, char *error, size_t error_size)
{
    *ret_record = NULL;
    int r = record_read(front->run_dir_fd, ret_record);
    if (r == -ENOENT)
        return 0;
    if (r == -EPERM || r == -ELOOP) {
        snprintf(error, error_size,
            "run_dir: " RECORD_NAME " is not a plain file of the user who runs frontd alone, so it "
            "is not believed: see who made it, and remove it");
        return r;
    }
    if (r == 0)
        return 0;
    log_error(RECORD_NAME
        " cannot be read (%s): should shards of a front that was killed be alive, they "
        "are not found",
        strerror(-r));
    return r == -ENOMEM ? r : 0;
}

int adopt_shards(struct front *front, const struct conf *conf, bool *ret_found, bool *ret_lost,
    char *error, size_t error_size)
{
    struct spawn_user user;
    char wrong[384] = "";
    struct record *record = NULL;
    struct reports *reports = NULL;
    *ret_found = false;
    *ret_lost = false;
    int dir = -1;
    int r = spawn_user_find(conf->user, &user);
    if (r < 0)
        snprintf(wrong, sizeof(wrong), "cannot find user %s: %s", conf->user, strerror(-r));
    if (r == 0)
        r = dir = shards_dir_open(front->run_dir_fd, &user, wrong, sizeof(wrong));
    if (r < 0) {
        snprintf(error, error_size, "run_dir %s: %s", conf->run_dir, wrong);
        return r;
    }
    r = read_record(front, &record, error, error_size);
    *ret_lost = record == NULL;
    if (r == 0 && record != NULL) {
        reports = mem_zalloc(sizeof(*reports));
        r = reports == NULL ? -ENOMEM : 0;
    }
    if (r == 0 && record != NULL) {
        reports_find(reports, record);
        r = find(front, reports, dir, &user, ret_found);
        reports_deinit(reports);
        if (r < 0)
            snprintf(error, error_size,
                "shards of a front that was killed are alive, and cannot be taken over: %s",
                strerror(-r));
    }
    if (r == 0 && !*ret_found)
        record_forget(front->run_dir_fd);
    mem_free(reports);
    record_free(record);
    close(dir);
    return r;
}
