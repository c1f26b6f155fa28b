#include "proto/hello.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <string.h>

#include "common/mem.h"
#include "proto/frame.h"
#include "proto/jsonrpc.h"

/*
 * json-c accepts more than JSON, so our scanner looks first.
 * Returns an owned object, or NULL where the text is no JSON object.
 */
static json_object *parse_object(struct span body)
{
    if (body.n > INT32_MAX || jsonrpc_validate(body.p, body.n) != 0)
        return NULL;
    json_tokener *tokener = json_tokener_new_ex(JSONRPC_DEPTH_MAX + 1);
    if (tokener == NULL)
        return NULL;
    json_object *object = json_tokener_parse_ex(tokener, body.p, (int)body.n);
    if (object == NULL && json_tokener_get_error(tokener) == json_tokener_continue)
        object = json_tokener_parse_ex(tokener, "", -1);
    json_tokener_free(tokener);
    if (object != NULL && !json_object_is_type(object, json_type_object)) {
        json_object_put(object);
        return NULL;
    }
    return object;
}

/* An integer member between 0 and max. Returns 1 when it is there, 0 when it is not, -1 when bad.
 */
static int get_number(json_object *object, const char *key, int64_t max, int64_t *ret_value)
{
    json_object *member;
    if (!json_object_object_get_ex(object, key, &member))
        return 0;
    if (!json_object_is_type(member, json_type_int))
        return -1;
    int64_t value = json_object_get_int64(member);
    if (value < 0 || value > max)
        return -1;
    *ret_value = value;
    return 1;
}

static const char *get_string(json_object *object, const char *key)
{
    json_object *member;
    if (!json_object_object_get_ex(object, key, &member))
        return NULL;
    return json_object_is_type(member, json_type_string) ? json_object_get_string(member) : NULL;
}

/* max_frame, with its default and its least: a HELLO must fit. */
static int get_max_frame(json_object *object, uint32_t *ret_max)
{
    int64_t value = FRAME_MAX_DEFAULT;
    if (get_number(object, "max_frame", UINT32_MAX, &value) < 0 || value == 0)
        return HELLO_E_INVALID;
    *ret_max = (uint32_t)value;
    return 0;
}

static int append_object(struct buf *out, json_object *object)
{
    size_t n;
    const char *text = json_object_to_json_string_length(
        object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &n);
    int r = text == NULL ? -ENOMEM : buf_append(out, text, n);
    json_object_put(object);
    return r;
}

int hello_front_write(struct buf *out, const struct hello_front *hello)
{
    json_object *object = json_object_new_object();
    if (object == NULL)
        return -ENOMEM;
    json_object *versions = json_object_new_array();
    json_object_array_add(versions, json_object_new_int(HELLO_VERSION));
    json_object_object_add(object, "protocol", versions);
    json_object_object_add(object, "front", json_object_new_string("frontd/" FRONTD_VERSION));
    json_object_object_add(object, "instance", json_object_new_string(hello->instance));
    json_object_object_add(object, "generation", json_object_new_int64((int64_t)hello->generation));
    json_object_object_add(object, "shard", json_object_new_int64(hello->shard));
    json_object_object_add(object, "shards", json_object_new_int64(hello->shards));
    json_object_object_add(object, "pool", json_object_new_string(hello->pool));
    json_object_object_add(object, "max_frame", json_object_new_int64(hello->max_frame));
    return append_object(out, object);
}

int hello_worker_write(struct buf *out, const struct hello_worker *hello)
{
    json_object *object = json_object_new_object();
    if (object == NULL)
        return -ENOMEM;
    json_object_object_add(object, "protocol", json_object_new_int(HELLO_VERSION));
    if (hello->name != NULL)
        json_object_object_add(object, "name", json_object_new_string(hello->name));
    json_object_object_add(object, "pid", json_object_new_int64(hello->pid));
    json_object_object_add(object, "concurrency", json_object_new_int64(hello->concurrency));
    json_object_object_add(object, "max_frame", json_object_new_int64(hello->max_frame));
    if (hello->has_methods) {
        json_object *methods = json_object_new_array();
        for (size_t i = 0; i < hello->nmethods; i++)
            json_object_array_add(methods, json_object_new_string(hello->methods[i]));
        json_object_object_add(object, "methods", methods);
    }
    json_object *features = json_object_new_array();
    if (hello->push)
        json_object_array_add(features, json_object_new_string("push"));
    json_object_object_add(object, "features", features);
    return append_object(out, object);
}

void hello_worker_deinit(struct hello_worker *hello)
{
    for (size_t i = 0; i < hello->nmethods; i++)
        mem_free(hello->methods[i]);
    mem_free(hello->methods);
    mem_free(hello->name);
    *hello = (struct hello_worker){0};
}

static int read_methods(json_object *object, struct hello_worker *hello)
{
    json_object *methods;
    if (!json_object_object_get_ex(object, "methods", &methods))
        return 0;
    if (!json_object_is_type(methods, json_type_array))
        return HELLO_E_INVALID;
    size_t n = json_object_array_length(methods);
    if (n > HELLO_METHODS_MAX)
        return HELLO_E_INVALID;
    hello->has_methods = true;
    if (n == 0)
        return 0;
    hello->methods = mem_zalloc(n * sizeof(*hello->methods));
    if (hello->methods == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        json_object *method = json_object_array_get_idx(methods, i);
        if (!json_object_is_type(method, json_type_string))
            return HELLO_E_INVALID;
        hello->methods[i] = mem_strdup(json_object_get_string(method));
        if (hello->methods[i] == NULL)
            return -ENOMEM;
        hello->nmethods++;
    }
    return 0;
}

static bool has_feature(json_object *object, const char *feature)
{
    json_object *features;
    if (!json_object_object_get_ex(object, "features", &features) ||
        !json_object_is_type(features, json_type_array))
        return false;
    for (size_t i = 0; i < json_object_array_length(features); i++) {
        json_object *each = json_object_array_get_idx(features, i);
        if (json_object_is_type(each, json_type_string) &&
            strcmp(json_object_get_string(each), feature) == 0)
            return true;
    }
    return false;
}

static int read_worker(json_object *object, struct hello_worker *hello)
{
    int64_t value;
    if (get_number(object, "protocol", INT64_MAX, &value) != 1)
        return HELLO_E_INVALID;
    if (value != HELLO_VERSION)
        return HELLO_E_VERSION;
    hello->concurrency = 1;
    int r = get_number(object, "concurrency", UINT32_MAX, &value);
    if (r < 0)
        return HELLO_E_INVALID;
    if (r > 0)
        hello->concurrency = (uint32_t)value;
    r = get_max_frame(object, &hello->max_frame);
    if (r != 0)
        return r;
    if (get_number(object, "pid", INT64_MAX, &value) == 1)
        hello->pid = value;
    const char *name = get_string(object, "name");
    if (name != NULL) {
        hello->name = mem_strdup(name);
        if (hello->name == NULL)
            return -ENOMEM;
    }
    hello->push = has_feature(object, "push");
    return read_methods(object, hello);
}

int hello_worker_read(struct span body, struct hello_worker *ret_hello)
{
    json_object *object = parse_object(body);
    if (object == NULL)
        return HELLO_E_INVALID;
    struct hello_worker hello = {0};
    int r = read_worker(object, &hello);
    json_object_put(object);
    if (r != 0)
        hello_worker_deinit(&hello);
    else
        *ret_hello = hello;
    return r;
}

static bool offers_our_version(json_object *object)
{
    json_object *versions;
    if (!json_object_object_get_ex(object, "protocol", &versions) ||
        !json_object_is_type(versions, json_type_array))
        return false;
    for (size_t i = 0; i < json_object_array_length(versions); i++) {
        json_object *version = json_object_array_get_idx(versions, i);
        if (json_object_is_type(version, json_type_int) &&
            json_object_get_int64(version) == HELLO_VERSION)
            return true;
    }
    return false;
}

int hello_front_read(struct span body, struct hello_peer *ret_peer)
{
    json_object *object = parse_object(body);
    if (object == NULL)
        return HELLO_E_INVALID;
    struct hello_peer peer = {0};
    int r = 0;
    json_object *versions;
    if (!json_object_object_get_ex(object, "protocol", &versions))
        r = HELLO_E_INVALID;
    else if (!offers_our_version(object))
        r = HELLO_E_VERSION;
    else
        r = get_max_frame(object, &peer.max_frame);
    const char *front = get_string(object, "front");
    const char *pool = get_string(object, "pool");
    const char *instance = get_string(object, "instance");
    snprintf(peer.front, sizeof(peer.front), "%s", front == NULL ? "" : front);
    snprintf(peer.pool, sizeof(peer.pool), "%s", pool == NULL ? "" : pool);
    snprintf(peer.instance, sizeof(peer.instance), "%s", instance == NULL ? "" : instance);
    int64_t shard = 0;
    get_number(object, "shard", UINT32_MAX, &shard);
    peer.shard = (uint32_t)shard;
    json_object_put(object);
    if (r == 0)
        *ret_peer = peer;
    return r;
}

int goaway_write(struct buf *out, const char *reason, int64_t last_call)
{
    json_object *object = json_object_new_object();
    if (object == NULL)
        return -ENOMEM;
    json_object_object_add(object, "reason", json_object_new_string(reason));
    if (last_call >= 0)
        json_object_object_add(object, "last_call", json_object_new_int64(last_call));
    return append_object(out, object);
}

void goaway_read(struct span body, char *reason, size_t reason_size, uint64_t *ret_last_call)
{
    snprintf(reason, reason_size, "%s", "");
    *ret_last_call = UINT64_MAX;
    json_object *object = parse_object(body);
    if (object == NULL)
        return;
    const char *text = get_string(object, "reason");
    snprintf(reason, reason_size, "%s", text == NULL ? "" : text);
    int64_t last_call;
    if (get_number(object, "last_call", INT64_MAX, &last_call) == 1)
        *ret_last_call = (uint64_t)last_call;
    json_object_put(object);
}
