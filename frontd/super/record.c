#include "frontd/super/record.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "common/mem.h"
#include "frontd/super/folder.h"

enum { VERSION = 1 }; /* of the state */

static const char *const role_names[] = {
    [GENERATION_STARTING] = "starting",
    [GENERATION_SERVING] = "serving",
    [GENERATION_LEAVING] = "leaving",
    [GENERATION_STOPPING] = "stopping",
};

const char *record_role_name(enum generation_role role)
{
    return role_names[role];
}

void record_put_share(struct json_object *object, const struct generation *generation)
{
    struct stat st;
    if (generation->share == NULL || fstat(generation->share_fd, &st) < 0)
        return;
    const struct share_table *table = share_table(generation->share);
    struct json_object *share = json_object_new_object();
    json_object_object_add(object, "share", share);
    json_put_number(share, "layout", SHARE_LAYOUT);
    json_put_number(share, "size", (uint64_t)st.st_size);
    json_put_number(share, "dev", st.st_dev);
    json_put_number(share, "ino", st.st_ino);
    struct json_object *key = json_put_array(share, "key");
    json_object_array_add(key, json_object_new_uint64(table->key.k0));
    json_object_array_add(key, json_object_new_uint64(table->key.k1));
    struct json_object *pools = json_put_array(share, "pools");
    for (size_t i = 0; i < SHARE_POOLS; i++)
        json_object_array_add(pools, json_object_new_uint64(table->pools[i]));
}

void record_get_share(const struct json_object *object, struct generation_share *ret_share)
{
    struct json_object *share;
    size_t nkey;
    size_t npools;
    *ret_share = (struct generation_share){0};
    if (!json_object_object_get_ex(object, "share", &share))
        return;
    const struct json_object *key = json_array(share, "key", &nkey);
    const struct json_object *pools = json_array(share, "pools", &npools);
    if (json_number(share, "layout") != SHARE_LAYOUT || nkey != 2 || npools != SHARE_POOLS)
        return;
    ret_share->known = true;
    ret_share->size = json_number(share, "size");
    ret_share->dev = json_number(share, "dev");
    ret_share->ino = json_number(share, "ino");
    ret_share->table.key = (struct hash_key){json_number_at(key, 0), json_number_at(key, 1)};
    for (size_t i = 0; i < SHARE_POOLS; i++)
        ret_share->table.pools[i] = json_number_at(pools, i);
}

static int read_role(const struct json_object *object, enum generation_role *ret_role)
{
    const char *name = json_text(object, "role");
    for (size_t i = 0; name != NULL && i < ARRAY_LEN(role_names); i++) {
        if (strcmp(name, role_names[i]) == 0) {
            *ret_role = (enum generation_role)i;
            return 0;
        }
    }
    return -EINVAL;
}

static int read_child(const struct json_object *object, struct record_child *child, uint64_t *seats)
{
    uint64_t seat = json_number(object, "seat");
    uint64_t pid = json_number(object, "pid");
    child->mark.birth = json_number(object, "birth");
    child->mark.ino = json_number(object, "pidfs");
    child->incarnation = json_number(object, "incarnation");
    bool marked = child->mark.birth != 0 || child->mark.ino != 0;
    child->pid = pid > 1 && pid <= INT32_MAX && marked ? (pid_t)pid : -1;
    if (seat > SHARE_SEAT_LAST)
        return -EINVAL;
    child->seat = (uint32_t)seat;
    if (child->pid > 0 && *seats >> seat & 1)
        return -EINVAL; /* two cannot sit there */
    if (child->pid > 0)
        *seats |= (uint64_t)1 << seat;
    return 0;
}

static int read_generation(
    const struct json_object *object, struct record_generation *generation, uint64_t *seats)
{
    struct json_object *conf;
    size_t n;
    const struct json_object *children = json_array(object, "children", &n);
    if (n == 0 || n > CONF_SHARDS_MAX || read_role(object, &generation->role) < 0 ||
        !json_object_object_get_ex(object, "conf", &conf) ||
        !json_object_is_type(conf, json_type_string))
        return -EINVAL;
    generation->number = json_number(object, "number");
    generation->shards = (uint32_t)n;
    generation->conf = json_object_get_string(conf);
    generation->conf_n = (size_t)json_object_get_string_len(conf);
    record_get_share(object, &generation->share);
    for (size_t i = 0; i < n; i++) {
        int r = read_child(json_object_array_get_idx(children, i), &generation->children[i], seats);
        if (r < 0)
            return r;
    }
    return 0;
}

static int read_endpoint(
    const struct json_object *object, struct record_endpoint *endpoint, size_t *nsockets)
{
    size_t n;
    endpoint->shared = json_flag(object, "shared");
    endpoint->dev = json_number(object, "dev");
    endpoint->ino = json_number(object, "ino");
    endpoint->cookies = json_array(object, "cookies", &n);
    *nsockets += n;
    return json_address(object, &endpoint->address);
}

/* Whether a process is two shards. */
static bool is_there_twice(const struct record *record, size_t g, uint32_t shard)
{
    pid_t pid = record->generations[g].children[shard].pid;
    for (size_t i = 0; pid > 0 && i <= g; i++) {
        const struct record_generation *generation = &record->generations[i];
        for (uint32_t k = 0; k < (i == g ? shard : generation->shards); k++) {
            if (generation->children[k].pid == pid)
                return true;
        }
    }
    return false;
}

static int from_json(struct record *record, const struct json_object *json)
{
    uint64_t seats = 0;
    size_t n;
    const char *instance = json_text(json, "instance");
    const char *boot = json_text(json, "boot");
    if (json_number(json, "version") != VERSION || instance == NULL)
        return -ENOTSUP;
    snprintf(record->boot, sizeof(record->boot), "%s", boot == NULL ? "" : boot);
    snprintf(record->instance, sizeof(record->instance), "%s", instance);
    if (json_bytes(json, "conn_key", record->conn_key, IDS_KEY_SIZE) != IDS_KEY_SIZE)
        return -EINVAL;
    record->incarnations = json_number(json, "incarnations");
    record->last_generation = json_number(json, "last_generation");
    const struct json_object *array = json_array(json, "endpoints", &n);
    if (n > ARRAY_LEN(record->endpoints))
        return -EINVAL;
    for (; record->nendpoints < n; record->nendpoints++) {
        int r = read_endpoint(json_object_array_get_idx(array, record->nendpoints),
            &record->endpoints[record->nendpoints], &record->nsockets);
        if (r < 0)
            return r;
    }
    array = json_array(json, "generations", &n);
    if (n == 0 || n > ARRAY_LEN(record->generations))
        return -EINVAL;
    for (; record->ngenerations < n; record->ngenerations++) {
        int r = read_generation(json_object_array_get_idx(array, record->ngenerations),
            &record->generations[record->ngenerations], &seats);
        if (r < 0)
            return r;
        for (uint32_t i = 0; i < record->generations[record->ngenerations].shards; i++) {
            if (is_there_twice(record, record->ngenerations, i))
                return -EINVAL;
        }
    }
    return 0;
}

static int parse(const char *text, size_t n, struct json_object **ret_json)
{
    struct json_tokener *tokener = n <= RECORD_SIZE_MAX ? json_tokener_new() : NULL;
    if (tokener == NULL)
        return n <= RECORD_SIZE_MAX ? -ENOMEM : -EINVAL;
    struct json_object *json = json_tokener_parse_ex(tokener, text, (int)n);
    bool ended = json_tokener_get_error(tokener) == json_tokener_success;
    json_tokener_free(tokener);
    if (ended && json_object_is_type(json, json_type_object)) {
        *ret_json = json;
        return 0;
    }
    json_object_put(json);
    return -EINVAL;
}

int record_parse(const char *text, size_t n, struct record **ret_record)
{
    struct record *record = mem_zalloc(sizeof(*record));
    if (record == NULL)
        return -ENOMEM;
    int r = parse(text, n, &record->json);
    if (r == 0)
        r = from_json(record, record->json);
    if (r < 0) {
        record_free(record);
        return r;
    }
    *ret_record = record;
    return 0;
}

int record_read(int run_dir, struct record **ret_record)
{
    char *text;
    size_t n;
    int r = folder_read(run_dir, RECORD_NAME, RECORD_SIZE_MAX, &text, &n);
    if (r < 0)
        return r;
    r = record_parse(text, n, ret_record);
    mem_free(text);
    return r;
}

struct record *record_free(struct record *record)
{
    if (record == NULL)
        return NULL;
    json_object_put(record->json);
    return mem_free(record);
}

const struct record_endpoint *record_find_socket(const struct record *record, uint64_t cookie)
{
    for (size_t i = 0; cookie != 0 && i < record->nendpoints; i++) {
        const struct json_object *cookies = record->endpoints[i].cookies;
        size_t n = cookies == NULL ? 0 : json_object_array_length(cookies);
        for (size_t k = 0; k < n; k++) {
            if (json_number_at(cookies, k) == cookie)
                return &record->endpoints[i];
        }
    }
    return NULL;
}
