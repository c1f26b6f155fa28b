#include "proto/jsonrpc.h"

#include <string.h>

#include "proto/envelope.h"
#include "proto/json_scan.h"

_Static_assert((int)JSONRPC_DEPTH_MAX == (int)JSON_SCAN_DEPTH_MAX, "one limit");

enum { ERROR_CODE, ERROR_MESSAGE, ERROR_KEYS };
static const struct span error_keys[ERROR_KEYS] = {
    [ERROR_CODE] = {"code", 4},
    [ERROR_MESSAGE] = {"message", 7},
};

/* The functions below look at values that have been scanned: the first byte is the type. */

static bool is_string(struct span value)
{
    return value.n != 0 && value.p[0] == '"';
}

static bool is_number(struct span value)
{
    return value.n != 0 && (value.p[0] == '-' || (value.p[0] >= '0' && value.p[0] <= '9'));
}

static bool is_null(struct span value)
{
    return value.n != 0 && value.p[0] == 'n';
}

static bool is_usable_id(struct span value)
{
    return is_string(value) || is_number(value) || is_null(value);
}

/* JSON has no integers; each parser takes a number without fraction and exponent for one. */
static bool is_integer(struct span value)
{
    if (!is_number(value))
        return false;
    for (size_t i = 1; i < value.n; i++) {
        if (value.p[i] < '0' || value.p[i] > '9')
            return false;
    }
    return true;
}

static struct span inside(struct span string)
{
    return (struct span){string.p + 1, string.n - 2};
}

/* The member "jsonrpc", which MUST be exactly "2.0" (JSON-RPC 2.0 sections 4 and 5). */
static bool is_version(struct span value)
{
    if (value.n == 5 && memcmp(value.p, "\"2.0\"", 5) == 0)
        return true;
    return is_string(value) && json_scan_equals(inside(value), SPAN("2.0"));
}

/* JSON-RPC 2.0 section 5.1 */
static bool is_error_object(struct span error)
{
    struct span found[ERROR_KEYS];

    if (error.p[0] != '{')
        return false;
    /* scanned a second time: an error is small, and rare */
    json_scan_object(error.p, error.p + error.n, 0, error_keys, ERROR_KEYS, found);
    return is_integer(found[ERROR_CODE]) && is_string(found[ERROR_MESSAGE]);
}

/* Whether an object with this envelope is a response: JSON-RPC 2.0 section 5. */
static bool is_response(const struct envelope *envelope)
{
    const unsigned wanted = envelope_bit(ENVELOPE_JSONRPC) | envelope_bit(ENVELOPE_ID) |
                            envelope_bit(ENVELOPE_RESULT) | envelope_bit(ENVELOPE_ERROR);
    const struct span result = envelope->values[ENVELOPE_RESULT];
    const struct span error = envelope->values[ENVELOPE_ERROR];

    if ((envelope->doubtful & wanted) != 0)
        return false;
    if (!is_version(envelope->values[ENVELOPE_JSONRPC]) ||
        !is_usable_id(envelope->values[ENVELOPE_ID]))
        return false;
    if ((result.n != 0) == (error.n != 0))
        return false;
    return error.n == 0 || is_error_object(error);
}

/* Some clients write all members that they know, with null for those that are absent. */
static bool has_method(const struct envelope *envelope)
{
    const struct span method = envelope->values[ENVELOPE_METHOD];
    const bool doubtful = (envelope->doubtful & envelope_bit(ENVELOPE_METHOD)) != 0;
    return doubtful || (method.n != 0 && method.p[0] != 'n');
}

/* The kind of a client's object (JSON-RPC 2.0 section 4); the spans of *request are set. */
static enum jsonrpc_kind kind_of(
    const struct envelope *envelope, const struct jsonrpc_request *request)
{
    const unsigned wanted = envelope_bit(ENVELOPE_JSONRPC) | envelope_bit(ENVELOPE_METHOD) |
                            envelope_bit(ENVELOPE_ID) | envelope_bit(ENVELOPE_PARAMS);

    if (!has_method(envelope) &&
        (envelope_has(envelope, ENVELOPE_RESULT) || envelope_has(envelope, ENVELOPE_ERROR)))
        return is_response(envelope) ? JSONRPC_RESPONSE : JSONRPC_BAD_RESPONSE;
    if ((envelope->doubtful & wanted) != 0 || !is_version(envelope->values[ENVELOPE_JSONRPC]) ||
        !is_string(envelope->values[ENVELOPE_METHOD]) ||
        request->id.n != envelope->values[ENVELOPE_ID].n ||
        request->params.n != envelope->values[ENVELOPE_PARAMS].n)
        return JSONRPC_INVALID;
    return request->id.n != 0 ? JSONRPC_CALL : JSONRPC_NOTIFY;
}

/* Scans the value at `p`, of any type, and sets its kind. */
static const char *scan_request(
    const char *p, const char *end, unsigned depth, struct jsonrpc_request *ret_request)
{
    struct jsonrpc_request request = {.kind = JSONRPC_INVALID};
    const char *begin = p;

    if (p == end || *p != '{') {
        p = json_scan_value(p, end, depth);
        if (p == NULL)
            return NULL;
        request.text = (struct span){begin, (size_t)(p - begin)};
        *ret_request = request;
        return p;
    }

    struct envelope envelope;
    p = envelope_scan(p, end, depth, &envelope);
    if (p == NULL)
        return NULL;
    request.text = (struct span){begin, (size_t)(p - begin)};

    const struct span method = envelope.values[ENVELOPE_METHOD];
    const struct span id = envelope.values[ENVELOPE_ID];
    const struct span params = envelope.values[ENVELOPE_PARAMS];
    if (is_string(method)) {
        request.method = inside(method);
        request.method_escaped = memchr(method.p, '\\', method.n) != NULL;
    }
    if (is_usable_id(id) && LIKELY((envelope.doubtful & envelope_bit(ENVELOPE_ID)) == 0))
        request.id = id;
    if (params.n != 0 && (params.p[0] == '{' || params.p[0] == '['))
        request.params = params;
    request.kind = kind_of(&envelope, &request);
    *ret_request = request;
    return p;
}

/*
 * Scans a batch (JSON-RPC 2.0 section 6) from behind the opening bracket; at least one member
 * follows.
 */
static const char *scan_batch(
    const char *p, const char *end, struct jsonrpc_request *members, size_t cap, size_t *ret_count)
{
    size_t count = 0;

    for (;;) {
        /* Members beyond cap are scanned, too: a parse error has precedence. */
        p = count < cap ? scan_request(p, end, 1, &members[count]) : json_scan_value(p, end, 1);
        if (p == NULL)
            return NULL;
        count++;
        p = json_scan_white(p, end);
        if (p == end)
            return NULL;
        if (*p == ']')
            break;
        if (*p != ',')
            return NULL;
        p = json_scan_white(p + 1, end);
    }
    *ret_count = count;
    return p + 1;
}

/* Sets members[0] after a failure: all empty but, perhaps, the id to answer with. */
static int fail(struct jsonrpc_request *members, int error, struct span id)
{
    members[0] = (struct jsonrpc_request){.id = id, .kind = JSONRPC_INVALID};
    return error;
}

int jsonrpc_scan(const char *text, size_t n, struct jsonrpc_request *members, size_t cap,
    size_t *ret_count, bool *ret_batch)
{
    const struct span no_id = {NULL, 0};

    CHECK(cap >= 1);
    if (n == 0)
        return fail(members, JSONRPC_E_PARSE, no_id);

    const char *end = text + n;
    const char *p = json_scan_white(text, end);
    bool batch = false;
    size_t count = 1;
    if (p < end && *p == '[') {
        batch = true;
        p = json_scan_white(p + 1, end);
        if (p < end && *p == ']') {
            count = 0;
            p++;
        } else {
            p = scan_batch(p, end, members, cap, &count);
        }
    } else {
        p = scan_request(p, end, 0, &members[0]);
    }
    if (p == NULL || json_scan_white(p, end) != end)
        return fail(members, JSONRPC_E_PARSE, no_id);

    if (count > cap)
        return fail(members, JSONRPC_E_BATCH, no_id);
    if (count == 0)
        return fail(members, JSONRPC_E_INVALID, no_id);
    if (!batch && members[0].kind == JSONRPC_INVALID)
        return fail(members, JSONRPC_E_INVALID, members[0].id);
    *ret_count = count;
    *ret_batch = batch;
    return 0;
}

int jsonrpc_scan_response(const char *text, size_t n, struct jsonrpc_response *ret_response)
{
    struct envelope envelope;

    if (n == 0)
        return JSONRPC_E_PARSE;
    const char *end = text + n;
    const char *p = json_scan_white(text, end);
    if (p == end || *p != '{')
        return jsonrpc_validate(text, n) == 0 ? JSONRPC_E_INVALID : JSONRPC_E_PARSE;
    p = envelope_scan(p, end, 0, &envelope);
    if (p == NULL || json_scan_white(p, end) != end)
        return JSONRPC_E_PARSE;
    if (!is_response(&envelope))
        return JSONRPC_E_INVALID;
    *ret_response = (struct jsonrpc_response){envelope.values[ENVELOPE_ID],
        envelope.values[ENVELOPE_RESULT], envelope.values[ENVELOPE_ERROR]};
    return 0;
}

size_t jsonrpc_replace_id(struct span text, struct span old, struct span id, char *out)
{
    const size_t before = (size_t)(old.p - text.p);
    const size_t after = text.n - before - old.n;

    CHECK(id.n != 0);
    memcpy(out, text.p, before);
    memcpy(out + before, id.p, id.n);
    memcpy(out + before + id.n, old.p + old.n, after);
    return before + id.n + after;
}

struct span jsonrpc_member(struct span object, struct span key)
{
    struct span found = {NULL, 0};

    if (object.n != 0)
        json_scan_object(object.p, object.p + object.n, 0, &key, 1, &found);
    return found;
}

size_t jsonrpc_unescape(struct span in, char *out)
{
    return json_scan_unescape(in, out);
}

int jsonrpc_validate(const char *text, size_t n)
{
    if (n == 0)
        return JSONRPC_E_PARSE;
    const char *end = text + n;
    const char *p = json_scan_value(json_scan_white(text, end), end, 0);
    return p != NULL && json_scan_white(p, end) == end ? 0 : JSONRPC_E_PARSE;
}
