#include "frontd/super/state.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "common/mem.h"
#include "frontd/super/boot.h"

/* A program reads its own version only; members may be added without a new one. */
enum { STATE_VERSION = 1, STATE_SIZE_MAX = 16 * 1024 * 1024 };

/* Calls `fn` for each descriptor that the program which follows is to have. */
static void each_fd(
    const struct super *super, int state_fd, void (*fn)(int fd, bool open), bool open)
{
    fn(state_fd, open);
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

static void put(struct json_object *object, const char *name, uint64_t value)
{
    json_object_object_add(object, name, json_object_new_uint64(value));
}

static struct json_object *put_array(struct json_object *object, const char *name)
{
    struct json_object *array = json_object_new_array();
    json_object_object_add(object, name, array);
    return array;
}

static void put_hex(struct json_object *object, const char *name, const uint8_t *bytes, size_t n)
{
    char hex[2 * sizeof(((struct endpoint *)0)->address.sock) + 1];
    CHECK(2 * n < sizeof(hex));
    for (size_t i = 0; i < n; i++)
        snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
    json_object_object_add(object, name, json_object_new_string_len(hex, (int)(2 * n)));
}

static void put_endpoint(struct json_object *array, const struct endpoint *endpoint)
{
    struct json_object *object = json_object_new_object();
    put_hex(object, "address", (const uint8_t *)&endpoint->address.sock, endpoint->address.len);
    json_object_object_add(object, "shared", json_object_new_boolean(endpoint->shared));
    put(object, "dev", endpoint->dev);
    put(object, "ino", endpoint->ino);
    struct json_object *fds = put_array(object, "fds");
    for (uint32_t i = 0; i < endpoint->count; i++)
        json_object_array_add(fds, json_object_new_int(endpoint->fds[i]));
    json_object_array_add(array, object);
}

static void put_generation(struct json_object *array, const struct generation *generation)
{
    struct json_object *object = json_object_new_object();
    put(object, "number", generation->number);
    put(object, "conf_fd", (uint64_t)generation->conf_fd);
    put(object, "share_fd", (uint64_t)generation->share_fd);
    put(object, "shards", generation->nchildren);
    struct json_object *children = put_array(object, "children");
    for (uint32_t i = 0; i < generation->nchildren; i++) {
        const struct child *child = &generation->children[i];
        struct json_object *entry = json_object_new_object();
        put(entry, "seat", child->seat);
        put(entry, "incarnation", child->incarnation);
        put(entry, "failures", child->failures);
        json_object_object_add(entry, "pid", json_object_new_int(child->pid));
        json_object_object_add(entry, "sock", json_object_new_int(child->sock));
        json_object_object_add(
            entry, "ready", json_object_new_boolean(child->state == CHILD_READY));
        json_object_object_add(entry, "ours", json_object_new_boolean(!child->end_open));
        json_object_array_add(children, entry);
    }
    json_object_array_add(array, object);
}

static struct json_object *to_json(const struct super *super)
{
    struct json_object *state = json_object_new_object();
    put(state, "version", STATE_VERSION);
    json_object_object_add(state, "instance", json_object_new_string(super->instance));
    put_hex(state, "conn_key", super->conn_key, sizeof(super->conn_key));
    put(state, "incarnations", super->incarnations);
    put(state, "last_generation", super->last_generation);
    put(state, "asked_at", super->asked_at);
    put(state, "pending", super->machine.pending);
    put(state, "lock_fd", (uint64_t)super->lock_fd);
    put(state, "alive_fd", (uint64_t)super->alive_fd);
    struct json_object *wake = put_array(state, "wake_fds");
    for (size_t i = 0; i < SHARE_SEATS; i++)
        json_object_array_add(wake, json_object_new_int(super->wake_fds[i]));
    struct json_object *endpoints = put_array(state, "endpoints");
    for (size_t i = 0; i < super->endpoints.count; i++)
        put_endpoint(endpoints, &super->endpoints.all[i]);
    json_object_object_add(state, "managed", managed_save(&super->managed));
    struct json_object *generations = put_array(state, "generations");
    for (size_t g = 0; g < SUPER_GENERATIONS; g++) {
        if (super->generations[g] != NULL)
            put_generation(generations, super->generations[g]);
    }
    return state;
}

int state_write(const struct super *super)
{
    struct json_object *state = to_json(super);
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

/* Reading */

static uint64_t get(const struct json_object *object, const char *name)
{
    struct json_object *value;
    return json_object_object_get_ex(object, name, &value) ? json_object_get_uint64(value) : 0;
}

static bool get_bool(const struct json_object *object, const char *name)
{
    struct json_object *value;
    return json_object_object_get_ex(object, name, &value) && json_object_get_boolean(value);
}

/* NULL where it is no string. */
static const char *get_string(const struct json_object *object, const char *name)
{
    struct json_object *value;
    if (!json_object_object_get_ex(object, name, &value) ||
        !json_object_is_type(value, json_type_string))
        return NULL;
    return json_object_get_string(value);
}

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

static struct json_object *get_array(
    const struct json_object *object, const char *name, size_t *ret_n)
{
    struct json_object *array;
    *ret_n = 0;
    if (!json_object_object_get_ex(object, name, &array) ||
        !json_object_is_type(array, json_type_array))
        return NULL;
    *ret_n = json_object_array_length(array);
    return array;
}

/* Returns how many bytes there are, or -EINVAL: no string of hex digits, or over `max` bytes. */
static int get_hex(const struct json_object *object, const char *name, uint8_t *bytes, size_t max)
{
    const char *hex = get_string(object, name);
    size_t n = hex == NULL ? 0 : strlen(hex) / 2;
    if (hex == NULL || n > max)
        return -EINVAL;
    for (size_t i = 0; i < n; i++) {
        unsigned byte;
        if (sscanf(hex + 2 * i, "%2x", &byte) != 1)
            return -EINVAL;
        bytes[i] = (uint8_t)byte;
    }
    return (int)n;
}

static int read_address(const struct json_object *object, struct conf_address *ret_address)
{
    *ret_address = (struct conf_address){.len = 0};
    int n = get_hex(object, "address", (uint8_t *)&ret_address->sock, sizeof(ret_address->sock));
    if (n < (int)sizeof(sa_family_t))
        return -EINVAL;
    ret_address->len = (socklen_t)n;
    const struct sockaddr_un *un = &ret_address->sock.un;
    bool ends = strnlen(un->sun_path, sizeof(un->sun_path)) < sizeof(un->sun_path);
    return un->sun_family != AF_UNIX || ends ? 0 : -EINVAL;
}

static int read_endpoint(struct super *super, const struct json_object *object)
{
    struct conf_address address;
    size_t n;
    struct json_object *fds = get_array(object, "fds", &n);
    int r = read_address(object, &address);
    for (size_t i = 0; r == 0 && i < n; i++) {
        int fd = fd_of(json_object_array_get_idx(fds, i));
        r = fd < 0 ? -EBADF : endpoints_add(&super->endpoints, &address, fd);
    }
    if (r < 0 || n == 0)
        return r;
    struct endpoint *endpoint = endpoints_find(&super->endpoints, &address);
    endpoint->shared = get_bool(object, "shared");
    endpoint->dev = get(object, "dev");
    endpoint->ino = get(object, "ino");
    return 0;
}

static int read_child(struct generation *generation, uint32_t shard, struct json_object *entry)
{
    struct child *child = &generation->children[shard];
    child_init(child, generation, shard, (uint32_t)get(entry, "seat"));
    generation->nchildren++;
    if (child->seat > SHARE_SEAT_LAST)
        return -EINVAL;
    child->incarnation = get(entry, "incarnation");
    child->failures = (unsigned)get(entry, "failures");
    int sock = get_fd(entry, "sock");
    pid_t pid = (pid_t)(int64_t)get(entry, "pid");
    if (sock < 0 || pid <= 0)
        return 0; /* it was down: generation_restart_missing() starts it */
    int r = child_adopt(child, pid, sock, get_bool(entry, "ours"));
    if (r == 0 && !get_bool(entry, "ready"))
        child->state = CHILD_STARTING;
    return r;
}

static int read_generation(struct super *super, const struct json_object *object, size_t slot)
{
    char error[512];
    size_t n;
    struct json_object *children = get_array(object, "children", &n);
    int conf_fd = get_fd(object, "conf_fd");
    int share_fd = get_fd(object, "share_fd");
    if (conf_fd < 0 || share_fd < 0 || n == 0 || n > CONF_SHARDS_MAX)
        return -EINVAL;
    struct generation *generation = generation_found(
        super, conf_fd, share_fd, get(object, "number"), (uint32_t)n, error, sizeof(error));
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
    const char *instance = get_string(state, "instance");
    if (get(state, "version") != STATE_VERSION || instance == NULL)
        return -ENOTSUP;
    snprintf(super->instance, sizeof(super->instance), "%s", instance);
    /* A program that had none gave ids in another way: those that are given now do not follow from
     * them, and are not the same but by a chance of 1 in 2^64 for each two. */
    if (get_hex(state, "conn_key", super->conn_key, IDS_KEY_SIZE) != IDS_KEY_SIZE)
        boot_conn_key(super);
    super->incarnations = get(state, "incarnations");
    super->last_generation = get(state, "last_generation");
    super->asked_at = get(state, "asked_at");
    super->machine.state = MACHINE_CHECKING; /* it executed us: the check went well */
    super->machine.upgrade = true;
    uint64_t pending = json_object_object_get_ex(state, "pending", &value)
                           ? json_object_get_uint64(value)
                           : MACHINE_EVENTS;
    super->machine.pending = pending == MACHINE_RELOAD || pending == MACHINE_UPGRADE
                                 ? (enum machine_event)pending
                                 : MACHINE_EVENTS;
    super->lock_fd = get_fd(state, "lock_fd");
    super->alive_fd = get_fd(state, "alive_fd");
    if (super->lock_fd < 0 || super->alive_fd < 0)
        return -EBADF;
    struct json_object *wake = get_array(state, "wake_fds", &n);
    for (size_t i = 0; i < MIN(n, (size_t)SHARE_SEATS); i++)
        super->wake_fds[i] = fd_of(json_object_array_get_idx(wake, i));
    struct json_object *array = get_array(state, "endpoints", &n);
    int r = 0;
    for (size_t i = 0; r == 0 && i < n; i++)
        r = read_endpoint(super, json_object_array_get_idx(array, i));
    array = get_array(state, "generations", &n);
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
