/*
 * start() makes a call of http.request of any request, whose body goes as the blob; ended() relays
 * the worker's answer, of which the result has status and header fields, and the blob is the body.
 * One in parts goes out as it comes: begins().
 */

#include "frontd/shard/routes/http.h"

#include <strings.h>

#include "common/alloc.h"
#include "common/token.h"
#include "frontd/codec/content_coding.h"
#include "frontd/shard/client/refusal.h"
#include "frontd/shard/request/canary.h"
#include "frontd/shard/request/context.h"
#include "frontd/shard/request/parts.h"
#include "frontd/shard/request/policy.h"
#include "frontd/shard/upstream/worker.h"
#include "proto/json_read.h"
#include "proto/json_scan.h"
#include "proto/json_write.h"
#include "proto/jsonrpc.h"

/* A worker's answer, but for the body. */
struct answer_head {
    unsigned status;
    struct buf fields; /* "Name: value\r\n" each */
    uint64_t length;   /* of a content-length field */
    bool has_length;
    const char *id_name; /* of the field that has the request's id; NULL: none has */
};

static int put_member(struct buf *out, const char *key, struct span value)
{
    int r = json_put_raw(out, key);
    return r == 0 ? json_put_latin1(out, value) : r;
}

/* A worker is told of a body that was inflated as if it had come so. body: bytes. */
static int put_length(struct buf *out, bool first, size_t body)
{
    return buf_printf(out, "%s\"content-length\",\"%zu\"]", first ? "[" : ",[", body);
}

/* body: bytes, of one that was inflated; SIZE_MAX: it is as it came. */
static int put_headers(struct buf *out, const struct http_head *head, size_t body)
{
    bool first = true;
    int r = json_put_raw(out, ",\"headers\":[");
    for (uint32_t i = 0; r == 0 && i < head->nfields; i++) {
        const struct http_field *field = &head->fields[i];
        char lower[256];
        if (field->hop_by_hop || field->name.n > sizeof(lower))
            continue;
        if (UNLIKELY(body != SIZE_MAX) && field->known == HTTP_F_CONTENT_ENCODING)
            continue;
        if (UNLIKELY(body != SIZE_MAX) && field->known == HTTP_F_CONTENT_LENGTH) {
            r = put_length(out, first, body);
            first = false;
            continue;
        }
        for (size_t c = 0; c < field->name.n; c++) {
            char ch = field->name.p[c];
            lower[c] = ch >= 'A' && ch <= 'Z' ? (char)(ch | 0x20) : ch;
        }
        r = put_member(out, first ? "[" : ",[", (struct span){lower, field->name.n});
        if (r == 0)
            r = put_member(out, ",", field->value);
        if (r == 0)
            r = json_put_raw(out, "]");
        first = false;
    }
    return r == 0 ? json_put_raw(out, "]") : r;
}

static const char prefix[] = "{\"jsonrpc\":\"2.0\",\"id\":";
static const char middle[] = ",\"method\":\"http.request\",\"params\":{";

/* inflated: as `body` of put_headers(). */
static int put_request(
    struct buf *out, const struct client *client, const struct http_head *head, size_t inflated)
{
    int r = buf_printf(out, "%s%*d%s", prefix, JOB_ID_DIGITS, 0, middle);
    if (r == 0)
        r = put_member(out, "\"method\":", head->method_text);
    if (r == 0)
        r = json_put_raw(
            out, client->transport == NULL ? ",\"scheme\":\"http\"" : ",\"scheme\":\"https\"");
    if (r == 0)
        r = put_member(out, ",\"authority\":", head->authority);
    if (r == 0)
        r = put_member(out, ",\"path\":", head->path);
    if (r == 0)
        r = put_member(out, ",\"query\":", head->query);
    if (r == 0)
        r = put_headers(out, head, inflated);
    return r == 0 ? json_put_raw(out, "}}") : r;
}

static void start(struct request *request, const struct http_head *head, struct span body)
{
    struct client *client = request->client;
    const struct conf *conf = client->ctx->conf;
    struct buf text = {0};
    struct buf meta = {0};
    struct call_spec spec = {.blob = body, .http = true, .more = request->uploads};
    struct peer peer = request_peer(request);
    request->canary = canary_takes(request->route, &peer, client->conn.id, head);
    int pool = canary_pool(client->ctx, request->route, SPAN("http.request"), request->canary);
    if (pool < 0) {
        refusal_note_method(client, &peer, SPAN("http.request"));
        request_error(request, RPC_METHOD_NOT_FOUND, (struct span){0});
        return;
    }
    struct ctx *ctx = client->ctx;
    if (UNLIKELY(ctx_memory(ctx) >= MEMORY_SHORT) ||
        put_request(&text, client, head, request->inflated ? body.n : SIZE_MAX) < 0 ||
        meta_write(&meta, request, head, &spec.left_at, &spec.span_at) < 0) {
        request_error(request, RPC_OVERLOADED, (struct span){0});
    } else {
        spec.body = (struct span){buf_data(&text), buf_len(&text)};
        spec.meta = (struct span){buf_data(&meta), buf_len(&meta)};
        spec.id = (struct span){buf_data(&text) + sizeof(prefix) - 1, JOB_ID_DIGITS};
        spec.method = (struct span){spec.id.p + JOB_ID_DIGITS + 11, 12};
        CHECK(memcmp(spec.method.p, "http.request", 12) == 0);
        spec.kind = expect_kind(ctx->expect_seed, (uint32_t)pool, head->path);
        spec.wide_kind = expect_kind(ctx->expect_seed, (uint32_t)pool, spec.method);
        if (conf->pools[pool].hash != CONF_HASH_NONE)
            spec.hash = meta_hash(&conf->pools[pool], client, &peer, head, (struct span){0});
        enum rpc_error error = policy_admit(request, head->method_text, head, &spec);
        if (LIKELY(error == 0))
            request_call(request, &spec, (uint32_t)pool);
        else if (error == RPC_METHOD_NOT_FOUND)
            request_status(request, 403, (struct span){0});
        else
            request_error(request, error, (struct span){0});
    }
    buf_deinit(&text);
    buf_deinit(&meta);
}

/* Whether a field is set by the front itself, or is hop-by-hop (RFC 9110 section 7.6.1). */
static bool is_ours(const char *name)
{
    static const char *const names[] = {"connection", "keep-alive", "proxy-connection",
        "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
        "upgrade", "content-length", "date", "server"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcasecmp(name, names[i]) == 0)
            return true;
    }
    return false;
}

/* Converts UTF-8 to the Latin-1 of field values, in place. Returns false where that cannot be, and
 * where a control character is in it. */
static bool to_latin1(char *text, size_t n, size_t *ret_n)
{
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x80) {
            if ((c & 0xfc) != 0xc0 || i + 1 == n)
                return false; /* over U+00FF */
            c = (unsigned char)((c & 3) << 6 | ((unsigned char)text[++i] & 0x3f));
        }
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
        text[len++] = (char)c;
    }
    *ret_n = len;
    return true;
}

static bool read_length(struct answer_head *answer, const char *value, size_t n)
{
    uint64_t length = 0;
    if (n == 0 || n > 18)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (value[i] < '0' || value[i] > '9')
            return false;
        length = length * 10 + (uint64_t)(value[i] - '0');
    }
    answer->length = length;
    answer->has_length = true;
    return true;
}

/* Reads one [name, value] straight to its place. Returns false where it is wrong: nothing is
 * repaired. */
static bool read_field(struct answer_head *answer, struct span pair)
{
    struct span name;
    struct span value;
    struct span more;
    size_t at = 0;
    if (!json_read_next(pair, &at, &name) || !json_read_next(pair, &at, &value) ||
        json_read_next(pair, &at, &more) || !json_is_string(name) || !json_is_string(value))
        return false;
    char *room = buf_room(&answer->fields, name.n + value.n); /* with quotes for ": " and CR LF */
    if (room == NULL)
        return false;
    size_t name_len = json_scan_unescape((struct span){name.p + 1, name.n - 2}, room);
    if (!token_valid(room, name_len))
        return false;
    char *text = room + name_len;
    memcpy(text, ": ", 2);
    text += 2;
    size_t text_len = json_scan_unescape((struct span){value.p + 1, value.n - 2}, text);
    if (!to_latin1(text, text_len, &text_len))
        return false;
    memcpy(text + text_len, "\r\n", 2);
    text[-2] = '\0'; /* ends the name for a moment */
    bool ours = is_ours(room) ||
                (answer->id_name != NULL && strcasecmp(room, answer->id_name) == 0);
    bool length = ours && strcasecmp(room, "content-length") == 0;
    text[-2] = ':';
    if (length)
        return read_length(answer, text, text_len);
    if (!ours)
        buf_added(&answer->fields, name_len + 2 + text_len + 2);
    return true;
}

static bool read_result(struct answer_head *answer, struct span result)
{
    enum { STATUS, HEADERS, KEYS };
    static const struct span keys[KEYS] = {[STATUS] = {"status", 6}, [HEADERS] = {"headers", 7}};
    struct span found[KEYS];
    struct span pair;
    int64_t status;
    if (result.p[0] != '{' ||
        json_scan_object(result.p, result.p + result.n, 0, keys, KEYS, found) == NULL ||
        json_read_integer(found[STATUS], &status) != 0)
        return false;
    if (status < 200 || status > 599) /* 1xx would not end the request */
        return false;
    answer->status = (unsigned)status;
    if (found[HEADERS].n == 0)
        return true;
    if (!json_is_array(found[HEADERS]))
        return false;
    for (size_t at = 0; json_read_next(found[HEADERS], &at, &pair);) {
        if (!read_field(answer, pair))
            return false;
    }
    return true;
}

/*
 * Reads the worker's answer as one of HTTP. Returns 0, or how the call fails. answer: to be
 * deinitialized by free_answer() in any case; the reply borrows from it.
 */
static enum rpc_error make_reply(struct request *request, const struct outcome *outcome,
    struct span result, struct answer_head *answer, struct reply *ret_reply)
{
    answer->id_name = request->client->ctx->conf->request_id;
    if (!read_result(answer, result)) {
        call_log_bad_answer(outcome, "none of HTTP: its status or a header field is wrong");
        return RPC_BAD_RESPONSE;
    }
    if (!request_fits(request, outcome->blob.n))
        return RPC_OVERLOADED;
    *ret_reply = (struct reply){
        .status = answer->status,
        .fields = {buf_data(&answer->fields), buf_len(&answer->fields)},
        .body = outcome->blob,
        .length = answer->length,
        .has_length = answer->has_length,
    };
    return 0;
}

static void free_answer(struct answer_head *answer)
{
    buf_deinit(&answer->fields);
}

/* Whether a worker's answer is a JSON-RPC error. */
static bool is_app_error(const struct jsonrpc_response *response)
{
    return response->result.n == 0;
}

/* An error of the worker's is not sent as it comes: it is answered when all of it is there. */
static bool begins(
    struct request *request, const struct outcome *outcome, enum rpc_error *ret_error)
{
    struct answer_head answer = {0};
    struct jsonrpc_response response;
    struct reply reply;
    bool begun = false;
    enum rpc_error error = call_read_answer(outcome, &response);
    if (error == 0 && is_app_error(&response))
        return false;
    if (error == 0)
        error = make_reply(request, outcome, response.result, &answer, &reply);
    if (error == 0)
        begun = parts_open(request, &reply);
    free_answer(&answer);
    *ret_error = error;
    return begun;
}

static enum metric_code ended(
    struct request *request, struct call *call, const struct outcome *outcome)
{
    (void)call;
    struct answer_head answer = {0};
    struct jsonrpc_response response;
    struct reply reply;
    request->pending--;
    if (UNLIKELY(request->streams))
        return parts_end(request, outcome);
    enum rpc_error error = call_read_answer(outcome, &response);
    if (error == 0 && is_app_error(&response)) {
        request->code = METRIC_CODE_APP;
        request_status(request, 500, (struct span){0});
        return METRIC_CODE_APP;
    }
    if (error == 0)
        error = make_reply(request, outcome, response.result, &answer, &reply);
    if (error == 0)
        request_reply_coded(request, &reply);
    else
        request_error(request, error, (struct span){0});
    free_answer(&answer);
    return error == 0 ? metric_code_of_answer(reply.status) : metric_code_of_error((int)error);
}

/* A worker is given a body as it came, unless the route says that the front inflates it. */
static unsigned refuses(const struct conf_route *route, const struct http_head *head)
{
    return UNLIKELY(head->content_coded) && route->gunzip && coding_of_body(head) != CODING_GZIP
               ? 415
               : 0;
}

const struct route_ops http_route = {
    .refuses = refuses,
    .start = start,
    .ended = ended,
    .begins = begins,
};
