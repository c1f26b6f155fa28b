#include "frontd/super/state.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "common/mem.h"
#include "frontd/super/boot.h"
#include "frontd/super/folder.h"
#include "frontd/super/record.h"

enum { STATE_SIZE_MAX = 16 * 1024 * 1024 };

/* Calls `fn` for each descriptor that the program which follows is to have. */
static void each_fd(
    const struct super *super, int state_fd, void (*fn)(int fd, bool open), bool open)
{
    fn(state_fd, open);
    if (super->alive_fd >= 0)
        fn(super->alive_fd, open);
    fn(super->lock_fd, open);
    for (size_t i = 0; i < SHARE_SEATS; i++) {
        if (super->wake_fds[i] >= 0)
            fn(super->wake_fds[i], open);
    }
    for (size_t i = 0; i < super->endpoints.count; i++) {
        for (uint32_t k = 0; k < super->endpoints.all[i].count; k++)
            fn(super->endpoints.all[i].fds[k], open);
    }
    for (size_t g = 0; g < SUPER_GENERATIONS; g++) {
        const struct generation *generation = super->generations[g];
        if (generation == NULL)
            continue;
        fn(generation->conf_fd, open);
        fn(generation->share_fd, open);
        for (uint32_t i = 0; i < generation->nchildren; i++) {
            if (generation->children[i].sock >= 0)
                fn(generation->children[i].sock, open);
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

void state_keep_open(const struct super *super, int state_fd, bool open)
{
    each_fd(super, state_fd, set_open, open);
    managed_each_fd(&super->managed, set_worker_open, &open);
}

/* Writing */

static void put_endpoint(struct json_object *array, const struct endpoint *endpoint)
{
    struct json_object *object = json_object_new_object();
    json_put_address(object, &endpoint->address);
    json_put_flag(object, "shared", endpoint->shared);
    json_put_number(object, "dev", endpoint->dev);
    json_put_number(object, "ino", endpoint->ino);
    struct json_object *fds = json_put_array(object, "fds");
    struct json_object *cookies = json_put_array(object, "cookies");
    for (uint32_t i = 0; i < endpoint->count; i++) {
        json_object_array_add(fds, json_object_new_int(endpoint->fds[i]));
        json_object_array_add(cookies, json_object_new_uint64(endpoint_cookie(endpoint->fds[i])));
    }
    json_object_array_add(array, object);
}

/* The text of a config, which the descriptor has: it is sealed. */
static void put_conf(struct json_object *object, int fd)
{
    struct stat st;
    char *text = fstat(fd, &st) < 0 ? NULL : mem_zalloc((size_t)st.st_size + 1);
    if (text != NULL && pread(fd, text, (size_t)st.st_size, 0) == st.st_size)
        json_object_object_add(object, "conf", json_object_new_string_len(text, (int)st.st_size));
    mem_free(text);
}

static void put_generation(
    struct json_object *array, const struct generation *generation, bool with_conf)
{
    struct json_object *object = json_object_new_object();
    json_put_number(object, "number", generation->number);
    json_object_object_add(
        object, "role", json_object_new_string(record_role_name(generation->role)));
    json_put_number(object, "conf_fd", (uint64_t)generation->conf_fd);
    json_put_number(object, "share_fd", (uint64_t)generation->share_fd);
    json_put_number(object, "shards", generation->nchildren);
    if (with_conf)
        put_conf(object, generation->conf_fd);
    record_put_share(object, generation);
    struct json_object *children = json_put_array(object, "children");
    for (uint32_t i = 0; i < generation->nchildren; i++) {
        const struct child *child = &generation->children[i];
        struct json_object *entry = json_object_new_object();
        json_put_number(entry, "seat", child->seat);
        json_put_number(entry, "incarnation", child->incarnation);
        json_put_number(entry, "failures", child->failures);
        json_put_number(entry, "birth", child->mark.birth);
        json_put_number(entry, "pidfs", child->mark.ino);
        json_object_object_add(entry, "pid", json_object_new_int(child->pid));
        json_object_object_add(entry, "sock", json_object_new_int(child->sock));
        json_put_flag(entry, "ready", child->state == CHILD_READY);
        json_put_flag(entry, "ours", !child->end_open);
        json_object_array_add(children, entry);
    }
    json_object_array_add(array, object);
}

/* with_confs: also the texts of the configs; without, their descriptors say it. */
static struct json_object *to_json(const struct super *super, bool with_confs)
{
    struct json_object *state = json_object_new_object();
    json_put_number(state, "version", STATE_VERSION);
    char boot[PROCESS_BOOT_SIZE];
    process_boot(boot);
    json_object_object_add(state, "boot", json_object_new_string(boot));
    json_object_object_add(state, "instance", json_object_new_string(super->instance));
    json_put_bytes(state, "conn_key", super->conn_key, sizeof(super->conn_key));
    json_put_number(state, "incarnations", super->incarnations);
    json_put_number(state, "last_generation", super->last_generation);
    json_put_number(state, "asked_at", super->asked_at);
    json_put_number(state, "pending", super->machine.pending);
    json_put_number(state, "lock_fd", (uint64_t)super->lock_fd);
    if (super->alive_fd >= 0)
        json_put_number(state, "alive_fd", (uint64_t)super->alive_fd);
    struct json_object *wake = json_put_array(state, "wake_fds");
    for (size_t i = 0; i < SHARE_SEATS; i++)
        json_object_array_add(wake, json_object_new_int(super->wake_fds[i]));
    struct json_object *endpoints = json_put_array(state, "endpoints");
    for (size_t i = 0; i < super->endpoints.count; i++)
        put_endpoint(endpoints, &super->endpoints.all[i]);
    if (!with_confs) /* else run_dir/workers/pids says it */
        json_object_object_add(state, "managed", managed_save(&super->managed));
    struct json_object *generations = json_put_array(state, "generations");
    for (size_t g = 0; g < SUPER_GENERATIONS; g++) {
        if (super->generations[g] != NULL)
            put_generation(generations, super->generations[g], with_confs);
    }
    return state;
}

int state_write(const struct super *super)
{
    struct json_object *state = to_json(super, false);
    size_t n;
    const char *text = json_object_to_json_string_length(state, JSON_C_TO_STRING_PLAIN, &n);
    int fd = text == NULL ? -1 : memfd_create("frontd-state", MFD_CLOEXEC);
    int r = fd < 0 ? -errno : 0;
    if (r == 0 && write(fd, text, n) != (ssize_t)n) {
        r = -EIO;
        close(fd);
    }
    json_object_put(state);
    return r < 0 ? r : fd;
}

void state_record(const struct super *super)
{
    if (super->run_dir_fd < 0)
        return;
    struct json_object *state = to_json(super, true);
    size_t n;
    const char *text = json_object_to_json_string_length(state, JSON_C_TO_STRING_PLAIN, &n);
    int r = text == NULL ? -ENOMEM : folder_write(super->run_dir_fd, RECORD_NAME, text, n);
    if (r < 0)
        log_error("cannot write " RECORD_NAME ": %s; should this process be killed, the next one "
                  "does not find all shards",
            strerror(-r));
    json_object_put(state);
}

void state_forget(const struct super *super)
{
    if (super->run_dir_fd >= 0)
        unlinkat(super->run_dir_fd, RECORD_NAME, 0);
}

/* Reading */

/* A descriptor that is open, made close-on-exec; -1 where it is none. */
static int fd_of(struct json_object *value)
{
    int fd = json_object_get_int(value);
    return fd > STDERR_FILENO && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 ? fd : -1;
}

static int get_fd(const struct json_object *object, const char *name)
{
    struct json_object *value;
    return json_object_object_get_ex(object, name, &value) ? fd_of(value) : -1;
}

static int read_endpoint(struct super *super, const struct json_object *object)
{
    struct conf_address address;
    size_t n;
    struct json_object *fds = json_array(object, "fds", &n);
    int r = json_address(object, &address);
    for (size_t i = 0; r == 0 && i < n; i++) {
        int fd = fd_of(json_object_array_get_idx(fds, i));
        r = fd < 0 ? -EBADF : endpoints_add(&super->endpoints, &address, fd);
    }
    if (r < 0 || n == 0)
        return r;
    struct endpoint *endpoint = endpoints_find(&super->endpoints, &address);
    endpoint->shared = json_flag(object, "shared");
    endpoint->dev = json_number(object, "dev");
    endpoint->ino = json_number(object, "ino");
    return 0;
}

static int read_child(struct generation *generation, uint32_t shard, struct json_object *entry)
{
    struct child *child = &generation->children[shard];
    child_init(child, generation, shard, (uint32_t)json_number(entry, "seat"));
    generation->nchildren++;
    if (child->seat > SHARE_SEAT_LAST)
        return -EINVAL;
    child->incarnation = json_number(entry, "incarnation");
    child->failures = (unsigned)json_number(entry, "failures");
    child->mark.birth = json_number(entry, "birth");
    child->mark.ino = json_number(entry, "pidfs");
    int sock = get_fd(entry, "sock");
    pid_t pid = (pid_t)(int64_t)json_number(entry, "pid");
    if (sock < 0 || pid <= 0)
        return 0; /* it was down: generation_restart_missing() starts it */
    int r = child_adopt(child, pid, sock, json_flag(entry, "ours"));
    if (r == -ESRCH) { /* it has ended meanwhile, and was nobody's child here */
        child_lost(child, -1);
        return 0;
    }
    if (r == 0 && !json_flag(entry, "ready"))
        child->state = CHILD_STARTING;
    return r;
}

static int read_generation(struct super *super, const struct json_object *object, size_t slot)
{
    char error[512];
    size_t n;
    struct json_object *children = json_array(object, "children", &n);
    int conf_fd = get_fd(object, "conf_fd");
    int share_fd = get_fd(object, "share_fd");
    struct generation_share known;
    record_get_share(object, &known);
    if (conf_fd < 0 || share_fd < 0 || n == 0 || n > CONF_SHARDS_MAX)
        return -EINVAL;
    struct generation *generation = generation_found(super, conf_fd, share_fd, &known,
        json_number(object, "number"), (uint32_t)n, error, sizeof(error));
    if (generation == NULL) {
        log_error("%s", error);
        return -EINVAL;
    }
    super->generations[slot] = generation;
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < n; i++)
        r = read_child(generation, i, json_object_array_get_idx(children, i));
    return r;
}

static int from_json(struct super *super, const struct json_object *state)
{
    struct json_object *value;
    size_t n;
    const char *instance = json_text(state, "instance");
    if (json_number(state, "version") != STATE_VERSION || instance == NULL)
        return -ENOTSUP;
    snprintf(super->instance, sizeof(super->instance), "%s", instance);
    /* A program that had none gave ids in another way: those that are given now do not follow from
     * them, and are not the same but by a chance of 1 in 2^64 for each two. */
    if (json_bytes(state, "conn_key", super->conn_key, IDS_KEY_SIZE) != IDS_KEY_SIZE)
        boot_conn_key(super);
    super->incarnations = json_number(state, "incarnations");
    super->last_generation = json_number(state, "last_generation");
    super->asked_at = json_number(state, "asked_at");
    super->machine.state = MACHINE_CHECKING; /* it executed us: the check went well */
    super->machine.upgrade = true;
    uint64_t pending = json_object_object_get_ex(state, "pending", &value)
                           ? json_object_get_uint64(value)
                           : MACHINE_EVENTS;
    super->machine.pending = pending == MACHINE_RELOAD || pending == MACHINE_UPGRADE
                                 ? (enum machine_event)pending
                                 : MACHINE_EVENTS;
    super->lock_fd = get_fd(state, "lock_fd");
    int alive_fd = get_fd(state, "alive_fd"); /* of no use to this program */
    if (alive_fd >= 0)
        close(alive_fd);
    if (super->lock_fd < 0)
        return -EBADF;
    struct json_object *wake = json_array(state, "wake_fds", &n);
    for (size_t i = 0; i < MIN(n, (size_t)SHARE_SEATS); i++)
        super->wake_fds[i] = fd_of(json_object_array_get_idx(wake, i));
    struct json_object *array = json_array(state, "endpoints", &n);
    int r = 0;
    for (size_t i = 0; r == 0 && i < n; i++)
        r = read_endpoint(super, json_object_array_get_idx(array, i));
    array = json_array(state, "generations", &n);
    if (n == 0 || n > SUPER_GENERATIONS)
        return -EINVAL;
    for (size_t i = 0; r == 0 && i < n; i++)
        r = read_generation(super, json_object_array_get_idx(array, i), i);
    if (r < 0)
        return r;
    managed_init(&super->managed, &super->loop, super->generations[0]->conf->run_dir);
    if (json_object_object_get_ex(state, "managed", &value) &&
        managed_restore(&super->managed, value) < 0)
        log_warning("what the program before says of its workers is not understood");
    return 0;
}

int state_read(struct super *super, int state_fd, char *error, size_t error_size)
{
    struct stat st;
    int r = -EINVAL;
    struct json_object *state = NULL;
    char *text = NULL;
    if (fstat(state_fd, &st) == 0 && st.st_size > 0 && st.st_size < STATE_SIZE_MAX)
        text = mem_zalloc((size_t)st.st_size + 1);
    if (text != NULL && pread(state_fd, text, (size_t)st.st_size, 0) == st.st_size)
        state = json_tokener_parse(text);
    if (json_object_is_type(state, json_type_object))
        r = from_json(super, state);
    json_object_put(state);
    mem_free(text);
    close(state_fd);
    if (r < 0) {
        snprintf(
            error, error_size, "the state of the program before cannot be read: %s", strerror(-r));
        return r;
    }
    super->generations[0]->role = GENERATION_SERVING;
    return 0;
}
