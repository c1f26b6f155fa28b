/*
 * shard_setup() sends START (what the shard is, its config, the shared memory), TICKETS and TLS
 * (where a listener has tls), ACCESS_LOG and TRACE (where the config has them), LISTEN (its
 * sockets), PEER (a socket to each shard that there is) and RUN. What fails ends it: the shard is
 * killed by the caller. A shard at the other end of a new socket that does not read is killed, too,
 * and is not waited for.
 */

#include "frontd/supervisor/shard_setup.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "common/secret.h"
#include "frontd/supervisor/generation.h"

enum { CROWDED_TRIES = 500 /* a millisecond each: for shards to take descriptors */ };

/*
 * Sends a message with descriptors. The kernel counts how many of one user's are on their way, and
 * refuses more than RLIMIT_NOFILE of the sender to a process without the capability for that
 * (ETOOMANYREFS): then shards that have been sent some get time to take them.
 */
static int send_fds(
    int sock, enum ctl_type type, struct ctl_message *message, const int *fds, size_t nfds)
{
    static const struct timespec pause = {.tv_nsec = 1000 * 1000};
    int r = ctl_send(sock, type, message, fds, nfds);
    for (int i = 0; r == -ETOOMANYREFS && i < CROWDED_TRIES; i++) {
        nanosleep(&pause, NULL);
        r = ctl_send(sock, type, message, fds, nfds);
    }
    return r;
}

/*
 * The pools, a bit each, that are in both configs, with workers that are run by the same party:
 * those that the supervisor is about to start come when the new shards serve.
 */
static uint64_t common_pools(const struct conf *conf, const struct conf *other)
{
    uint64_t pools = 0;
    for (uint32_t i = 0; i < conf->npools; i++) {
        for (uint32_t k = 0; k < other->npools; k++) {
            if (strcmp(conf->pools[i].name, other->pools[k].name) == 0 &&
                (conf->pools[i].command == NULL) == (other->pools[k].command == NULL))
                pools |= (uint64_t)1 << i;
        }
    }
    return pools;
}

/* Says which pools and shards a shard has to reach before it takes the place of others. */
static void put_serving(const struct generation *generation, struct ctl_start *start)
{
    const struct generation *serving = generation->front->generations[0];
    if (generation->role != GENERATION_STARTING || serving == generation)
        return;
    if (!serving->stand_in)
        start->needed = common_pools(generation->conf, serving->conf);
    for (uint32_t i = 0; i < serving->nprocesses; i++) {
        if (serving->processes[i].state == SHARD_PROCESS_READY)
            start->serving |= share_seat_bit(serving->processes[i].seat);
    }
}

static int send_start(struct shard_process *process)
{
    struct generation *generation = process->generation;
    struct front *front = generation->front;
    struct ctl_message message = {0};
    struct ctl_start *start = &message.u.start;
    if (generation->share == NULL)
        return -ENOTSUP; /* this program's shards share in another way; the reload to come helps */
    start->incarnation = process->incarnation;
    start->generation = generation->number;
    start->seat = process->seat;
    start->shard = process->shard;
    start->shards = generation->nprocesses;
    memcpy(start->instance, front->instance, sizeof(start->instance));
    memcpy(start->conn_key, front->conn_key, sizeof(start->conn_key));
    snprintf(start->conf_name, sizeof(start->conf_name), "%s", front->conf_name);
    start->table = *share_table(generation->share);
    put_serving(generation, start);
    int fds[CTL_START_FDS];
    fds[CTL_CONF] = generation->conf_fd;
    fds[CTL_SHARE] = generation->share_fd;
    fds[CTL_WAKE] = front->wake_fds[process->seat];
    return send_fds(process->sock, CTL_START, &message, fds, CTL_START_FDS);
}

int shard_setup_tickets(struct shard_process *process)
{
    struct generation *generation = process->generation;
    const struct ticket_ring *tickets = &generation->front->tickets;
    struct ctl_message message;
    if (generation_tickets(generation) == 0 || tickets->keys == NULL)
        return 0;
    message.u.tickets = *tickets->keys;
    int r = ctl_send(process->sock, CTL_TICKETS, &message, NULL, 0);
    secret_wipe(&message.u.tickets, sizeof(message.u.tickets));
    return r;
}

static int send_tls(struct shard_process *process)
{
    struct ctl_message message = {0};
    int fd = generation_tls(process->generation);
    if (fd == -ENOENT)
        return 0;
    return fd < 0 ? fd : send_fds(process->sock, CTL_TLS, &message, &fd, 1);
}

int shard_setup_access(struct shard_process *process)
{
    struct ctl_message message = {0};
    int fd = process->ours ? generation_access(process->generation) : -ENOENT;
    return fd < 0 || process->sock < 0 ? 0
                                       : send_fds(process->sock, CTL_ACCESS_LOG, &message, &fd, 1);
}

/* A shard that cannot send spans serves all the same. */
static int send_trace(struct shard_process *process)
{
    struct generation *generation = process->generation;
    struct ctl_message message = {0};
    if (generation->conf->tracing == NULL || front_make_trace(generation->front) < 0)
        return 0;
    return send_fds(
        process->sock, CTL_TRACE, &message, &generation->front->trace_fds[FRONT_TRACE_SHARDS], 1);
}

static int flush_listeners(
    const struct shard_process *process, struct ctl_message *message, const int *fds)
{
    int r = send_fds(process->sock, CTL_LISTEN, message, fds, message->u.listen.count);
    message->u.listen.count = 0;
    return r;
}

/* Sends the sockets of one address. */
static int send_sockets(const struct shard_process *process, uint32_t listener,
    const struct endpoint *endpoint, struct ctl_message *message, int *fds)
{
    struct ctl_listen *listen = &message->u.listen;
    uint32_t step = endpoint->shared ? 1 : process->generation->nprocesses;
    int r = 0;
    for (uint32_t n = endpoint->shared ? 0 : process->shard; r == 0 && n < endpoint->count;
         n += step) {
        fds[listen->count] = endpoint->fds[n];
        listen->listeners[listen->count++] = listener;
        if (listen->count == CTL_LISTEN_MAX)
            r = flush_listeners(process, message, fds);
    }
    return r;
}

/*
 * Sends a shard its own sockets of each listener: where there are more sockets than shards, every
 * n-th.
 */
static int send_listeners(struct shard_process *process)
{
    struct generation *generation = process->generation;
    const struct conf *conf = generation->conf;
    struct ctl_message message = {0};
    struct ctl_listen *listen = &message.u.listen;
    int fds[CTL_LISTEN_MAX];
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < conf->nlisteners; i++) {
        const struct conf_listener *listener = &conf->listeners[i];
        for (uint32_t a = 0; r == 0 && a < listener->naddresses; a++) {
            const struct endpoint *endpoint = endpoints_find(
                &generation->front->endpoints, &listener->addresses[a]);
            if (endpoint != NULL) /* else it could not be bound */
                r = send_sockets(process, i, endpoint, &message, fds);
        }
    }
    return r == 0 && listen->count > 0 ? flush_listeners(process, &message, fds) : r;
}

/* Kills a shard that does not read what it is told: it is not waited for. */
static void give_up_on(struct shard_process *process)
{
    log_error("%s does not read what it is told, killing it", shard_process_name(process));
    shard_process_kill(process);
}

/* Sends each of two shards an end of a socket pair; for PEER with the other's wake-up eventfd. */
static int link_shards(struct shard_process *one, enum ctl_type to_one, int type,
    struct shard_process *other, enum ctl_type to_other)
{
    const int *wake_fds = one->generation->front->wake_fds;
    int pair[2];
    if (socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return -errno;
    struct ctl_message message_to_one = {.u.peer.seat = other->seat};
    struct ctl_message message_to_other = {.u.peer.seat = one->seat};
    int fds_to_one[CTL_PEER_FDS] = {pair[0], wake_fds[other->seat]};
    int fds_to_other[CTL_PEER_FDS] = {pair[1], wake_fds[one->seat]};
    size_t nfds = to_one == CTL_PEER ? CTL_PEER_FDS : 1;
    int r = send_fds(one->sock, to_one, &message_to_one, fds_to_one, nfds);
    int r_other = r < 0 ? 0
                        : send_fds(other->sock, to_other, &message_to_other, fds_to_other, nfds);
    if (r_other < 0)
        log_error("%s cannot be told of another shard: %s", shard_process_name(other),
            strerror(-r_other));
    if (r == -EAGAIN)
        give_up_on(one);
    if (r_other == -EAGAIN)
        give_up_on(other);
    close(pair[0]);
    close(pair[1]);
    return r;
}

int shard_setup_hand_over(struct shard_process *from, struct shard_process *to)
{
    return link_shards(from, CTL_GIVE, SOCK_SEQPACKET, to, CTL_TAKE);
}

/* Makes a socket between this shard and each other one that runs, whatever its generation. */
static int connect_peers(struct shard_process *process)
{
    struct front *front = process->generation->front;
    int r = 0;
    for (size_t g = 0; g < FRONT_GENERATIONS; g++) {
        struct generation *generation = front->generations[g];
        for (uint32_t i = 0; r == 0 && generation != NULL && i < generation->nprocesses; i++) {
            struct shard_process *other = &generation->processes[i];
            if (other != process && other->sock >= 0)
                r = link_shards(process, CTL_PEER, SOCK_STREAM, other, CTL_PEER);
        }
    }
    return r;
}

int shard_setup(struct shard_process *process)
{
    struct ctl_message run = {0};
    int r = send_start(process);
    if (r == 0)
        r = shard_setup_tickets(process);
    if (r == 0)
        r = send_tls(process);
    if (r == 0)
        r = shard_setup_access(process);
    if (r == 0)
        r = send_trace(process);
    if (r == 0)
        r = send_listeners(process);
    if (r == 0)
        r = connect_peers(process);
    return r == 0 ? ctl_send(process->sock, CTL_RUN, &run, NULL, 0) : r;
}
