/* HTTP requests and the answers to them (protocol section 8). */

#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "proto/json_quote.h"
#include "proto/json_scan.h"
#include "workerd/call.h"

/* The inside of a JSON string, with its escapes resolved into `room` where it has any. */
static bool take_string(struct span value, struct workerd_text *ret_text, char **room)
{
    if (value.n < 2 || value.p[0] != '"')
        return false;
    struct span in = {value.p + 1, value.n - 2};
    if (in.n > 0 && memchr(in.p, '\\', in.n) != NULL) {
        size_t n = json_scan_unescape(in, *room);
        in = (struct span){*room, n};
        *room += n;
    }
    *ret_text = (struct workerd_text){in.p, in.n};
    return true;
}

int workerd_http_read(struct workerd_call *call, struct workerd_http *ret_request)
{
    enum { METHOD, SCHEME, AUTHORITY, PATH, QUERY, KEYS };
    static const struct span keys[KEYS] = {
        {"method", 6}, {"scheme", 6}, {"authority", 9}, {"path", 4}, {"query", 5}};
    struct span found[KEYS];
    struct span params = call->params;
    if (params.n == 0 || params.p[0] != '{' ||
        json_scan_object(params.p, params.p + params.n, 1, keys, KEYS, found) == NULL)
        return -EINVAL;
    if (call->http == NULL && memchr(params.p, '\\', params.n) != NULL) {
        call->http = mem_get(params.n, &call->http_size);
        if (call->http == NULL)
            return -ENOMEM;
    }
    struct workerd_http request = {0};
    char *room = call->http;
    if (!take_string(found[METHOD], &request.method, &room) ||
        !take_string(found[PATH], &request.path, &room))
        return -EINVAL;
    take_string(found[SCHEME], &request.scheme, &room);
    take_string(found[AUTHORITY], &request.authority, &room);
    take_string(found[QUERY], &request.query, &room);
    *ret_request = request;
    return 0;
}

int workerd_http_header(const struct workerd_call *call, const char *name, char *out, size_t size)
{
    struct workerd_text headers = workerd_json_member(call_text(call->params), "headers");
    struct workerd_text header;
    size_t n = strlen(name);
    for (size_t at = 0; workerd_json_next(headers, &at, &header);) {
        struct workerd_text key = {NULL, 0};
        struct workerd_text value = {NULL, 0};
        size_t inside = 0;
        if (workerd_json_next(header, &inside, &key) && key.n >= 2 && key.p[0] == '"' &&
            json_scan_equals((struct span){key.p + 1, key.n - 2}, (struct span){name, n}) &&
            workerd_json_next(header, &inside, &value))
            return call_string(value, out, size);
    }
    return -ENOENT;
}

static int write_result(
    struct buf *out, unsigned status, const struct workerd_header *headers, size_t count)
{
    int r = buf_printf(out, "{\"status\":%u,\"headers\":[", status);
    for (size_t i = 0; i < count && r == 0; i++) {
        r = i == 0 ? buf_append(out, "[", 1) : buf_append(out, ",[", 2);
        if (r == 0)
            r = json_quote(out, headers[i].name, strlen(headers[i].name));
        if (r == 0)
            r = buf_append(out, ",", 1);
        if (r == 0)
            r = json_quote(out, headers[i].value, strlen(headers[i].value));
        if (r == 0)
            r = buf_append(out, "]", 1);
    }
    return r == 0 ? buf_append(out, "]}", 2) : r;
}

void workerd_http_reply(struct workerd_call *call, unsigned status,
    const struct workerd_header *headers, size_t count, const void *body, size_t n)
{
    struct buf result = {0};
    if (write_result(&result, status, headers, count) < 0)
        workerd_fail(call, WORKERD_INTERNAL_ERROR, "out of memory", NULL, 0);
    else
        workerd_reply_blob(call, buf_data(&result), buf_len(&result), body, n);
    buf_deinit(&result);
}

int workerd_http_begin(struct workerd_call *call, unsigned status,
    const struct workerd_header *headers, size_t count, workerd_callback on_room, void *data)
{
    if (!call_is_heard(call) || workerd_call_cancelled(call))
        return -ECANCELED;
    if (call->stream == NULL)
        call->stream = stream_new(call);
    if (call->stream == NULL)
        return -ENOMEM;
    if (call->stream->begun)
        return -EALREADY;
    struct buf result = {0};
    int r = write_result(&result, status, headers, count);
    if (r == 0)
        r = reply_begin(call, (struct span){buf_data(&result), buf_len(&result)});
    buf_deinit(&result);
    if (r < 0)
        return r;
    call->stream->begun = true;
    call->stream->on_room = on_room;
    call->stream->on_room_data = data;
    stream_credit(call->stream, STREAM_WINDOW);
    return 0;
}
