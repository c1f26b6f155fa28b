#include "frontd/admin/otlp.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/alloc.h"
#include "proto/json_read.h"
#include "proto/json_scan.h"

enum {
    KIND_SERVER = 2,  /* Span.SpanKind */
    STATUS_ERROR = 2, /* Status.StatusCode */
    US_A_SECOND = 1000000,
};

#define SCOPE "frontd"

static void begin_attribute(struct json_writer *writer, const char *key)
{
    json_begin(writer, NULL, '{');
    json_add_text(writer, "key", key);
    json_begin(writer, "value", '{');
}

static void end_attribute(struct json_writer *writer)
{
    json_end(writer, '}');
    json_end(writer, '}');
}

/* An attribute of text; none where it is empty. */
static void add_attribute(struct json_writer *writer, const char *key, struct span text)
{
    if (text.n == 0)
        return;
    begin_attribute(writer, key);
    json_add_span(writer, "stringValue", text);
    end_attribute(writer);
}

/* An attribute of a number, which is written as a text. */
static void add_integer(struct json_writer *writer, const char *key, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof(text), "%" PRIu64, value);
    begin_attribute(writer, key);
    json_add_text(writer, "intValue", text);
    end_attribute(writer);
}

/* An attribute of a time in seconds. */
static void add_seconds(struct json_writer *writer, const char *key, uint64_t us)
{
    char text[40];
    snprintf(text, sizeof(text), "%" PRIu64 ".%06" PRIu64, us / US_A_SECOND, us % US_A_SECOND);
    begin_attribute(writer, key);
    json_add_raw(writer, "doubleValue", (struct span){text, strlen(text)});
    end_attribute(writer);
}

static void add_nanoseconds(struct json_writer *writer, const char *key, uint64_t us)
{
    char text[32];
    snprintf(text, sizeof(text), "%" PRIu64 "000", us);
    json_add_text(writer, key, text);
}

/* The id as its text: a string without its quotes (semantic conventions for JSON-RPC). */
static void add_request_id(struct json_writer *writer, struct span id)
{
    char *text = NULL;
    size_t n = 0;
    const char *p = id.p;
    if (id.n == 0 || json_scan_value(p, p + id.n, 0) != p + id.n)
        return; /* it was cut */
    if (json_is_string(id)) {
        int r = json_read_text(id, &text, &n);
        writer->failed |= r == -ENOMEM;
        id = (struct span){text, r == 0 ? n : 0};
    }
    add_attribute(writer, "jsonrpc.request.id", id);
    mem_free(text);
}

static void add_attributes(struct json_writer *writer, const struct trace_record *record)
{
    const struct span *texts = record->texts;
    char number[24];
    json_begin(writer, "attributes", '[');
    add_attribute(writer, "rpc.system.name", SPAN("jsonrpc"));
    add_attribute(writer, "rpc.method", texts[TRACE_METHOD]);
    add_attribute(writer, "jsonrpc.protocol.version", SPAN("2.0"));
    add_request_id(writer, texts[TRACE_ID]);
    snprintf(number, sizeof(number), "%" PRId32,
        record->error != 0 ? record->error : (int32_t)record->status);
    struct span code = {number, strlen(number)};
    if (record->error != 0)
        add_attribute(writer, "rpc.response.status_code", code);
    if (record->failed)
        add_attribute(writer, "error.type",
            record->error == 0 && record->status == 0 ? SPAN("_OTHER") : code);
    if (record->status != 0)
        add_integer(writer, "http.response.status_code", record->status);
    add_attribute(writer, "http.route", texts[TRACE_ROUTE]);
    add_attribute(writer, "client.address", texts[TRACE_PEER]);
    add_attribute(writer, "frontd.protocol", texts[TRACE_PROTOCOL]);
    add_attribute(writer, "frontd.listener", texts[TRACE_LISTENER]);
    add_attribute(writer, "frontd.pool", texts[TRACE_POOL]);
    add_attribute(writer, "frontd.worker", texts[TRACE_WORKER]);
    add_attribute(writer, "frontd.request_id", texts[TRACE_REQUEST_ID]);
    snprintf(number, sizeof(number), "%" PRIu64, record->conn);
    add_attribute(writer, "frontd.conn", (struct span){number, strlen(number)});
    add_seconds(writer, "frontd.queue_time", record->queued);
    json_end(writer, ']');
}

static bool has_parent(const struct trace_record *record)
{
    static const uint8_t none[TRACEPARENT_SPAN];
    return memcmp(record->parent, none, sizeof(none)) != 0;
}

int otlp_put_span(struct buf *spans, const struct trace_record *record)
{
    size_t before = buf_len(spans);
    struct json_writer writer = {.out = *spans};
    struct span method = record->texts[TRACE_METHOD];
    json_begin(&writer, NULL, '{');
    json_add_bytes(&writer, "traceId", record->trace, sizeof(record->trace));
    json_add_bytes(&writer, "spanId", record->span, sizeof(record->span));
    if (has_parent(record))
        json_add_bytes(&writer, "parentSpanId", record->parent, sizeof(record->parent));
    json_add_number(&writer, "flags", record->flags);
    json_add_span(&writer, "name", method.n > 0 ? method : SPAN("jsonrpc"));
    json_add_number(&writer, "kind", KIND_SERVER);
    add_nanoseconds(&writer, "startTimeUnixNano", record->start);
    add_nanoseconds(&writer, "endTimeUnixNano", record->start + record->duration);
    add_attributes(&writer, record);
    json_begin(&writer, "status", '{');
    if (record->failed)
        json_add_number(&writer, "code", STATUS_ERROR);
    json_end(&writer, '}');
    json_end(&writer, '}');
    *spans = writer.out;
    if (!writer.failed)
        return 0;
    buf_truncate(spans, before);
    return -ENOMEM;
}

int otlp_put_request(struct buf *out, const struct otlp_resource *resource, struct span spans)
{
    struct json_writer writer = {.out = *out};
    size_t before = buf_len(out);
    json_begin(&writer, NULL, '{');
    json_begin(&writer, "resourceSpans", '[');
    json_begin(&writer, NULL, '{');
    json_begin(&writer, "resource", '{');
    json_begin(&writer, "attributes", '[');
    add_attribute(&writer, "service.name", SPAN("frontd"));
    add_attribute(
        &writer, "service.version", (struct span){resource->version, strlen(resource->version)});
    add_attribute(&writer, "service.instance.id",
        (struct span){resource->instance, strlen(resource->instance)});
    if (resource->host != NULL)
        add_attribute(&writer, "host.name", (struct span){resource->host, strlen(resource->host)});
    json_end(&writer, ']');
    json_end(&writer, '}');
    json_begin(&writer, "scopeSpans", '[');
    json_begin(&writer, NULL, '{');
    json_begin(&writer, "scope", '{');
    json_add_text(&writer, "name", SCOPE);
    json_add_text(&writer, "version", resource->version);
    json_end(&writer, '}');
    json_begin(&writer, "spans", '[');
    if (spans.n > 0)
        json_add_raw(&writer, NULL, spans);
    json_end(&writer, ']');
    json_end(&writer, '}');
    json_end(&writer, ']');
    json_end(&writer, '}');
    json_end(&writer, ']');
    json_end(&writer, '}');
    *out = writer.out;
    if (!writer.failed)
        return 0;
    buf_truncate(out, before);
    return -ENOMEM;
}

uint64_t otlp_rejected(struct span answer)
{
    int64_t rejected = 0;
    char text[24];
    const char *p = answer.p;
    if (answer.n == 0 || p[0] != '{' || json_scan_value(p, p + answer.n, 0) != p + answer.n)
        return 0;
    struct span value = json_read_member(
        json_read_member(answer, "partialSuccess"), "rejectedSpans");
    if (value.n > 0 && json_read_plain(value, text, sizeof(text))) /* a 64-bit number is a text */
        value = (struct span){text, strspn(text, "0123456789")};
    if (value.n == 0 || json_read_integer(value, &rejected) != 0)
        return 0;
    return rejected > 0 ? (uint64_t)rejected : 0;
}
