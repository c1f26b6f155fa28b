/*
 * The JSON-RPC scanner on any text: what it says must hold when each part is looked at by itself,
 * and its ways to look at the same text must agree.
 */

#include <string.h>

#include "proto/json_scan.h"
#include "proto/jsonrpc.h"

enum { ROOM = 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_white(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static void check_within(struct span part, struct span whole)
{
    if (part.n == 0)
        return;
    CHECK(part.p >= whole.p && part.n <= whole.n);
    CHECK((size_t)(part.p - whole.p) <= whole.n - part.n);
}

/* A value by itself: within the whole, JSON, and without white space around it. */
static void check_value(struct span value, struct span whole)
{
    if (value.n == 0)
        return;
    check_within(value, whole);
    CHECK(jsonrpc_validate(value.p, value.n) == 0);
    CHECK(!is_white(value.p[0]) && !is_white(value.p[value.n - 1]));
}

static bool same(struct span a, struct span b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static bool is_id(struct span value)
{
    return value.n == 0 || strchr("\"-0123456789n", value.p[0]) != NULL;
}

/* The inside of a string: unescaping it fits, and gives UTF-8. */
static void check_unescape(struct span inside)
{
    char *out = malloc(
        inside.n + (inside.n == 0)); /* no more, so that ASan sees one byte too many */
    CHECK(out != NULL);
    const size_t n = jsonrpc_unescape(inside, out);
    CHECK(n <= inside.n);
    const bool escaped = inside.n != 0 && memchr(inside.p, '\\', inside.n) != NULL;
    CHECK(escaped ? n < inside.n : same(inside, (struct span){out, n}));

    /* Is it UTF-8? It is if it makes a string once what may not stand there is replaced. */
    char *quoted = malloc(n + 2);
    CHECK(quoted != NULL);
    quoted[0] = quoted[n + 1] = '"';
    for (size_t i = 0; i < n; i++) {
        const bool plain = (unsigned char)out[i] >= 0x20 && out[i] != '"' && out[i] != '\\';
        quoted[i + 1] = plain ? out[i] : '.';
    }
    CHECK(jsonrpc_validate(quoted, n + 2) == 0);
    free(quoted);
    free(out);
}

/*
 * How often a name stands among an object's members, upper and lower case being the same, and
 * whether each time as it is: by way of the general scanner, and a fold of whole keys.
 */
struct count {
    unsigned all;
    unsigned exact;
};

static struct count count_keys(struct span object, struct span name)
{
    struct count count = {0};
    const char *end = object.p + object.n;
    const char *p = json_scan_white(object.p + 1, end);
    while (*p != '}') {
        struct json_member member;
        p = json_scan_member(p, end, 0, &member);
        CHECK(p != NULL);
        char *folded = malloc(member.key.n + 1);
        CHECK(folded != NULL);
        folded[json_scan_fold(member.key, folded, member.key.n)] = '\0';
        count.all += strcmp(folded, name.p) == 0;
        count.exact += json_scan_equals(member.key, name);
        free(folded);
        p = json_scan_white(p, end);
        if (*p == ',')
            p = json_scan_white(p + 1, end);
    }
    return count;
}

/*
 * Whether two parsers could read two things: none of these is there twice or in another spelling.
 */
static bool is_doubtful(struct span object, const struct span *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct count count = count_keys(object, names[i]);
        if (count.all > 1 || count.all != count.exact)
            return true;
    }
    return false;
}

static const struct span request_names[] = {
    {"jsonrpc", 7}, {"method", 6}, {"id", 2}, {"params", 6}};
static const struct span response_names[] = {
    {"jsonrpc", 7}, {"id", 2}, {"result", 6}, {"error", 5}};

/* A response has no method or null as that, has a result or an error, and is valid where it is by
 * itself. */
static void check_kind(const struct jsonrpc_request *request)
{
    struct jsonrpc_response response;
    const struct span text = request->text;
    const struct count methods = count_keys(text, request_names[1]);
    const bool nulled = methods.all == 1 && methods.exact == 1 &&
                        jsonrpc_member(text, request_names[1]).p[0] == 'n';
    const bool answers = (methods.all == 0 || nulled) &&
                         (count_keys(text, response_names[2]).all > 0 ||
                             count_keys(text, response_names[3]).all > 0);
    const bool valid = jsonrpc_scan_response(text.p, text.n, &response) == 0;
    CHECK(answers == (request->kind == JSONRPC_RESPONSE || request->kind == JSONRPC_BAD_RESPONSE));
    CHECK(!answers || valid == (request->kind == JSONRPC_RESPONSE));
    if (request->kind == JSONRPC_CALL || request->kind == JSONRPC_NOTIFY)
        CHECK(!is_doubtful(text, request_names, ARRAY_LEN(request_names)));
}

/* A member that is an object says of itself what jsonrpc_member() finds in it. */
static void check_request(const struct jsonrpc_request *request, struct span whole)
{
    CHECK(request->text.n != 0);
    check_value(request->text, whole);
    check_within(request->method, request->text);
    check_value(request->id, request->text);
    check_value(request->params, request->text);
    CHECK(is_id(request->id));
    CHECK(request->params.n == 0 || request->params.p[0] == '{' || request->params.p[0] == '[');
    check_unescape(request->method);

    const bool escaped = request->method.n != 0 &&
                         memchr(request->method.p, '\\', request->method.n) != NULL;
    CHECK(request->method_escaped == escaped);

    if (request->kind == JSONRPC_INVALID && request->text.p[0] != '{') {
        CHECK(request->id.n == 0 && request->method.n == 0 && request->params.n == 0);
        return;
    }
    CHECK(request->text.p[0] == '{');
    check_kind(request);
    const struct span id = jsonrpc_member(request->text, SPAN("id"));
    const struct span method = jsonrpc_member(request->text, SPAN("method"));
    const struct span params = jsonrpc_member(request->text, SPAN("params"));
    if (request->kind != JSONRPC_CALL && request->kind != JSONRPC_NOTIFY) {
        const bool clear = is_id(id) && !is_doubtful(request->text, &request_names[2], 1);
        CHECK(clear ? same(id, request->id) : request->id.n == 0);
        return;
    }
    CHECK((request->kind == JSONRPC_CALL) == (request->id.n != 0));
    CHECK(same(id, request->id) && same(params, request->params));
    CHECK(method.n == request->method.n + 2 && method.p + 1 == request->method.p);
}

/* Whether an object of which there are no two readings is a request. */
static bool is_request(struct span object)
{
    const struct span version = jsonrpc_member(object, request_names[0]);
    const struct span method = jsonrpc_member(object, request_names[1]);
    const struct span id = jsonrpc_member(object, request_names[2]);
    const struct span params = jsonrpc_member(object, request_names[3]);
    return version.n >= 2 && version.p[0] == '"' &&
           json_scan_equals((struct span){version.p + 1, version.n - 2}, SPAN("2.0")) &&
           method.n != 0 && method.p[0] == '"' && is_id(id) &&
           (params.n == 0 || params.p[0] == '{' || params.p[0] == '[');
}

static void check_scan(struct span text, bool valid)
{
    struct jsonrpc_request members[ROOM];
    size_t count = 0;
    bool batch = false;

    memset(members, 0xee, sizeof(members));
    const int r = jsonrpc_scan(text.p, text.n, members, ROOM, &count, &batch);
    CHECK((r != JSONRPC_E_PARSE) == valid);
    if (r != 0) {
        CHECK(r == JSONRPC_E_PARSE || r == JSONRPC_E_INVALID || r == JSONRPC_E_BATCH);
        CHECK(r == JSONRPC_E_INVALID || members[0].id.n == 0);
        check_value(members[0].id, text);
        CHECK(is_id(members[0].id));
        return;
    }

    CHECK(count >= 1 && count <= ROOM);
    CHECK(batch || (count == 1 && members[0].kind != JSONRPC_INVALID));
    for (size_t i = 0; i < count; i++) {
        check_request(&members[i], text);
        CHECK(i == 0 || members[i].text.p > members[i - 1].text.p + members[i - 1].text.n);

        /* A member by itself is the same request. */
        struct jsonrpc_request alone;
        const int one = jsonrpc_scan(
            members[i].text.p, members[i].text.n, &alone, 1, &(size_t){0}, &(bool){0});
        if (members[i].kind != JSONRPC_INVALID) {
            CHECK(one == 0 && alone.kind == members[i].kind);
            CHECK(alone.id.p == members[i].id.p && alone.params.p == members[i].params.p);
            CHECK(alone.method.p == members[i].method.p);
        } else if (members[i].text.p[0] == '{') {
            CHECK(one == JSONRPC_E_INVALID && alone.id.p == members[i].id.p);
            CHECK(is_doubtful(members[i].text, request_names, ARRAY_LEN(request_names)) ||
                  !is_request(members[i].text));
        }
    }
    if (!batch)
        return;

    /* With room for one less it is the limit that is met. */
    if (count > 1)
        CHECK(jsonrpc_scan(text.p, text.n, members, count - 1, &(size_t){0}, &(bool){0}) ==
              JSONRPC_E_BATCH);
}

/* With another id it is a response of which nothing else has changed. */
static void check_another_id(
    struct span text, const struct jsonrpc_response *response, struct span id)
{
    const size_t wanted = text.n - response->id.n + id.n;
    char *out = malloc(wanted);
    CHECK(out != NULL);
    CHECK(jsonrpc_replace_id(text, response->id, id, out) == wanted);

    struct jsonrpc_response found;
    CHECK(jsonrpc_scan_response(out, wanted, &found) == 0);
    CHECK(same(found.id, id) && same(found.result, response->result));
    CHECK(same(found.error, response->error));
    const size_t before = (size_t)(response->id.p - text.p);
    CHECK((size_t)(found.id.p - out) == before && memcmp(out, text.p, before) == 0);
    const size_t after = text.n - before - response->id.n;
    CHECK(memcmp(found.id.p + id.n, response->id.p + response->id.n, after) == 0);
    free(out);
}

static void check_response(struct span text, bool valid)
{
    struct jsonrpc_response response;
    const int r = jsonrpc_scan_response(text.p, text.n, &response);

    CHECK((r != JSONRPC_E_PARSE) == valid);
    if (r != 0)
        return;
    const char *begin = json_scan_white(text.p, text.p + text.n);
    const struct span object = {begin, (size_t)(text.p + text.n - begin)};
    CHECK(!is_doubtful(object, response_names, ARRAY_LEN(response_names)));
    CHECK(response.id.n != 0 && is_id(response.id));
    CHECK((response.result.n == 0) != (response.error.n == 0));
    check_value(response.id, text);
    check_value(response.result, text);
    check_value(response.error, text);
    if (response.error.n != 0) {
        CHECK(response.error.p[0] == '{');
        CHECK(jsonrpc_member(response.error, SPAN("code")).n != 0);
        CHECK(jsonrpc_member(response.error, SPAN("message")).n >= 2);
    }
    check_another_id(text, &response, response.id);
    check_another_id(text, &response, SPAN("1"));
    check_another_id(text, &response, SPAN("\"a \\\"long\\\" one with },\\\"id\\\":2 in it\""));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct span text = {(const char *)data, size};
    const bool valid = jsonrpc_validate(text.p, text.n) == 0;

    check_scan(text, valid);
    check_response(text, valid);

    /* The same bytes as the inside of a string: one that is valid alone is so in an array. */
    char *wrapped = malloc(size + 6);
    CHECK(wrapped != NULL);
    memcpy(wrapped, "[0,\"", 4);
    if (size != 0)
        memcpy(wrapped + 4, data, size);
    wrapped[size + 4] = '"';
    wrapped[size + 5] = ']';
    const bool string = jsonrpc_validate(wrapped + 3, size + 2) == 0;
    const bool list = jsonrpc_validate(wrapped, size + 6) == 0;
    CHECK(list || !string);
    if (string)
        check_unescape(text);

    /* White space around a text changes nothing. */
    wrapped[0] = '\n';
    wrapped[1] = ' ';
    wrapped[2] = '\t';
    wrapped[3] = '\r';
    wrapped[size + 4] = wrapped[size + 5] = ' ';
    CHECK((jsonrpc_validate(wrapped, size + 6) == 0) == valid);
    free(wrapped);
    return 0;
}
