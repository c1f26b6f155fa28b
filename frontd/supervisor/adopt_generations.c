/*
 * The generation that served goes on, and what is missing of it is started; an older one is there
 * if it was just leaving. Configs come from the record, and what wakes shards is made anew: the old
 * ones find a free slot without it, when they look for one by themselves.
 */

#include "frontd/supervisor/adopt_generations.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "frontd/supervisor/generation.h"
#include "frontd/supervisor/record.h"
#include "frontd/supervisor/sockets/endpoint.h"

/*
 * Adds the sockets of a report to the endpoints, where another shard has not brought them already.
 */
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
    process->asks = reporter->process->asks;
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

/* Takes the shared memory of a generation: each of its shards has brought the same. */
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
    struct generation *generation = generation_found(front, conf_fd, -1, take_share(reports, from),
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

/*
 * Makes sockets and seats anew for shards that were killed with the supervisor; they start later.
 */
static int complete(struct front *front, struct generation *generation)
{
    char error[512];
    generation_reclaim(front);
    if (endpoints_bind(&front->endpoints, generation->conf, error, sizeof(error)) < 0)
        log_error("%s", error); /* the others are served, and the reload tries again */
    int r = endpoints_listen(&front->endpoints);
    return r == 0 ? generation_seat_missing(generation) : r;
}

int adopt_generations(struct front *front, struct reports *reports)
{
    const struct record *record = reports->record;
    /* Where only some are left that were leaving, they have to do. */
    size_t serving = 0;
    while (reports_count(reports, serving) == 0)
        serving++;
    memcpy(front->instance, record->instance, sizeof(front->instance));
    memcpy(front->conn_key, record->conn_key, sizeof(front->conn_key));
    front->started = record->started;
    front->incarnations = record->incarnations;
    front->last_generation = record->last_generation;
    if (reports->tickets != NULL)
        ticket_ring_set(&front->tickets, reports->tickets);
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
