/*
 * reports_find() opens a pidfd of each process and looks only then whether it is the one: from here
 * on no other can get its PID. reports_collect() waits for connections. A connection from
 * another process is closed. Of the others each message is looked at by itself: REPORT with the
 * shared memory, LISTEN with listening sockets, TICKETS with keys, and READY, after which the shard
 * waits. What is wrong ends the connection; the shard may try again, as it does when its socket's
 * buffer was full, and a connection takes the place of the one before it. A shard that does so too
 * often has failed.
 *
 * Nothing here blocks: the sockets are non-blocking, and what is not wanted is closed elsewhere
 * (discard.h).
 */

#include "frontd/supervisor/reports.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/log.h"
#include "common/secret.h"
#include "frontd/supervisor/sockets/endpoint.h"
#include "frontd/system/discard.h"

enum {
    WAIT_MS = 3000,       /* for all shards; they try every 100 ms */
    END_MS = 2000,        /* for the end of those that were killed: they may have much memory */
    MESSAGES_MAX = 64,    /* of a report: LISTEN with 4,096 sockets are 32 */
    CONNECTIONS_MAX = 50, /* tries of one shard */
    ACCEPT_MAX = 64,      /* connections in one turn */
    RECEIVE_MAX = 16,     /* messages of one shard in one turn */
    REFUSALS_LOGGED = 10,
};

/* Whether a process has ended within `timeout` ms; a zombie has. */
static bool has_ended(int pidfd, int timeout)
{
    struct pollfd poll_end = {.fd = pidfd, .events = POLLIN};
    return poll(&poll_end, 1, timeout) > 0;
}

static void find(struct reports *reports, size_t generation, uint32_t shard)
{
    const struct record_process *process =
        &reports->record->generations[generation].processes[shard];
    int pidfd = process->pid > 0 ? pidfd_open(process->pid, 0) : -1;
    if (pidfd < 0)
        return;
    if (!process_is(&process->mark, process->pid, pidfd) || has_ended(pidfd, 0)) {
        close(pidfd);
        return;
    }
    reports->all[reports->count++] = (struct reporter){.process = process,
        .generation = generation,
        .shard = shard,
        .pidfd = pidfd,
        .sock = -1,
        .share = -1};
}

void reports_find(struct reports *reports, const struct record *record)
{
    char boot[PROCESS_BOOT_SIZE];
    reports->record = record;
    process_boot(boot);
    if (strcmp(boot, record->boot) != 0) /* it is of processes that ended with the system */
        return;
    for (size_t g = 0; g < record->ngenerations; g++) {
        for (uint32_t i = 0; i < record->generations[g].shards; i++)
            find(reports, g, i);
    }
}

/* Lets go of what a report has brought so far. */
static void drop(struct reporter *reporter)
{
    fdpass_close(reporter->sockets, reporter->nsockets);
    mem_free(reporter->sockets);
    if (reporter->share >= 0)
        close(reporter->share);
    if (reporter->sock >= 0)
        discard(&reporter->sock, 1, 0); /* with what has come and was not looked at */
    reporter->sockets = NULL;
    reporter->nsockets = 0;
    reporter->share = reporter->sock = -1;
    reporter->messages = 0;
    reporter->complete = false;
}

static void note_end(struct reporter *reporter)
{
    drop(reporter);
    close(reporter->pidfd);
    reporter->pidfd = -1;
}

/*
 * Nothing but a memfd has seals: no process can cut this one, or make another that passes for it.
 */
static bool is_share(const struct generation_share *known, int fd)
{
    struct stat st;
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW;
    int has = fcntl(fd, F_GET_SEALS);
    if (has < 0 || (has & seals) != seals || fstat(fd, &st) < 0)
        return false;
    /* Where it is not known it is not passed on, and not mapped. */
    return !known->known || ((uint64_t)st.st_size == known->size && st.st_dev == known->dev &&
                                st.st_ino == known->ino);
}

/* Whether it is a socket that the supervisor has made, and that still listens where it did. */
static bool is_listener(const struct record *record, int fd)
{
    int listens = 0;
    socklen_t len = sizeof(listens);
    struct conf_address address;
    const struct record_endpoint *endpoint = record_find_socket(record, endpoint_cookie(fd));
    return endpoint != NULL && getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 &&
           listens != 0 && endpoint_address(fd, &address) == 0 &&
           address.len == endpoint->address.len &&
           memcmp(&address.sock, &endpoint->address.sock, address.len) == 0;
}

static int add_sockets(
    const struct record *record, struct reporter *reporter, const int *fds, size_t n)
{
    size_t sum = reporter->nsockets + n;
    if (sum > record->nsockets) /* none has more than there are */
        return -EPROTO;
    int *sockets = mem_widen(reporter->sockets, reporter->nsockets, sum + 1, sizeof(*sockets));
    if (sockets == NULL)
        return -ENOMEM;
    memcpy(sockets + reporter->nsockets, fds, n * sizeof(*fds));
    reporter->sockets = sockets;
    reporter->nsockets = sum;
    return 0;
}

/* Keeps the listening sockets among them that are ours, and has the others closed. */
static int take_sockets(const struct record *record, struct reporter *reporter, int *fds, size_t n)
{
    int ours[FDPASS_FDS_MAX];
    int others[FDPASS_FDS_MAX];
    size_t nours = 0;
    size_t nothers = 0;
    for (size_t i = 0; i < n; i++) {
        if (is_listener(record, fds[i]))
            ours[nours++] = fds[i];
        else
            others[nothers++] = fds[i];
    }
    discard(others, nothers, 0);
    int r = add_sockets(record, reporter, ours, nours);
    if (r < 0)
        fdpass_close(ours, nours);
    return r;
}

/* Keeps keys of session tickets, where they are newer than those that other shards have brought. */
static int take_tickets(struct reports *reports, const struct tls_ticket_keys *keys)
{
    if (keys->count == 0 || !tls_tickets_valid(keys, tls_tickets_now()))
        return -EPROTO;
    if (reports->tickets == NULL)
        reports->tickets = secret_alloc(sizeof(*reports->tickets));
    if (reports->tickets == NULL)
        return 0; /* there will be new ones */
    if (reports->tickets->count == 0 || keys->keys[0].made > reports->tickets->keys[0].made)
        *reports->tickets = *keys;
    return 0;
}

/*
 * Takes the next message of a report. fds: consumed. Returns 0, or -errno where it is not
 * understood.
 */
static int take_message(struct reports *reports, struct reporter *reporter,
    const struct ctl_message *message, int *fds, size_t nfds)
{
    const struct record *record = reports->record;
    bool first = reporter->messages++ == 0;
    bool known = !ctl_is_foreign(message) && reporter->messages <= MESSAGES_MAX;
    if (known && first && message->type == CTL_REPORT &&
        is_share(&record->generations[reporter->generation].share, fds[0])) {
        reporter->share = fds[0];
        return 0;
    }
    if (known && !first && message->type == CTL_LISTEN)
        return take_sockets(record, reporter, fds, nfds);
    if (known && !first && message->type == CTL_TICKETS)
        return take_tickets(reports, &message->u.tickets);
    discard(fds, nfds, 0);
    if (!known || first || message->type != CTL_READY)
        return -EPROTO;
    reporter->complete = true;
    return 0;
}

void reports_receive(struct reports *reports, struct reporter *reporter)
{
    for (unsigned i = 0; i < RECEIVE_MAX && !reporter->complete; i++) {
        struct ctl_message message;
        int fds[FDPASS_FDS_MAX];
        size_t nfds = 0;
        int r = ctl_receive_all(reporter->sock, &message, fds, &nfds);
        if (r == -EAGAIN)
            return;
        if (r == 0)
            r = take_message(reports, reporter, &message, fds, nfds);
        else
            discard(fds, nfds, 0);
        secret_wipe(&message.u, sizeof(message.u));
        if (r == 0)
            continue;
        if (r != -EPIPE && r != -ECONNRESET)
            log_warning("shard %u (pid %ld) reports in a way that is not understood: %s",
                reporter->shard, (long)reporter->process->pid, strerror(-r));
        drop(reporter);
        return;
    }
}

static struct reporter *find_peer(struct reports *reports, int sock)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);
    if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
        return NULL;
    for (size_t i = 0; i < reports->count; i++) {
        if (reports->all[i].pidfd >= 0 && reports->all[i].process->pid == peer.pid)
            return &reports->all[i];
    }
    return NULL;
}

static void accept_some(struct reports *reports, int listener, unsigned *refusals)
{
    int refused[ACCEPT_MAX];
    size_t nrefused = 0;
    int sock = 0;
    for (unsigned i = 0; i < ACCEPT_MAX && sock >= 0; i++) {
        sock = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        struct reporter *reporter = sock < 0 ? NULL : find_peer(reports, sock);
        if (sock < 0)
            continue;
        if (reporter == NULL && (*refusals)++ < REFUSALS_LOGGED)
            log_warning("somebody else reports as a shard: refused");
        if (reporter == NULL || reporter->failed || reporter->complete) {
            refused[nrefused++] = sock;
        } else if (++reporter->connections > CONNECTIONS_MAX) {
            log_warning("shard %u (pid %ld) reports again and again: refused", reporter->shard,
                (long)reporter->process->pid);
            reporter->failed = true;
            drop(reporter);
            refused[nrefused++] = sock;
        } else {
            drop(reporter);
            reporter->sock = sock;
        }
    }
    discard(refused, nrefused, 0);
}

static bool is_awaited(const struct reporter *reporter)
{
    return reporter->pidfd >= 0 && !reporter->failed && !reporter->complete;
}

/* Fills in what poll() waits for: the listener, and each shard's end and connection. */
static nfds_t prepare(const struct reports *reports, int listener, struct pollfd *polls)
{
    polls[0] = (struct pollfd){.fd = listener, .events = POLLIN};
    for (size_t i = 0; i < reports->count; i++) {
        const struct reporter *reporter = &reports->all[i];
        int sock = reporter->complete ? -1 : reporter->sock;
        polls[1 + 2 * i] = (struct pollfd){.fd = reporter->pidfd, .events = POLLIN};
        polls[2 + 2 * i] = (struct pollfd){.fd = sock, .events = POLLIN};
    }
    return 1 + 2 * reports->count;
}

void reports_collect(struct reports *reports, int listener)
{
    uint64_t until = log_clock() + WAIT_MS;
    unsigned refusals = 0;
    for (;;) {
        struct pollfd polls[1 + 2 * REPORTS_MAX];
        bool awaited = false;
        for (size_t i = 0; i < reports->count; i++)
            awaited |= is_awaited(&reports->all[i]);
        uint64_t now = log_clock();
        if (!awaited || now >= until)
            return;
        nfds_t n = prepare(reports, listener, polls);
        if (poll(polls, n, (int)(until - now)) <= 0)
            continue;
        for (size_t i = 0; i < reports->count; i++) {
            struct reporter *reporter = &reports->all[i];
            if (reporter->pidfd >= 0 && polls[1 + 2 * i].revents != 0)
                note_end(reporter);
            else if (reporter->sock >= 0 && polls[2 + 2 * i].revents != 0)
                reports_receive(reports, reporter);
        }
        if (polls[0].revents != 0)
            accept_some(reports, listener, &refusals);
    }
}

void reports_kill(struct reporter *reporter)
{
    if (reporter->pidfd < 0)
        return;
    reporter->killed = true;
    reporter->complete = false;
    pidfd_send_signal(reporter->pidfd, SIGKILL, NULL, 0);
}

void reports_wait_killed(struct reports *reports)
{
    uint64_t until = log_clock() + END_MS;
    for (size_t i = 0; i < reports->count; i++) {
        struct reporter *reporter = &reports->all[i];
        if (reporter->pidfd < 0 || !reporter->killed)
            continue;
        uint64_t now = log_clock();
        if (!has_ended(reporter->pidfd, now < until ? (int)(until - now) : 0))
            log_warning(
                "shard %u (pid %ld) does not end", reporter->shard, (long)reporter->process->pid);
        note_end(reporter);
    }
}

size_t reports_count(const struct reports *reports, size_t generation)
{
    size_t n = 0;
    for (size_t i = 0; i < reports->count; i++) {
        const struct reporter *reporter = &reports->all[i];
        n += reporter->complete && (generation == SIZE_MAX || reporter->generation == generation);
    }
    return n;
}

void reports_deinit(struct reports *reports)
{
    for (size_t i = 0; i < reports->count; i++) {
        drop(&reports->all[i]);
        if (reports->all[i].pidfd >= 0)
            close(reports->all[i].pidfd);
    }
    reports->count = 0;
    reports->tickets = secret_free(reports->tickets, sizeof(*reports->tickets));
}
