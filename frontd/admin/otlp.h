#pragma once

/*
 * Spans as OTLP/HTTP has them in JSON: ids in hexadecimal, 64-bit numbers as strings, enumerations
 * as numbers (opentelemetry-proto, docs/specification.md, "JSON Protobuf Encoding"). Attributes are
 * those of the semantic conventions for RPC and JSON-RPC; what those have no name for begins with
 * "frontd.". Pure.
 */

#include "common/buf.h"
#include "frontd/ipc/trace_record.h"
#include "proto/json_write.h"

/* What all spans of a front have in common. Borrowed. */
struct otlp_resource {
    const char *instance; /* of the front, as workers know it from HELLO */
    const char *version;
    const char *host; /* of the machine; NULL: not known */
};

/* Appends a span, an element of the array of spans. 0, or -ENOMEM with the buffer as it was. */
int otlp_put_span(struct buf *spans, const struct trace_record *record);

/* Appends the body of an export request. spans: of otlp_put_span(), with commas between them.
 * Returns 0 or -ENOMEM. */
int otlp_put_request(struct buf *out, const struct otlp_resource *resource, struct span spans);

/*
 * How many spans a collector has not taken, by the body of its answer (partialSuccess); 0 where it
 * says nothing of them, or is something else.
 */
uint64_t otlp_rejected(struct span answer);
