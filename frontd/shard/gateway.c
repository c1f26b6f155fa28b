#include "frontd/shard/gateway.h"

#include <json-c/json.h>
#include <strings.h>

#include "common/mem.h"
#include "frontd/shard/meta.h"
#include "proto/json_write.h"
#include "proto/jsonrpc.h"

/* What the worker said, besides the body. */
struct answer_head {
    unsigned status;
    struct buf fields; /* "Name: value\r\n" each */
    uint64_t length;   /* of a content-length field, which matters for HEAD only */
    bool has_length;
};

static json_tokener *tokener; /* json-c keeps 1 KiB or more in it: made once */

void gateway_deinit(void)
{
    if (tokener != NULL)
        json_tokener_free(tokener);
    tokener = NULL;
}

static int put_member(struct buf *out, const char *key, struct span value)
{
    int r = json_put_raw(out, key);
    return r == 0 ? json_put_latin1(out, value) : r;
}

static int put_headers(struct buf *out, const struct http1_head *head)
{
    bool first = true;
    int r = json_put_raw(out, ",\"headers\":[");
    for (uint32_t i = 0; r == 0 && i < head->nfields; i++) {
        const struct http1_field *field = &head->fields[i];
        char lower[256];
        if (field->hop_by_hop || field->name.n > sizeof(lower))
            continue;
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

static int put_request(struct buf *out, const struct http1_head *head)
{
    int r = buf_printf(out, "%s%*d%s", prefix, JOB_ID_DIGITS, 0, middle);
    if (r == 0)
        r = put_member(out, "\"method\":", head->method_text);
    if (r == 0)
        r = json_put_raw(out, ",\"scheme\":\"http\"");
    if (r == 0)
        r = put_member(out, ",\"authority\":", head->authority);
    if (r == 0)
        r = put_member(out, ",\"path\":", head->path);
    if (r == 0)
        r = put_member(out, ",\"query\":", head->query);
    if (r == 0)
        r = put_headers(out, head);
    return r == 0 ? json_put_raw(out, "}}") : r;
}

void gateway_start(struct request *request, const struct http1_head *head, struct span body)
{
    struct client *client = request->client;
    const struct conf *conf = client->ctx->conf;
    struct buf text = {0};
    struct buf meta = {0};
    struct call_spec spec = {.blob = body, .http = true};
    int pool = router_pool(conf, request->route, SPAN("http.request"));
    if (pool < 0) {
        request_error(request, RPC_METHOD_NOT_FOUND, (struct span){0});
        return;
    }
    if (put_request(&text, head) < 0 ||
        meta_write(&meta, request->route, client, head, &spec.left_at) < 0) {
        request_error(request, RPC_OVERLOADED, (struct span){0});
    } else {
        spec.body = (struct span){buf_data(&text), buf_len(&text)};
        spec.meta = (struct span){buf_data(&meta), buf_len(&meta)};
        spec.id = (struct span){buf_data(&text) + sizeof(prefix) - 1, JOB_ID_DIGITS};
        spec.method = (struct span){spec.id.p + JOB_ID_DIGITS + 11, 12};
        CHECK(memcmp(spec.method.p, "http.request", 12) == 0);
        if (conf->pools[pool].hash != CONF_HASH_NONE)
            spec.hash = meta_hash(&conf->pools[pool], client, head, (struct span){0});
        request_call(request, &spec, (uint32_t)pool);
    }
    buf_deinit(&text);
    buf_deinit(&meta);
}

static bool is_token(const char *text, size_t n)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        bool alnum = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
        if (!alnum && (c == '\0' || strchr(others, c) == NULL))
            return false;
    }
    return n > 0;
}

/* A field that is the front's own business, or ends at the worker (RFC 9110 section 7.6.1). */
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

/* UTF-8 back to the Latin-1 of field values; no control character gets through. */
static bool put_value(struct buf *out, const char *text, size_t n)
{
    char *room = buf_room(out, n);
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
        if (room == NULL)
            return false;
        room[len++] = (char)c;
    }
    buf_added(out, len);
    return true;
}

static bool read_length(struct answer_head *answer, const char *value)
{
    char *end;
    if (value[0] < '0' || value[0] > '9' || strlen(value) > 18)
        return false;
    answer->length = strtoull(value, &end, 10);
    answer->has_length = true;
    return *end == '\0';
}

/* One [name, value]. Returns false where it is not right: nothing is repaired. */
static bool read_field(struct answer_head *answer, json_object *pair)
{
    if (!json_object_is_type(pair, json_type_array) || json_object_array_length(pair) != 2)
        return false;
    json_object *name = json_object_array_get_idx(pair, 0);
    json_object *value = json_object_array_get_idx(pair, 1);
    if (!json_object_is_type(name, json_type_string) ||
        !json_object_is_type(value, json_type_string))
        return false;
    const char *name_text = json_object_get_string(name);
    const char *value_text = json_object_get_string(value);
    size_t name_len = (size_t)json_object_get_string_len(name);
    size_t value_len = (size_t)json_object_get_string_len(value);
    struct buf *fields = &answer->fields;
    size_t before = buf_len(fields);
    if (!is_token(name_text, name_len))
        return false;
    bool right = buf_append(fields, name_text, name_len) == 0 && buf_append(fields, ": ", 2) == 0 &&
                 put_value(fields, value_text, value_len) && buf_append(fields, "\r\n", 2) == 0;
    if (right && is_ours(name_text)) {
        buf_truncate(fields, before);
        if (strcasecmp(name_text, "content-length") == 0)
            return read_length(answer, value_text);
    }
    return right;
}

static bool read_object(struct answer_head *answer, json_object *object)
{
    json_object *status;
    json_object *headers;
    if (!json_object_object_get_ex(object, "status", &status) ||
        !json_object_is_type(status, json_type_int))
        return false;
    int64_t number = json_object_get_int64(status);
    if (number < 200 || number > 599) /* 1xx would not end the request */
        return false;
    answer->status = (unsigned)number;
    if (!json_object_object_get_ex(object, "headers", &headers))
        return true;
    if (!json_object_is_type(headers, json_type_array))
        return false;
    for (size_t i = 0; i < json_object_array_length(headers); i++) {
        if (!read_field(answer, json_object_array_get_idx(headers, i)))
            return false;
    }
    return true;
}

static bool read_result(struct answer_head *answer, struct span result)
{
    if (tokener == NULL)
        tokener = json_tokener_new_ex(JSONRPC_DEPTH_MAX + 1);
    if (tokener == NULL || result.p[0] != '{')
        return false;
    json_tokener_reset(tokener);
    json_object *object = json_tokener_parse_ex(tokener, result.p, (int)result.n);
    bool right = object != NULL && read_object(answer, object);
    json_object_put(object);
    return right;
}

static void relay(struct request *request, const struct outcome *outcome, struct span result)
{
    struct answer_head answer = {0};
    if (!read_result(&answer, result)) {
        buf_deinit(&answer.fields);
        request_error(request, RPC_BAD_RESPONSE, (struct span){0});
        return;
    }
    struct reply reply = {
        .status = answer.status,
        .fields = {buf_data(&answer.fields), buf_len(&answer.fields)},
        .body = outcome->blob,
        .length = answer.length,
        .has_length = answer.has_length && (request->head || answer.status == 304),
    };
    request_reply(request, &reply);
    buf_deinit(&answer.fields);
}

void gateway_ended(struct request *request, const struct outcome *outcome)
{
    struct jsonrpc_response response;
    request->pending--;
    if (outcome->error != 0)
        request_error(request, outcome->error, (struct span){0});
    else if (jsonrpc_scan_response(outcome->body.p, outcome->body.n, &response) != 0)
        request_error(request, RPC_BAD_RESPONSE, (struct span){0});
    else if (response.result.n == 0)
        request_status(request, 500, (struct span){0});
    else
        relay(request, outcome, response.result);
}
