#include <criterion/criterion.h>
#include <json-c/json.h>
#include <string.h>

#include "frontd/admin/otlp.h"

static const struct otlp_resource resource = {.instance = "f1", .version = "1.2", .host = "h"};

static struct json_object *at(struct json_object *of, const char *path)
{
    struct json_object *found = NULL;
    json_pointer_get(of, path, &found);
    return found;
}

static const char *text_at(struct json_object *of, const char *path)
{
    struct json_object *found = at(of, path);
    cr_assert_not_null(found, "%s: %s", path, json_object_to_json_string(of));
    return json_object_get_string(found);
}

/* The value of an attribute of a span, as text; "" where it is not there. */
static const char *attribute(struct json_object *span, const char *key)
{
    struct json_object *all = at(span, "/attributes");
    for (size_t i = 0; i < json_object_array_length(all); i++) {
        struct json_object *one = json_object_array_get_idx(all, i);
        if (strcmp(text_at(one, "/key"), key) == 0)
            return text_at(one, at(one, "/value/doubleValue") != NULL ? "/value/doubleValue"
                                : at(one, "/value/intValue") != NULL  ? "/value/intValue"
                                                                      : "/value/stringValue");
    }
    return "";
}

/* The caller puts it back with json_object_put(). */
static struct json_object *write_request(const struct trace_record *records, size_t n)
{
    struct buf spans = {0}, out = {0};
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            cr_assert_eq(buf_append(&spans, ",", 1), 0);
        cr_assert_eq(otlp_put_span(&spans, &records[i]), 0);
    }
    cr_assert_eq(
        otlp_put_request(&out, &resource, (struct span){buf_data(&spans), buf_len(&spans)}), 0);
    cr_assert_eq(buf_append(&out, "", 1), 0);
    struct json_object *read = json_tokener_parse(buf_data(&out));
    cr_assert_not_null(read, "%s", buf_data(&out));
    buf_deinit(&spans);
    buf_deinit(&out);
    return read;
}

#define SPANS "/resourceSpans/0/scopeSpans/0/spans"

Test(otlp, a_span)
{
    struct trace_record record = {
        .trace = {0x5b, 0x8e, [15] = 0x01},
        .span = {0xee, [7] = 0x02},
        .parent = {0xaa, [7] = 0x03},
        .start = 1700000000123456,
        .duration = 1500000,
        .queued = 500,
        .conn = 18446744073709551615U,
        .status = 200,
        .flags = 1,
        .texts =
            {
                [TRACE_METHOD] = SPAN("sum"),
                [TRACE_ID] = SPAN("\"a\\u0062\""),
                [TRACE_POOL] = SPAN("app"),
                [TRACE_WORKER] = SPAN("unix:/run/a.sock"),
                [TRACE_ROUTE] = SPAN("/rpc"),
                [TRACE_PEER] = SPAN("10.0.0.1"),
            },
    };
    struct json_object *read = write_request(&record, 1);
    struct json_object *span = at(read, SPANS "/0");
    cr_expect_str_eq(text_at(span, "/traceId"), "5b8e0000000000000000000000000001");
    cr_expect_str_eq(text_at(span, "/spanId"), "ee00000000000002");
    cr_expect_str_eq(text_at(span, "/parentSpanId"), "aa00000000000003");
    cr_expect_str_eq(text_at(span, "/name"), "sum");
    cr_expect(json_object_is_type(at(span, "/kind"), json_type_int));
    cr_expect_str_eq(text_at(span, "/kind"), "2");
    cr_expect(json_object_is_type(at(span, "/startTimeUnixNano"), json_type_string));
    cr_expect_str_eq(text_at(span, "/startTimeUnixNano"), "1700000000123456000");
    cr_expect_str_eq(text_at(span, "/endTimeUnixNano"), "1700000001623456000");
    cr_expect_null(at(span, "/status/code"));
    cr_expect_str_eq(attribute(span, "rpc.system.name"), "jsonrpc");
    cr_expect_str_eq(attribute(span, "rpc.method"), "sum");
    cr_expect_str_eq(attribute(span, "jsonrpc.protocol.version"), "2.0");
    cr_expect_str_eq(attribute(span, "jsonrpc.request.id"), "ab");
    cr_expect_str_eq(attribute(span, "rpc.response.status_code"), "");
    cr_expect_str_eq(attribute(span, "error.type"), "");
    cr_expect_str_eq(attribute(span, "http.response.status_code"), "200");
    cr_expect_str_eq(attribute(span, "frontd.worker"), "unix:/run/a.sock");
    cr_expect_str_eq(attribute(span, "frontd.queue_time"), "0.000500");
    cr_expect_str_eq(attribute(span, "frontd.conn"), "18446744073709551615");
    cr_expect_str_eq(text_at(read, "/resourceSpans/0/resource/attributes/0/key"), "service.name");
    json_object_put(read);
}

Test(otlp, errors_roots_and_bytes_of_no_text)
{
    struct trace_record records[4] = {
        {.error = -32003,
            .failed = true,
            .texts = {[TRACE_METHOD] = SPAN("a\"\n\xff"), [TRACE_ID] = SPAN("7")}},
        {.error = 0, .texts = {[TRACE_ID] = SPAN("\"cut")}},
        {.failed = true, .status = 502},
        {.failed = true},
    };
    struct json_object *read = write_request(records, 4);
    struct json_object *first = at(read, SPANS "/0");
    cr_expect_eq(json_object_array_length(at(read, SPANS)), 4);
    cr_expect_null(at(first, "/parentSpanId"));
    cr_expect_str_eq(text_at(first, "/status/code"), "2");
    cr_expect_str_eq(text_at(first, "/name"), "a\"\n\xef\xbf\xbd");
    cr_expect_str_eq(attribute(first, "rpc.response.status_code"), "-32003");
    cr_expect_str_eq(attribute(first, "error.type"), "-32003");
    cr_expect_str_eq(attribute(first, "jsonrpc.request.id"), "7");
    cr_expect_str_eq(attribute(at(read, SPANS "/1"), "jsonrpc.request.id"), "");
    cr_expect_str_eq(text_at(read, SPANS "/1/name"), "jsonrpc");
    cr_expect_str_eq(attribute(at(read, SPANS "/2"), "error.type"), "502");
    cr_expect_str_eq(attribute(at(read, SPANS "/2"), "rpc.response.status_code"), "");
    cr_expect_str_eq(text_at(read, SPANS "/2/status/code"), "2");
    cr_expect_str_eq(attribute(at(read, SPANS "/3"), "error.type"), "_OTHER");
    json_object_put(read);
}

Test(otlp, rejected)
{
    static const struct {
        const char *text;
        uint64_t rejected;
    } rows[] = {
        {"{\"partialSuccess\":{\"rejectedSpans\":\"3\",\"errorMessage\":\"no\"}}", 3},
        {"{\"partialSuccess\":{\"rejectedSpans\":4}}", 4},
        {"{\"partialSuccess\":{\"rejectedSpans\":\"-3\"}}", 0},
        {"{\"partialSuccess\":{\"rejectedSpans\":-3}}", 0},
        {"{\"partialSuccess\":{\"rejectedSpans\":\"\"}}", 0},
        {"{\"partialSuccess\":{}}", 0},
        {"{\"partialSuccess\":7}", 0},
        {"{}", 0},
        {"[]", 0},
        {"{", 0},
        {"", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        cr_expect_eq(otlp_rejected((struct span){rows[i].text, strlen(rows[i].text)}),
            rows[i].rejected, "%s", rows[i].text);
}
