#include "frontd/supervisor/reexec_state.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/log.h"
#include "frontd/ipc/metric_carry.h"
#include "frontd/supervisor/identity.h"
#include "frontd/supervisor/record.h"
#include "frontd/supervisor/sockets/endpoint.h"
#include "frontd/supervisor/startup.h"
#include "frontd/supervisor/workers/workers_reexec.h"
#include "frontd/system/folder.h"
#include "proto/json_read.h"
#include "proto/json_write.h"

enum { STATE_SIZE_MAX = 16 * 1024 * 1024 };

/* Calls `fn` for each descriptor that the program which follows is to have. */
static void each_fd(
    const struct front *front, int state_fd, void (*fn)(int fd, bool open), bool open)
{
    fn(state_fd, open);
    if (front->alive_fd >= 0)
        fn(front->alive_fd, open);
    if (front->tickets_fd >= 0)
        fn(front->tickets_fd, open);
    if (front->control_fd >= 0)
        fn(front->control_fd, open);
    fn(front->lock_fd, open);
    for (size_t i = 0; i < SHARE_SEATS; i++) {
        if (front->wake_fds[i] >= 0)
            fn(front->wake_fds[i], open);
    }
    for (size_t i = 0; i < front->endpoints.count; i++) {
        for (uint32_t k = 0; k < front->endpoints.all[i].count; k++)
            fn(front->endpoints.all[i].fds[k], open);
    }
    for (size_t g = 0; g < FRONT_GENERATIONS; g++) {
        const struct generation *generation = front->generations[g];
        if (generation == NULL)
            continue;
        fn(generation->conf_fd, open);
        if (generation->tls_fd >= 0)
            fn(generation->tls_fd, open);
        fn(generation->share_fd, open);
        for (uint32_t i = 0; i < generation->nprocesses; i++) {
            if (generation->processes[i].sock >= 0)
                fn(generation->processes[i].sock, open);
        }
    }
}

static void set_open(int fd, bool open)
{
    fcntl(fd, F_SETFD, open ? 0 : FD_CLOEXEC);
}

static void set_worker_open(int fd, void *data)
{
    const bool *open = data;
    set_open(fd, *open);
}

void reexec_keep_open(
    const struct front *front, const struct workers *workers, int state_fd, bool open)
{
    each_fd(front, state_fd, set_open, open);
    workers_each_fd(workers, set_worker_open, &open);
}

/* Writing */

static void put_endpoint(struct json_writer *out, const struct endpoint *endpoint)
{
    json_begin(out, NULL, '{');
    record_put_address(out, &endpoint->address);
    json_add_flag(out, "shared", endpoint->shared);
    json_add_number(out, "dev", endpoint->dev);
    json_add_number(out, "ino", endpoint->ino);
    json_begin(out, "fds", '[');
    for (uint32_t i = 0; i < endpoint->count; i++)
        json_add_integer(out, NULL, endpoint->fds[i]);
    json_end(out, ']');
    json_begin(out, "cookies", '[');
    for (uint32_t i = 0; i < endpoint->count; i++)
        json_add_number(out, NULL, endpoint_cookie(endpoint->fds[i]));
    json_end(out, ']');
    json_end(out, '}');
}

/* Writes the text of a config, which its descriptor has: that is sealed, so the size holds. */
static void put_conf(struct json_writer *out, int fd)
{
    struct stat st;
    char *text = fstat(fd, &st) < 0 ? NULL : mem_zalloc((size_t)st.st_size + 1);
    if (text != NULL && pread(fd, text, (size_t)st.st_size, 0) == st.st_size)
        record_put_conf(out, (struct span){text, (size_t)st.st_size});
    else
        out->failed = true; /* a record without it would be none */
    mem_free(text);
}

static void put_process(struct json_writer *out, const struct shard_process *process)
{
    json_begin(out, NULL, '{');
    json_add_number(out, "seat", process->seat);
    json_add_number(out, "incarnation", process->incarnation);
    json_add_number(out, "failures", process->failures);
    json_add_number(out, "birth", process->mark.birth);
    json_add_number(out, "pidfs", process->mark.ino);
    json_add_integer(out, "pid", process->pid);
    json_add_integer(out, "sock", process->sock);
    json_add_flag(out, "ready", process->state == SHARD_PROCESS_READY);
    json_add_flag(out, "ours", !process->end_open);
    json_add_flag(out, "asks", process->asks);
    json_end(out, '}');
}

static void put_generation(
    struct json_writer *out, const struct generation *generation, bool with_conf)
{
    json_begin(out, NULL, '{');
    json_add_number(out, "number", generation->number);
    json_add_number(out, "loaded", generation->loaded);
    json_add_text(out, "role", record_role_name(generation->role));
    json_add_integer(out, "conf_fd", generation->conf_fd);
    json_add_integer(out, "share_fd", generation->share_fd);
    if (!with_conf)
        json_add_integer(out, "tls_fd", generation->tls_fd);
    json_add_number(out, "shards", generation->nprocesses);
    if (with_conf)
        put_conf(out, generation->conf_fd);
    record_put_share(out, generation);
    json_begin(out, "children", '[');
    for (uint32_t i = 0; i < generation->nprocesses; i++)
        put_process(out, &generation->processes[i]);
    json_end(out, ']');
    json_end(out, '}');
}

/* What was counted, for a program that lays memory out in another way. */
static void put_counts(struct json_writer *out, const struct front *front)
{
    const struct generation *serving = front_serving(front);
    if (serving != NULL && serving->share != NULL)
        metric_carry_save(serving->share, out);
    else if (buf_len(&front->counts) > 0) /* of the program before, which has left it to this one */
        json_add_raw(
            out, "counts", (struct span){buf_data(&front->counts), buf_len(&front->counts)});
}

/*
 * workers: NULL for the record. It has the texts of the configs, where the state has descriptors;
 * run_dir/workers/pids has its workers, and its reader is told its paths when it is started. Keys
 * are in neither: a state has their descriptors, and after a record's time shards give back those
 * of tickets, and files are read again.
 */
static void put_all(struct json_writer *out, const struct front *front, const struct reload *reload,
    const struct workers *workers)
{
    char boot[PROCESS_BOOT_SIZE];
    process_boot(boot);
    json_begin(out, NULL, '{');
    json_add_number(out, "version", STATE_VERSION);
    json_add_text(out, "boot", boot);
    json_add_text(out, "instance", front->instance);
    json_add_bytes(out, "conn_key", front->conn_key, sizeof(front->conn_key));
    json_add_number(out, "incarnations", front->incarnations);
    json_add_number(out, "last_generation", front->last_generation);
    json_add_number(out, "asked_at", reload->asked_at);
    json_add_number(out, "pending", reload->pending);
    json_add_number(out, "started", front->started);
    json_add_integer(out, "lock_fd", front->lock_fd);
    if (workers != NULL && front->control_fd >= 0)
        json_add_integer(out, "control_fd", front->control_fd);
    if (front->alive_fd >= 0)
        json_add_integer(out, "alive_fd", front->alive_fd);
    if (workers != NULL && front->admin_pid > 0)
        json_add_integer(out, "admin_pid", front->admin_pid);
    if (workers != NULL && front->tickets_fd >= 0)
        json_add_integer(out, "tickets_fd", front->tickets_fd);
    holds_save(&front->holds, out);
    json_begin(out, "wake_fds", '[');
    for (size_t i = 0; i < SHARE_SEATS; i++)
        json_add_integer(out, NULL, front->wake_fds[i]);
    json_end(out, ']');
    json_begin(out, "endpoints", '[');
    for (size_t i = 0; i < front->endpoints.count; i++)
        put_endpoint(out, &front->endpoints.all[i]);
    json_end(out, ']');
    if (workers != NULL) {
        reload_report_save(&front->report, out);
        workers_save(workers, out, "managed");
        paths_save(&front->paths, out);
    }
    if (workers != NULL)
        put_counts(out, front);
    json_begin(out, "generations", '[');
    for (size_t g = 0; g < FRONT_GENERATIONS; g++) {
        if (front->generations[g] != NULL)
            put_generation(out, front->generations[g], workers == NULL);
    }
    json_end(out, ']');
    json_end(out, '}');
}

int reexec_write(
    const struct front *front, const struct reload *reload, const struct workers *workers)
{
    struct json_writer out = {0};
    put_all(&out, front, reload, workers);
    size_t n = buf_len(&out.out);
    int fd = out.failed ? -1 : memfd_create("frontd-state", MFD_CLOEXEC);
    int r = out.failed ? -ENOMEM : fd < 0 ? -errno : 0;
    if (r == 0 && write(fd, buf_data(&out.out), n) != (ssize_t)n) {
        r = -EIO;
        close(fd);
    }
    buf_deinit(&out.out);
    return r < 0 ? r : fd;
}

void reexec_write_record(const struct front *front, const struct reload *reload)
{
    if (front->run_dir_fd < 0)
        return;
    struct json_writer out = {0};
    put_all(&out, front, reload, NULL);
    int r = out.failed ? -ENOMEM
                       : folder_write(
                             front->run_dir_fd, RECORD_NAME, buf_data(&out.out), buf_len(&out.out));
    if (r < 0)
        log_error("cannot write " RECORD_NAME ": %s; should this process be killed, the next one "
                  "does not find all shards",
            strerror(-r));
    buf_deinit(&out.out);
}

/* Reading */

/* A number of at most `max`; 0 where there is none. */
static uint64_t get(struct span object, const char *name, uint64_t max)
{
    return json_read_number(json_read_member(object, name), max, 0);
}

static bool get_flag(struct span object, const char *name)
{
    return json_is_true(json_read_member(object, name));
}

/* A descriptor that is open, made close-on-exec; -1 where it is none. */
static int fd_of(struct span value)
{
    int fd = (int)json_read_number(value, INT32_MAX, 0);
    return fd > STDERR_FILENO && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 ? fd : -1;
}

static int get_fd(struct span object, const char *name)
{
    return fd_of(json_read_member(object, name));
}

static int read_endpoint(struct front *front, struct span object)
{
    struct conf_address address;
    struct span value;
    size_t n = 0;
    int r = record_get_address(object, &address);
    struct span fds = json_read_member(object, "fds");
    for (size_t at = 0; r == 0 && json_read_next(fds, &at, &value); n++) {
        int fd = fd_of(value);
        r = fd < 0 ? -EBADF : endpoints_add(&front->endpoints, &address, fd);
    }
    if (r < 0 || n == 0)
        return r;
    struct endpoint *endpoint = endpoints_find(&front->endpoints, &address);
    endpoint->shared = get_flag(object, "shared");
    endpoint->dev = get(object, "dev", UINT64_MAX);
    endpoint->ino = get(object, "ino", UINT64_MAX);
    return 0;
}

static int read_process(struct generation *generation, uint32_t shard, struct span entry)
{
    struct shard_process *process = &generation->processes[shard];
    uint64_t seat = get(entry, "seat", UINT64_MAX);
    shard_process_init(process, generation, shard, (uint32_t)MIN(seat, (uint64_t)UINT32_MAX));
    generation->nprocesses++;
    if (process->seat > SHARE_SEAT_LAST)
        return -EINVAL;
    process->incarnation = get(entry, "incarnation", UINT64_MAX);
    process->failures = (unsigned)get(entry, "failures", UINT32_MAX);
    process->mark.birth = get(entry, "birth", UINT64_MAX);
    process->mark.ino = get(entry, "pidfs", UINT64_MAX);
    process->asks = get_flag(entry, "asks");
    int sock = get_fd(entry, "sock");
    pid_t pid = (pid_t)get(entry, "pid", INT32_MAX);
    if (sock < 0 || pid <= 0)
        return 0; /* it was down: generation_restart_missing() starts it */
    /*
     * A script that was executed before this program may have waited for it already: then waitpid()
     * will never tell of it.
     */
    bool ours = get_flag(entry, "ours") && process_is_child(pid);
    int r = shard_process_adopt(process, pid, sock, ours, get_flag(entry, "ready"));
    if (r == -ESRCH) { /* it has ended meanwhile */
        shard_process_lost(process, -1);
        return 0;
    }
    return r;
}

static int read_generation(struct front *front, struct span object, size_t slot)
{
    char error[512];
    struct span processes = json_read_member(object, "children");
    struct span entry;
    size_t n = json_read_count(processes);
    int conf_fd = get_fd(object, "conf_fd");
    int tls_fd = get_fd(object, "tls_fd"); /* a program before has none */
    int share_fd = get_fd(object, "share_fd");
    struct generation_share known;
    record_get_share(object, &known);
    if (conf_fd < 0 || share_fd < 0 || n == 0 || n > CONF_SHARDS_MAX)
        return -EINVAL;
    struct generation *generation = generation_found(front, conf_fd, tls_fd, share_fd, &known,
        get(object, "number", UINT64_MAX), (uint32_t)n, error, sizeof(error));
    if (generation == NULL) {
        log_error("%s", error);
        return -EINVAL;
    }
    front->generations[slot] = generation;
    uint64_t loaded = get(object, "loaded", UINT64_MAX);
    generation->loaded = loaded == 0 ? generation->loaded : loaded;
    int r = 0;
    uint32_t shard = 0;
    for (size_t at = 0; r == 0 && json_read_next(processes, &at, &entry); shard++)
        r = read_process(generation, shard, entry);
    return r;
}

/* Without the keys of the program before, clients do full handshakes once. */
static void read_tickets(struct front *front, int fd)
{
    int r = fd < 0 ? 0 : ticket_ring_restore(&front->tickets, fd);
    if (r < 0)
        log_warning("the keys of session tickets that the program before has left cannot be read: "
                    "%s; there are new ones",
            strerror(-r));
    if (fd >= 0)
        close(fd);
}

static int from_json(
    struct front *front, struct reload *reload, struct workers *workers, struct span state)
{
    struct span value;
    if (get(state, "version", UINT64_MAX) != STATE_VERSION ||
        !record_get_text(state, "instance", front->instance, sizeof(front->instance)))
        return -ENOTSUP;
    /*
     * A program that had none gave ids in another way: those that are given now do not follow from
     * them, and are not the same but by a chance of 1 in 2^64 for each two.
     */
    if (json_read_bytes(json_read_member(state, "conn_key"), front->conn_key, IDS_KEY_SIZE) !=
        IDS_KEY_SIZE)
        startup_conn_key(front);
    front->incarnations = get(state, "incarnations", UINT64_MAX);
    front->last_generation = get(state, "last_generation", UINT64_MAX);
    reload->asked_at = get(state, "asked_at", UINT64_MAX);
    reload->state = RELOAD_CHECKING; /* it executed us: the check went well */
    reload->upgrade = true;
    uint64_t pending = json_read_number(
        json_read_member(state, "pending"), RELOAD_EVENTS, RELOAD_EVENTS);
    reload->pending = pending == RELOAD_ON_CONFIG || pending == RELOAD_ON_UPGRADE
                          ? (enum reload_event)pending
                          : RELOAD_EVENTS;
    reload_report_restore(&front->report, state);
    paths_restore(&front->paths, state);
    front->started = get(state, "started", UINT64_MAX);
    front->lock_fd = get_fd(state, "lock_fd");
    front->control_fd = get_fd(state, "control_fd");
    int alive_fd = get_fd(state, "alive_fd"); /* of no use to this program */
    if (alive_fd >= 0)
        close(alive_fd);
    front->admin_pid = (pid_t)get(state, "admin_pid", INT32_MAX);
    read_tickets(front, get_fd(state, "tickets_fd"));
    if (front->lock_fd < 0)
        return -EBADF;
    if (holds_restore(&front->holds, state) < 0)
        return -ENOMEM;
    struct span all = json_read_member(state, "wake_fds");
    size_t n = 0;
    for (size_t at = 0; n < SHARE_SEATS && json_read_next(all, &at, &value);)
        front->wake_fds[n++] = fd_of(value);
    all = json_read_member(state, "endpoints");
    int r = 0;
    for (size_t at = 0; r == 0 && json_read_next(all, &at, &value);)
        r = read_endpoint(front, value);
    all = json_read_member(state, "generations");
    n = json_read_count(all);
    if (n == 0 || n > FRONT_GENERATIONS)
        return -EINVAL;
    size_t slot = 0;
    for (size_t at = 0; r == 0 && json_read_next(all, &at, &value);)
        r = read_generation(front, value, slot++);
    if (r < 0)
        return r;
    value = json_read_member(state, "counts");
    if (front->generations[0]->share == NULL && value.n > 0 &&
        buf_append(&front->counts, value.p, value.n) < 0)
        return -ENOMEM;
    workers_init(workers, &front->loop, front->generations[0]->conf->run_dir);
    value = json_read_member(state, "managed");
    r = value.n == 0 ? 0 : workers_restore(workers, value);
    if (r == -EINVAL)
        log_warning("what the program before says of its workers is not understood");
    return r == -ENOMEM ? r : 0;
}

int reexec_read(struct front *front, struct reload *reload, struct workers *workers, int state_fd,
    char *error, size_t error_size)
{
    struct stat st;
    struct span state;
    int r = -EINVAL;
    char *text = NULL;
    if (fstat(state_fd, &st) == 0 && st.st_size > 0 && st.st_size < STATE_SIZE_MAX) {
        text = mem_zalloc((size_t)st.st_size + 1);
        r = text == NULL ? -ENOMEM : -EINVAL;
    }
    if (text != NULL && pread(state_fd, text, (size_t)st.st_size, 0) == st.st_size)
        r = record_scan(text, (size_t)st.st_size, &state);
    if (r == 0)
        r = from_json(front, reload, workers, state);
    mem_free(text);
    close(state_fd);
    if (r < 0) {
        snprintf(
            error, error_size, "the state of the program before cannot be read: %s", strerror(-r));
        return r;
    }
    front->generations[0]->role = GENERATION_SERVING;
    return 0;
}
