#include "frontd/supervisor/generation.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/log.h"
#include "frontd/config/file.h"
#include "frontd/config/value.h"
#include "frontd/ipc/metric_book.h"
#include "frontd/ipc/metric_carry.h"
#include "frontd/ipc/metric_rows.h"
#include "frontd/ipc/shm_queues.h"
#include "frontd/ipc/shm_reclaim.h"
#include "frontd/supervisor/access_file.h"
#include "frontd/supervisor/admin_token.h"
#include "frontd/supervisor/shard_setup.h"
#include "frontd/supervisor/tls/load.h"
#include "frontd/supervisor/tls/pem_check.h"

enum { BOOK_MS = 5000 };

int generation_make_conf(const char *text, size_t n)
{
    int fd = memfd_create("frontd-config", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    if (write(fd, text, n) != (ssize_t)n ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0) {
        int r = -errno;
        close(fd);
        return r;
    }
    return fd;
}

/* How many cells count a shard's connections by peer; only those that are used take memory. */
static size_t peer_cells(uint64_t connections_each)
{
    size_t cells = 64;
    while (cells < connections_each * 2)
        cells *= 2;
    return cells;
}

/* Maps the memory of the generation before, so that limits hold over both, or makes a new one. */
static int get_share(struct generation *generation, const struct generation *before)
{
    int r = 0;
    struct share_table table;
    if (before != NULL && before->share != NULL) {
        table = *share_table(before->share);
        generation->share_fd = fcntl(before->share_fd, F_DUPFD_CLOEXEC, 3);
        if (generation->share_fd < 0)
            return -errno;
    } else {
        share_table_init(&table);
        r = share_create(peer_cells(generation->front->connections_each), &generation->share_fd);
    }
    r = r == 0 ? share_map(generation->share_fd, &table, &generation->share) : r;
    struct buf *counts = &generation->front->counts;
    if (r == 0 && buf_len(counts) > 0) {
        metric_carry_restore(generation->share, (struct span){buf_data(counts), buf_len(counts)});
        buf_deinit(counts);
    }
    return r;
}

/* Gives rows to the pools of all generations that there are. */
static void name_pools(struct generation *generation)
{
    const char *names[FRONT_GENERATIONS * CONF_POOLS_MAX];
    size_t n = 0;
    struct front *front = generation->front;
    for (uint32_t i = 0; i < generation->conf->npools; i++)
        names[n++] = generation->conf->pools[i].name;
    for (size_t g = 0; g < FRONT_GENERATIONS; g++) {
        const struct generation *other = front->generations[g];
        for (uint32_t i = 0; other != NULL && other != generation && i < other->conf->npools; i++) {
            bool known = false;
            for (uint32_t k = 0; k < generation->conf->npools; k++)
                known |= strcmp(other->conf->pools[i].name, names[k]) == 0;
            if (!known && n < SHARE_POOLS)
                names[n++] = other->conf->pools[i].name;
        }
    }
    share_set_pools(generation->share, names, n);
}

/* The seats of all processes. */
static uint64_t seats_alive(const struct front *front)
{
    uint64_t alive = 0;
    for (size_t g = 0; g < FRONT_GENERATIONS; g++) {
        const struct generation *generation = front->generations[g];
        for (uint32_t i = 0; generation != NULL && i < generation->nprocesses; i++) {
            if (generation->processes[i].pid > 0)
                alive |= (uint64_t)1 << generation->processes[i].seat;
        }
    }
    return alive;
}

void generation_reclaim(struct front *front)
{
    uint64_t alive = seats_alive(front);
    /* They may share one, or each have its own. */
    for (size_t g = 0; g < FRONT_GENERATIONS; g++) {
        const struct generation *generation = front->generations[g];
        if (generation != NULL && generation->share != NULL)
            share_reclaim(generation->share, alive);
    }
    front->book_until = uv_now(&front->loop) + BOOK_MS;
}

void generation_book(struct front *front)
{
    bool rest = false;
    if (uv_now(&front->loop) >= front->book_until)
        return;
    uint64_t alive = seats_alive(front);
    for (size_t g = 0; g < FRONT_GENERATIONS; g++) {
        const struct generation *generation = front->generations[g];
        if (generation != NULL && generation->share != NULL)
            rest |= metric_book(generation->share, alive);
    }
    if (rest)
        front->book_until = uv_now(&front->loop) + BOOK_MS;
}

void generation_count_reload(
    struct generation *generation, enum metric_program program, enum metric_reload outcome)
{
    if (generation == NULL || generation->share == NULL)
        return;
    struct front_words *words = share_front(generation->share, SHARE_SEAT_SUPERVISOR);
    share_count(&words->reloads[program * METRIC_RELOAD_COUNT + outcome], 1);
}

void generation_count_config(struct generation *generation)
{
    if (generation->share == NULL)
        return;
    struct front_words *words = share_front(generation->share, SHARE_SEAT_SUPERVISOR);
    share_set(words->config_at, (uint64_t)time(NULL));
    if (*words->started_at == 0)
        share_set(words->started_at, (uint64_t)time(NULL));
}

void generation_count_log(struct generation *generation)
{
    static uint64_t counted;
    if (generation == NULL || generation->share == NULL)
        return;
    uint64_t dropped = log_dropped();
    share_count(
        share_front(generation->share, SHARE_SEAT_SUPERVISOR)->log_dropped, dropped - counted);
    counted = dropped;
}

/* Gives rows of metrics to all that the config names. */
static int name_metrics(const struct generation *generation)
{
    struct metric_rows rows;
    int r = metric_rows_init(&rows, generation->share, generation->conf);
    metric_rows_deinit(&rows);
    return r;
}

static uint32_t free_seat(const struct front *front, uint64_t *taken)
{
    for (size_t g = 0; g < FRONT_GENERATIONS; g++) {
        const struct generation *generation = front->generations[g];
        for (uint32_t i = 0; generation != NULL && i < generation->nprocesses; i++)
            *taken |= (uint64_t)1 << generation->processes[i].seat;
    }
    uint32_t seat = 0;
    while (*taken >> seat & 1)
        seat++;
    *taken |= (uint64_t)1 << seat;
    CHECK(seat <= SHARE_SEAT_LAST); /* twice CONF_SHARDS_MAX fit */
    return seat;
}

static void destroy(struct generation *generation)
{
    share_unmap(generation->share);
    if (generation->share_fd >= 0)
        close(generation->share_fd);
    if (generation->conf_fd >= 0)
        close(generation->conf_fd);
    if (generation->tls_fd >= 0)
        close(generation->tls_fd);
    if (generation->token_fd >= 0)
        close(generation->token_fd);
    if (generation->access_fd >= 0)
        close(generation->access_fd);
    conf_free(generation->conf);
    mem_free(generation->processes);
    mem_free(generation);
}

static struct generation *make(struct front *front, struct conf *conf, uint32_t shards)
{
    struct generation *generation = mem_zalloc(sizeof(*generation));
    struct shard_process *processes = mem_zalloc(shards * sizeof(*processes));
    if (generation == NULL || processes == NULL) {
        mem_free(generation);
        mem_free(processes);
        conf_free(conf);
        return NULL;
    }
    *generation = (struct generation){.front = front,
        .conf = conf,
        .conf_fd = -1,
        .tls_fd = -1,
        .token_fd = -1,
        .access_fd = -1,
        .share_fd = -1,
        .processes = processes,
        .number = front->last_generation + 1,
        .loaded = front_time_of_day()};
    return generation;
}

static void on_odd(void *data, const char *text)
{
    (void)data;
    log_warning("%s", text);
}

/* Reads the certificates and keys of all listeners, for shards that start now and later. */
static int load_tls(struct generation *generation, char *error, size_t error_size)
{
    static const struct conf_findings findings = {.odd = on_odd};
    struct tls_load_sum sum;
    char date[PEM_DATE_SIZE];
    int r = tls_load(generation->front->conf_name, generation->conf, time(NULL), &findings,
        &generation->tls_fd, &sum, error, error_size);
    if (r < 0 || sum.certificates == 0)
        return r;
    pem_write_date(sum.until, date);
    log_info("certificates read: %u, of which %s is the first to expire, on %s", sum.certificates,
        sum.first, date);
    return 0;
}

int generation_tls(struct generation *generation)
{
    char error[5120];
    if (generation->stand_in || !tls_load_is_needed(generation->conf))
        return -ENOENT;
    int r = generation->tls_fd >= 0 ? 0 : load_tls(generation, error, sizeof(error));
    if (r == 0)
        return generation->tls_fd;
    log_error("%s", error);
    return r == -ENOENT ? -EINVAL : r;
}

static int load_token(struct generation *generation, char *error, size_t error_size)
{
    static const struct conf_findings findings = {.odd = on_odd};
    return admin_token_load(generation->front->conf_name, generation->conf, &findings,
        &generation->token_fd, error, error_size);
}

int generation_token(struct generation *generation)
{
    char error[5120];
    if (generation->stand_in || generation->conf->admin.token_file.path == NULL)
        return -ENOENT;
    int r = generation->token_fd >= 0 ? 0 : load_token(generation, error, sizeof(error));
    if (r == 0)
        return generation->token_fd;
    log_error("%s", error);
    return r == -ENOENT ? -EINVAL : r;
}

int generation_access(struct generation *generation)
{
    char error[512];
    if (generation->stand_in)
        return -ENOENT;
    if (generation->access_fd < 0)
        generation->access_fd = access_file_open(
            generation->front->conf_name, generation->conf, error, sizeof(error));
    if (generation->access_fd >= 0 || generation->access_fd == -ENOENT)
        return generation->access_fd;
    log_error("%s; there is no access log until SIGUSR1 or a reload", error);
    generation->access_fd = -1;
    return -ENOENT;
}

void generation_reopen(struct generation *generation)
{
    char error[512];
    if (generation->stand_in)
        return;
    int fd = access_file_open(generation->front->conf_name, generation->conf, error, sizeof(error));
    if (fd == -ENOENT)
        return;
    if (fd < 0) {
        log_error("%s; the file before stays in use", error);
        return;
    }
    if (generation->access_fd >= 0)
        close(generation->access_fd);
    generation->access_fd = fd;
    for (uint32_t i = 0; i < generation->nprocesses; i++) {
        struct shard_process *process = &generation->processes[i];
        int r = shard_setup_access(process);
        if (r < 0)
            log_error("%s: cannot be told of the access log: %s", shard_process_name(process),
                strerror(-r));
    }
    log_info("access log: %s is opened anew", generation->conf->access_log->path);
}

uint64_t generation_tickets(const struct generation *generation)
{
    uint64_t lifetime = 0;
    for (uint32_t i = 0; !generation->stand_in && i < generation->conf->nlisteners; i++) {
        const struct conf_tls *tls = generation->conf->listeners[i].tls;
        lifetime = MAX(lifetime, tls == NULL ? 0 : tls->tickets);
    }
    return lifetime;
}

static int open_access(struct generation *generation, char *error, size_t error_size)
{
    int fd = access_file_open(generation->front->conf_name, generation->conf, error, error_size);
    generation->access_fd = MAX(fd, -1);
    return fd == -ENOENT ? 0 : MIN(fd, 0);
}

struct generation *generation_new(struct front *front, struct conf *conf, const struct buf *text,
    const struct generation *before, char *error, size_t error_size)
{
    struct generation *generation = make(front, conf, conf->shards);
    uint32_t seats[CONF_SHARDS_MAX] = {0};
    uint64_t taken = 0;
    int r = generation == NULL ? -ENOMEM : 0;
    if (r == 0 && (load_tls(generation, error, error_size) < 0 ||
                      load_token(generation, error, error_size) < 0 ||
                      open_access(generation, error, error_size) < 0)) {
        destroy(generation);
        return NULL;
    }
    if (r == 0)
        r = generation->conf_fd = generation_make_conf(buf_data(text), buf_len(text));
    if (r >= 0)
        r = get_share(generation, before);
    for (uint32_t i = 0; r == 0 && i < conf->shards; i++) {
        seats[i] = free_seat(front, &taken);
        r = front_make_wake(front, seats[i]);
    }
    if (r < 0) {
        snprintf(error, error_size, "cannot make new shards: %s", strerror(-r));
        if (generation != NULL)
            destroy(generation);
        return NULL;
    }
    generation_reclaim(front); /* its shards find their seats empty, whatever was written there */
    name_pools(generation);
    name_metrics(generation); /* where there is no memory for it, shards do it */
    front->last_generation = generation->number;
    for (uint32_t i = 0; i < conf->shards; i++)
        shard_process_init(&generation->processes[i], generation, i, seats[i]);
    generation->nprocesses = conf->shards;
    return generation;
}

static void ignore(void *data, const char *text)
{
    (void)data;
    (void)text;
}

/* Reads the config that the shards were given; where it is not understood, that of the file. */
static struct conf *load_conf(
    const struct front *front, int conf_fd, bool *ret_stand_in, char *error, size_t error_size)
{
    struct buf text = {0};
    struct conf *conf = NULL;
    const char *name = front->conf_name;
    static const struct conf_findings ignored = {.found = ignore};
    /* A name that is not known now is no reason to do without it. */
    *ret_stand_in = conf_file_try_fd(conf_fd, name, &ignored, &text, &conf, error, error_size) < 0;
    if (*ret_stand_in && conf_file_load(name, &text, &conf, error, error_size) < 0)
        return NULL;
    buf_deinit(&text);
    return conf;
}

struct generation *generation_found(struct front *front, int conf_fd, int tls_fd, int share_fd,
    const struct generation_share *known, uint64_t number, uint32_t shards, char *error,
    size_t error_size)
{
    bool stand_in;
    struct conf *conf = load_conf(front, conf_fd, &stand_in, error, error_size);
    struct generation *generation = conf == NULL ? NULL : make(front, conf, shards);
    if (generation == NULL) {
        if (conf != NULL)
            snprintf(error, error_size, "no memory");
        close(conf_fd);
        close(share_fd);
        if (tls_fd >= 0)
            close(tls_fd);
        return NULL;
    }
    generation->conf_fd = conf_fd;
    generation->tls_fd = tls_fd;
    generation->share_fd = share_fd;
    generation->number = number;
    generation->stand_in = stand_in;
    if (stand_in)
        log_warning("generation %llu has a config that this program does not understand: %s",
            (unsigned long long)number, error);
    if (!known->known || share_map(share_fd, &known->table, &generation->share) < 0)
        log_warning(
            "generation %llu is of a program that shares memory in another way: limits hold "
            "for each generation by itself",
            (unsigned long long)number);
    front->last_generation = MAX(front->last_generation, number);
    return generation;
}

int generation_seat_missing(struct generation *generation)
{
    uint64_t taken = 0;
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < generation->nprocesses; i++) {
        struct shard_process *process = &generation->processes[i];
        if (process->pid > 0)
            continue;
        process->seat = free_seat(generation->front, &taken);
        r = front_make_wake(generation->front, process->seat);
    }
    return r;
}

void generation_start(struct generation *generation)
{
    for (uint32_t i = 0; i < generation->nprocesses; i++)
        shard_process_start(&generation->processes[i]);
}

void generation_restart_missing(struct generation *generation)
{
    for (uint32_t i = 0; i < generation->nprocesses; i++) {
        struct shard_process *process = &generation->processes[i];
        if (process->pid < 0 && !uv_is_active((uv_handle_t *)&process->restart))
            shard_process_restart(process);
    }
}

static void open_shard(struct shard_process *process)
{
    struct ctl_message message = {0};
    shard_process_tell(process, CTL_OPEN, &message);
}

void generation_serve(struct generation *generation)
{
    generation->role = GENERATION_SERVING;
    for (uint32_t i = 0; i < generation->nprocesses; i++) {
        struct shard_process *process = &generation->processes[i];
        if (process->pid < 0 && !uv_is_active((uv_handle_t *)&process->restart))
            shard_process_start(process);
        else if (process->state == SHARD_PROCESS_READY)
            open_shard(process);
    }
}

/* Connects an old shard with a new one, to which its clients go. */
static void connect_pair(struct shard_process *from, struct shard_process *to)
{
    if (from->sock < 0 || to->sock < 0 || to->state != SHARD_PROCESS_READY)
        return;
    int r = shard_setup_hand_over(from, to);
    if (r < 0)
        log_error("cannot connect an old shard with a new one: %s", strerror(-r));
}

static bool has_address(const struct conf *conf, const struct conf_address *address)
{
    for (uint32_t i = 0; i < conf->nlisteners; i++) {
        const struct conf_listener *listener = &conf->listeners[i];
        for (uint32_t a = 0; a < listener->naddresses; a++) {
            if (conf_value_same(&listener->addresses[a], address))
                return true;
        }
    }
    return false;
}

static uint64_t listeners_removed(const struct conf *conf, const struct conf *next)
{
    uint64_t removed = 0;
    for (uint32_t i = 0; i < conf->nlisteners; i++) {
        const struct conf_listener *listener = &conf->listeners[i];
        for (uint32_t a = 0; a < listener->naddresses; a++) {
            if (!has_address(next, &listener->addresses[a]))
                removed |= (uint64_t)1 << i; /* at those that stay others accept, too */
        }
    }
    return removed;
}

void generation_leave(struct generation *generation, struct generation *next)
{
    struct ctl_message message = {0};
    if (!generation->stand_in)
        message.u.leave.removed = listeners_removed(generation->conf, next->conf);
    generation->role = GENERATION_LEAVING;
    for (uint32_t i = 0; i < generation->nprocesses; i++) {
        struct shard_process *process = &generation->processes[i];
        uv_timer_stop(&process->restart);
        for (uint32_t k = 0; k < next->nprocesses; k++)
            connect_pair(process, &next->processes[k]);
        shard_process_tell(process, CTL_LEAVE, &message);
    }
}

void generation_drain(struct generation *generation)
{
    struct ctl_message message = {0};
    generation->role = GENERATION_STOPPING;
    for (uint32_t i = 0; i < generation->nprocesses; i++) {
        uv_timer_stop(&generation->processes[i].restart);
        shard_process_tell(&generation->processes[i], CTL_DRAIN, &message);
    }
}

void generation_kill(struct generation *generation)
{
    for (uint32_t i = 0; i < generation->nprocesses; i++) {
        uv_timer_stop(&generation->processes[i].restart);
        shard_process_kill(&generation->processes[i]);
    }
}

void generation_check(struct generation *generation, uint64_t elapsed)
{
    for (uint32_t i = 0; i < generation->nprocesses; i++)
        shard_process_check(&generation->processes[i], elapsed);
}

bool generation_alive(const struct generation *generation)
{
    for (uint32_t i = 0; i < generation->nprocesses; i++) {
        if (generation->processes[i].pid > 0)
            return true;
    }
    return false;
}

bool generation_ready(const struct generation *generation)
{
    for (uint32_t i = 0; i < generation->nprocesses; i++) {
        if (generation->processes[i].state != SHARD_PROCESS_READY)
            return false;
    }
    return true;
}

void generation_close(struct generation *generation)
{
    generation->closing = true;
    for (uint32_t i = 0; i < generation->nprocesses; i++)
        shard_process_close(&generation->processes[i]);
}

void generation_handle_closed(struct generation *generation)
{
    if (--generation->handles == 0 && generation->closing)
        destroy(generation);
}

void generation_shard_ready(struct generation *generation, struct shard_process *process)
{
    struct front *front = generation->front;
    if (generation->role == GENERATION_SERVING)
        open_shard(process);
    /* One that was started again while old shards still have clients. */
    for (size_t g = 0; g < FRONT_GENERATIONS && generation->role == GENERATION_SERVING; g++) {
        struct generation *other = front->generations[g];
        if (other == NULL || other->role != GENERATION_LEAVING)
            continue;
        for (uint32_t i = 0; i < other->nprocesses; i++)
            connect_pair(&other->processes[i], process);
    }
    front->ops->ready(front, generation);
}

bool generation_shard_ended(struct generation *generation)
{
    if (generation->role == GENERATION_SERVING)
        return true;
    generation->front->ops->gone(generation->front, generation);
    return false;
}
