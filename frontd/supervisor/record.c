#include "frontd/supervisor/record.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/utf8.h"
#include "frontd/supervisor/identity.h"
#include "frontd/system/folder.h"
#include "proto/json_read.h"
#include "proto/json_scan.h"

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

static uint64_t get(struct span object, const char *name)
{
    return json_read_number(json_read_member(object, name), UINT64_MAX, 0);
}

int record_scan(const char *text, size_t n, struct span *ret_object)
{
    const char *end = text + n;
    const char *start = json_scan_white(text, end);
    const char *after = start == end || *start != '{' ? NULL : json_scan_value(start, end, 0);
    if (after == NULL || json_scan_white(after, end) != end)
        return -EINVAL;
    *ret_object = (struct span){start, (size_t)(after - start)};
    return 0;
}

bool record_get_text(struct span object, const char *name, char *out, size_t size)
{
    struct span value = json_read_member(object, name);
    if (!json_is_string(value) || memchr(value.p, '\\', value.n) != NULL)
        return false;
    snprintf(out, size, "%.*s", (int)MIN(value.n - 2, size), value.p + 1);
    return true;
}

void record_put_address(struct json_writer *out, const struct conf_address *address)
{
    json_add_bytes(out, "address", &address->sock, address->len);
}

int record_get_address(struct span object, struct conf_address *ret_address)
{
    *ret_address = (struct conf_address){.len = 0};
    ret_address->len = (socklen_t)json_read_bytes(
        json_read_member(object, "address"), &ret_address->sock, sizeof(ret_address->sock));
    if (ret_address->len < sizeof(sa_family_t))
        return -EINVAL;
    const struct sockaddr_un *un = &ret_address->sock.un;
    bool ends = strnlen(un->sun_path, sizeof(un->sun_path)) < sizeof(un->sun_path);
    return un->sun_family != AF_UNIX || ends ? 0 : -EINVAL;
}

void record_put_conf(struct json_writer *out, struct span text)
{
    if (utf8_valid(text.p, text.n))
        json_add_span(out, "conf", text);
    else
        json_add_bytes(out, "conf_bytes", text.p, text.n);
}

static int read_conf(struct span object, char **ret_text, size_t *ret_n)
{
    struct span bytes = json_read_member(object, "conf_bytes");
    if (bytes.n == 0)
        return json_read_text(json_read_member(object, "conf"), ret_text, ret_n);
    char *text = mem_zalloc(bytes.n / 2 + 1);
    if (text == NULL)
        return -ENOMEM;
    *ret_text = text;
    *ret_n = json_read_bytes(bytes, text, bytes.n / 2);
    return *ret_n > 0 ? 0 : -EINVAL;
}

static void put_numbers(
    struct json_writer *out, const char *name, const uint64_t *numbers, size_t n)
{
    json_begin(out, name, '[');
    for (size_t i = 0; i < n; i++)
        json_add_number(out, NULL, numbers[i]);
    json_end(out, ']');
}

/* Reads as many numbers as there is room for. Returns how many there are. */
static size_t get_numbers(struct span array, uint64_t *numbers, size_t size)
{
    struct span value;
    size_t n = 0;
    for (size_t at = 0; json_read_next(array, &at, &value); n++) {
        if (n < size)
            numbers[n] = json_read_number(value, UINT64_MAX, 0);
    }
    return n;
}

void record_put_share(struct json_writer *out, const struct generation *generation)
{
    struct stat st;
    if (generation->share == NULL || fstat(generation->share_fd, &st) < 0)
        return;
    const struct share_table *table = share_table(generation->share);
    const uint64_t key[] = {table->key.k0, table->key.k1};
    json_begin(out, "share", '{');
    json_add_number(out, "layout", SHARE_LAYOUT);
    json_add_number(out, "size", (uint64_t)st.st_size);
    json_add_number(out, "dev", st.st_dev);
    json_add_number(out, "ino", st.st_ino);
    put_numbers(out, "key", key, ARRAY_LEN(key));
    put_numbers(out, "pools", table->pools, SHARE_POOLS);
    json_end(out, '}');
}

void record_get_share(struct span object, struct generation_share *ret_share)
{
    struct span share = json_read_member(object, "share");
    struct generation_share read = {.known = true};
    uint64_t key[2];
    *ret_share = (struct generation_share){0};
    if (get(share, "layout") != SHARE_LAYOUT ||
        get_numbers(json_read_member(share, "key"), key, ARRAY_LEN(key)) != ARRAY_LEN(key) ||
        get_numbers(json_read_member(share, "pools"), read.table.pools, SHARE_POOLS) != SHARE_POOLS)
        return;
    read.size = get(share, "size");
    read.dev = get(share, "dev");
    read.ino = get(share, "ino");
    read.table.key = (struct hash_key){key[0], key[1]};
    *ret_share = read;
}

static int read_role(struct span object, enum generation_role *ret_role)
{
    char name[16] = "";
    record_get_text(object, "role", name, sizeof(name));
    for (size_t i = 0; i < ARRAY_LEN(role_names); i++) {
        if (strcmp(name, role_names[i]) == 0) {
            *ret_role = (enum generation_role)i;
            return 0;
        }
    }
    return -EINVAL;
}

static int read_process(struct span object, struct record_process *process, uint64_t *seats)
{
    uint64_t seat = get(object, "seat");
    uint64_t pid = get(object, "pid");
    process->mark.birth = get(object, "birth");
    process->mark.ino = get(object, "pidfs");
    process->incarnation = get(object, "incarnation");
    process->asks = json_is_true(json_read_member(object, "asks"));
    bool marked = process->mark.birth != 0 || process->mark.ino != 0;
    process->pid = pid > 1 && pid <= INT32_MAX && marked ? (pid_t)pid : -1;
    if (seat > SHARE_SEAT_LAST)
        return -EINVAL;
    process->seat = (uint32_t)seat;
    if (process->pid > 0 && *seats >> seat & 1)
        return -EINVAL; /* two cannot sit there */
    if (process->pid > 0)
        *seats |= (uint64_t)1 << seat;
    return 0;
}

static int read_generation(
    struct span object, struct record_generation *generation, uint64_t *seats)
{
    struct span processes = json_read_member(object, "children");
    struct span entry;
    size_t n = json_read_count(processes);
    if (n == 0 || n > CONF_SHARDS_MAX || read_role(object, &generation->role) < 0)
        return -EINVAL;
    generation->number = get(object, "number");
    generation->shards = (uint32_t)n;
    record_get_share(object, &generation->share);
    int r = read_conf(object, &generation->conf, &generation->conf_n);
    struct record_process *process = generation->processes;
    for (size_t at = 0; r == 0 && json_read_next(processes, &at, &entry);)
        r = read_process(entry, process++, seats);
    return r;
}

static int read_endpoint(struct span object, struct record_endpoint *endpoint)
{
    struct span cookies = json_read_member(object, "cookies");
    endpoint->shared = json_is_true(json_read_member(object, "shared"));
    endpoint->dev = get(object, "dev");
    endpoint->ino = get(object, "ino");
    int r = record_get_address(object, &endpoint->address);
    size_t n = json_read_count(cookies);
    if (r < 0 || n == 0)
        return r;
    endpoint->cookies = mem_zalloc(n * sizeof(*endpoint->cookies));
    if (endpoint->cookies == NULL)
        return -ENOMEM;
    endpoint->ncookies = get_numbers(cookies, endpoint->cookies, n);
    return 0;
}

/* Whether the process of a shard stands there for an earlier one, too. */
static bool is_there_twice(const struct record *record, size_t g, uint32_t shard)
{
    pid_t pid = record->generations[g].processes[shard].pid;
    for (size_t i = 0; pid > 0 && i <= g; i++) {
        const struct record_generation *generation = &record->generations[i];
        for (uint32_t k = 0; k < (i == g ? shard : generation->shards); k++) {
            if (generation->processes[k].pid == pid)
                return true;
        }
    }
    return false;
}

static int read_endpoints(struct record *record, struct span array)
{
    struct span value;
    int r = 0;
    if (json_read_count(array) > ARRAY_LEN(record->endpoints))
        return -EINVAL;
    for (size_t at = 0; r == 0 && json_read_next(array, &at, &value);) {
        struct record_endpoint *endpoint = &record->endpoints[record->nendpoints++];
        r = read_endpoint(value, endpoint);
        record->nsockets += endpoint->ncookies;
    }
    return r;
}

static int read_generations(struct record *record, struct span array)
{
    struct span value;
    uint64_t seats = 0;
    size_t n = json_read_count(array);
    int r = 0;
    if (n == 0 || n > ARRAY_LEN(record->generations))
        return -EINVAL;
    for (size_t at = 0; r == 0 && json_read_next(array, &at, &value);) {
        size_t g = record->ngenerations++;
        r = read_generation(value, &record->generations[g], &seats);
        for (uint32_t i = 0; r == 0 && i < record->generations[g].shards; i++)
            r = is_there_twice(record, g, i) ? -EINVAL : 0;
    }
    return r;
}

static int from_json(struct record *record, struct span json)
{
    if (get(json, "version") != STATE_VERSION ||
        !record_get_text(json, "instance", record->instance, sizeof(record->instance)))
        return -ENOTSUP;
    record_get_text(json, "boot", record->boot, sizeof(record->boot)); /* of old it has none */
    struct span key = json_read_member(json, "conn_key");
    if (json_read_bytes(key, record->conn_key, IDS_KEY_SIZE) != IDS_KEY_SIZE)
        return -EINVAL;
    record->started = get(json, "started");
    record->incarnations = get(json, "incarnations");
    record->last_generation = get(json, "last_generation");
    holds_init(&record->holds);
    if (holds_restore(&record->holds, json) < 0)
        return -ENOMEM;
    int r = read_endpoints(record, json_read_member(json, "endpoints"));
    return r < 0 ? r : read_generations(record, json_read_member(json, "generations"));
}

int record_parse(const char *text, size_t n, struct record **ret_record)
{
    struct span json;
    int r = n > RECORD_SIZE_MAX ? -EINVAL : record_scan(text, n, &json);
    if (r < 0)
        return r;
    struct record *record = mem_zalloc(sizeof(*record));
    if (record == NULL)
        return -ENOMEM;
    r = from_json(record, json);
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

void record_forget(int run_dir)
{
    if (run_dir >= 0)
        unlinkat(run_dir, RECORD_NAME, 0);
}

struct record *record_free(struct record *record)
{
    if (record == NULL)
        return NULL;
    for (size_t i = 0; i < record->nendpoints; i++)
        mem_free(record->endpoints[i].cookies);
    for (size_t i = 0; i < record->ngenerations; i++)
        mem_free(record->generations[i].conf);
    holds_deinit(&record->holds);
    return mem_free(record);
}

const struct record_endpoint *record_find_socket(const struct record *record, uint64_t cookie)
{
    for (size_t i = 0; cookie != 0 && i < record->nendpoints; i++) {
        const struct record_endpoint *endpoint = &record->endpoints[i];
        for (size_t k = 0; k < endpoint->ncookies; k++) {
            if (endpoint->cookies[k] == cookie)
                return endpoint;
        }
    }
    return NULL;
}
