#include "proto/hello.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/alloc.h"
#include "proto/frame.h"
#include "proto/json_quote.h"
#include "proto/json_read.h"
#include "proto/json_scan.h"
#include "proto/json_write.h"
#include "proto/jsonrpc.h"

/* Finds members of a body. Returns false where it is no JSON object. */
static bool read_members(
    struct span body, const struct span *keys, size_t n, struct span *ret_values)
{
    if (jsonrpc_validate(body.p, body.n) != 0)
        return false;
    const char *end = body.p + body.n;
    const char *p = json_scan_white(body.p, end);
    return *p == '{' && json_scan_object(p, end, 0, keys, n, ret_values) != NULL;
}

/*
 * Reads an integer from 0 to max. Returns 1; 0 where there is none; -1 where it is something else.
 */
static int get_number(struct span value, int64_t max, int64_t *ret_value)
{
    int64_t number;
    if (value.n == 0)
        return 0;
    int r = json_read_integer(value, &number);
    if (r == -ERANGE)
        number = value.p[0] == '-' ? INT64_MIN : INT64_MAX;
    else if (r != 0)
        return -1;
    if (number < 0 || number > max)
        return -1;
    *ret_value = number;
    return 1;
}

/* Reads max_frame, with its default and its minimum, which a HELLO fits in. */
static int get_max_frame(struct span member, uint32_t *ret_max)
{
    int64_t value = FRAME_MAX_DEFAULT;
    if (get_number(member, UINT32_MAX, &value) < 0 || value == 0)
        return HELLO_E_INVALID;
    *ret_max = (uint32_t)value;
    return 0;
}

/* Reads a text, cut off where it is too long; empty where there is none. Returns 0 or -ENOMEM. */
static int get_text(struct span member, char *out, size_t size)
{
    char *text;
    int r = json_read_string(member, &text);
    snprintf(out, size, "%s", r == 0 ? text : "");
    if (r == 0)
        mem_free(text);
    return r == -ENOMEM ? r : 0;
}

/*
 * Appends a member with a text. key: with quotes, and what stands around it. Returns 0 or -ENOMEM.
 */
static int put_text(struct buf *out, const char *key, const char *text)
{
    int r = json_put_raw(out, key);
    return r == 0 ? json_quote(out, text, strlen(text)) : r;
}

/*
 * Ends a body that begins after `before` bytes. After an error the body is removed, and the memory
 * of an empty buffer given back.
 */
static int finish(struct buf *out, size_t before, int r)
{
    if (r == 0)
        r = json_put_raw(out, "}");
    if (r != 0 && before == 0)
        buf_deinit(out);
    else if (r != 0)
        buf_truncate(out, before);
    return r;
}

int hello_front_write(struct buf *out, const struct hello_front *hello)
{
    size_t before = buf_len(out);
    int r = buf_printf(
        out, "{\"protocol\":[%d],\"front\":\"frontd/%s\"", HELLO_VERSION, FRONTD_VERSION);
    if (r == 0)
        r = put_text(out, ",\"instance\":", hello->instance);
    if (r == 0)
        r = buf_printf(out, ",\"generation\":%" PRIu64 ",\"shard\":%" PRIu32 ",\"shards\":%" PRIu32,
            hello->generation, hello->shard, hello->shards);
    if (r == 0)
        r = put_text(out, ",\"pool\":", hello->pool);
    if (r == 0)
        r = buf_printf(out, ",\"max_frame\":%" PRIu32, hello->max_frame);
    if (r == 0 && (hello->stream || hello->state > 0))
        r = buf_printf(out, ",\"features\":[%s%s%s]", hello->stream ? "\"stream\"" : "",
            hello->stream && hello->state > 0 ? "," : "", hello->state > 0 ? "\"state\"" : "");
    if (r == 0 && hello->state > 0)
        r = buf_printf(out, ",\"state\":%" PRIu32, hello->state);
    return finish(out, before, r);
}

static int put_methods(struct buf *out, const struct hello_worker *hello)
{
    int r = json_put_raw(out, ",\"methods\":[");
    for (size_t i = 0; r == 0 && i < hello->nmethods; i++)
        r = put_text(out, i > 0 ? "," : "", hello->methods[i]);
    return r == 0 ? json_put_raw(out, "]") : r;
}

int hello_worker_write(struct buf *out, const struct hello_worker *hello)
{
    size_t before = buf_len(out);
    int r = buf_printf(out, "{\"protocol\":%d", HELLO_VERSION);
    if (r == 0 && hello->name != NULL)
        r = put_text(out, ",\"name\":", hello->name);
    if (r == 0)
        r = buf_printf(out,
            ",\"pid\":%" PRId64 ",\"concurrency\":%" PRIu32 ",\"max_frame\":%" PRIu32, hello->pid,
            hello->concurrency, hello->max_frame);
    if (r == 0 && hello->has_methods)
        r = put_methods(out, hello);
    if (r == 0 && hello->responses != NULL)
        r = put_text(out, ",\"responses\":", hello->responses);
    if (r == 0)
        r = buf_printf(out, ",\"features\":[%s%s%s]", hello->push ? "\"push\"" : "",
            hello->push && hello->stream ? "," : "", hello->stream ? "\"stream\"" : "");
    return finish(out, before, r);
}

void hello_worker_deinit(struct hello_worker *hello)
{
    for (size_t i = 0; i < hello->nmethods; i++)
        mem_free(hello->methods[i]);
    mem_free(hello->methods);
    mem_free(hello->name);
    mem_free(hello->responses);
    *hello = (struct hello_worker){0};
}

static int read_methods(struct span methods, struct hello_worker *hello)
{
    struct span value;
    size_t n = 0;
    if (methods.n == 0)
        return 0;
    if (!json_is_array(methods))
        return HELLO_E_INVALID;
    for (size_t at = 0; json_read_next(methods, &at, &value);) {
        if (++n > HELLO_METHODS_MAX)
            return HELLO_E_INVALID;
    }
    hello->has_methods = true;
    if (n == 0)
        return 0;
    hello->methods = mem_zalloc(n * sizeof(*hello->methods));
    if (hello->methods == NULL)
        return -ENOMEM;
    for (size_t at = 0; json_read_next(methods, &at, &value);) {
        int r = json_read_string(value, &hello->methods[hello->nmethods]);
        if (r != 0)
            return r == -ENOMEM ? r : HELLO_E_INVALID;
        hello->nmethods++;
    }
    return 0;
}

/* Letters, digits, '_' and '-': texts in which a writer has no reason to use escapes. */
static int read_responses(struct span value, char **ret_text)
{
    if (value.n == 0)
        return 0;
    if (!json_is_string(value) || value.n == 2 || value.n - 2 > HELLO_RESPONSES_MAX)
        return HELLO_E_INVALID;
    for (size_t i = 1; i < value.n - 1; i++) {
        const char c = value.p[i];
        const char lower = (char)(c | 0x20);
        if (!(c >= '0' && c <= '9') && !(lower >= 'a' && lower <= 'z') && c != '_' && c != '-')
            return HELLO_E_INVALID;
    }
    return json_read_string(value, ret_text);
}

static bool has_feature(struct span features, struct span feature)
{
    struct span value;
    for (size_t at = 0; json_read_next(features, &at, &value);) {
        if (json_is_string(value) &&
            json_scan_equals((struct span){value.p + 1, value.n - 2}, feature))
            return true;
    }
    return false;
}

enum { PROTOCOL, CONCURRENCY, MAX_FRAME, PID, NAME, FEATURES, METHODS, RESPONSES, WORKER_KEYS };

static const struct span worker_keys[WORKER_KEYS] = {
    [PROTOCOL] = {"protocol", 8},
    [CONCURRENCY] = {"concurrency", 11},
    [MAX_FRAME] = {"max_frame", 9},
    [PID] = {"pid", 3},
    [NAME] = {"name", 4},
    [FEATURES] = {"features", 8},
    [METHODS] = {"methods", 7},
    [RESPONSES] = {"responses", 9},
};

static int read_worker(const struct span *found, struct hello_worker *hello)
{
    int64_t value;
    if (get_number(found[PROTOCOL], INT64_MAX, &value) != 1)
        return HELLO_E_INVALID;
    if (value != HELLO_VERSION)
        return HELLO_E_VERSION;
    hello->concurrency = 1;
    int r = get_number(found[CONCURRENCY], UINT32_MAX, &value);
    if (r < 0)
        return HELLO_E_INVALID;
    if (r > 0)
        hello->concurrency = (uint32_t)value;
    r = get_max_frame(found[MAX_FRAME], &hello->max_frame);
    if (r != 0)
        return r;
    if (get_number(found[PID], INT64_MAX, &value) == 1)
        hello->pid = value;
    if (json_read_string(found[NAME], &hello->name) == -ENOMEM)
        return -ENOMEM;
    hello->push = has_feature(found[FEATURES], SPAN("push"));
    hello->stream = has_feature(found[FEATURES], SPAN("stream"));
    r = read_responses(found[RESPONSES], &hello->responses);
    if (r != 0)
        return r;
    return read_methods(found[METHODS], hello);
}

int hello_worker_read(struct span body, struct hello_worker *ret_hello)
{
    struct span found[WORKER_KEYS];
    if (!read_members(body, worker_keys, WORKER_KEYS, found))
        return HELLO_E_INVALID;
    struct hello_worker hello = {0};
    int r = read_worker(found, &hello);
    if (r != 0)
        hello_worker_deinit(&hello);
    else
        *ret_hello = hello;
    return r;
}

static bool offers_our_version(struct span versions)
{
    struct span value;
    int64_t version;
    for (size_t at = 0; json_read_next(versions, &at, &value);) {
        if (json_read_integer(value, &version) == 0 && version == HELLO_VERSION)
            return true;
    }
    return false;
}

int hello_front_read(struct span body, struct hello_peer *ret_peer)
{
    enum { VERSIONS, FRAME, FRONT, POOL, INSTANCE, SHARD, STATE, KEYS };
    static const struct span keys[KEYS] = {
        [VERSIONS] = {"protocol", 8},
        [FRAME] = {"max_frame", 9},
        [FRONT] = {"front", 5},
        [POOL] = {"pool", 4},
        [INSTANCE] = {"instance", 8},
        [SHARD] = {"shard", 5},
        [STATE] = {"state", 5},
    };
    struct span found[KEYS];
    struct hello_peer peer = {0};
    int64_t shard = 0;
    int64_t state = 0;
    if (!read_members(body, keys, KEYS, found) || found[VERSIONS].n == 0)
        return HELLO_E_INVALID;
    if (!offers_our_version(found[VERSIONS]))
        return HELLO_E_VERSION;
    int r = get_max_frame(found[FRAME], &peer.max_frame);
    if (r == 0)
        r = get_text(found[FRONT], peer.front, sizeof(peer.front));
    if (r == 0)
        r = get_text(found[POOL], peer.pool, sizeof(peer.pool));
    if (r == 0)
        r = get_text(found[INSTANCE], peer.instance, sizeof(peer.instance));
    get_number(found[SHARD], UINT32_MAX, &shard);
    peer.shard = (uint32_t)shard;
    get_number(found[STATE], UINT32_MAX, &state);
    peer.state = (uint32_t)state;
    if (r == 0)
        *ret_peer = peer;
    return r;
}

int goaway_write(struct buf *out, const char *reason, int64_t last_call)
{
    size_t before = buf_len(out);
    int r = put_text(out, "{\"reason\":", reason);
    if (r == 0 && last_call >= 0)
        r = buf_printf(out, ",\"last_call\":%" PRId64, last_call);
    return finish(out, before, r);
}

void goaway_read(struct span body, char *reason, size_t reason_size, uint64_t *ret_last_call)
{
    static const struct span keys[] = {{"reason", 6}, {"last_call", 9}};
    struct span found[ARRAY_LEN(keys)] = {{0}};
    int64_t last_call;
    bool read = read_members(body, keys, ARRAY_LEN(keys), found);
    get_text(read ? found[0] : (struct span){0}, reason, reason_size);
    bool said = read && get_number(found[1], INT64_MAX, &last_call) == 1;
    *ret_last_call = said ? (uint64_t)last_call : UINT64_MAX;
}
