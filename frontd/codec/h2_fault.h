#pragma once

/*
 * What can be wrong with what an HTTP/2 client sends, and what becomes of it: one table for frames,
 * header blocks, streams and limits. Pure.
 */

#include "common/base.h"

/* RFC 9113 section 7 */
enum h2_code {
    H2_NO_ERROR,
    H2_PROTOCOL_ERROR,
    H2_INTERNAL_ERROR,
    H2_FLOW_CONTROL_ERROR,
    H2_SETTINGS_TIMEOUT,
    H2_STREAM_CLOSED,
    H2_FRAME_SIZE_ERROR,
    H2_REFUSED_STREAM,
    H2_CANCEL,
    H2_COMPRESSION_ERROR,
    H2_CONNECT_ERROR,
    H2_ENHANCE_YOUR_CALM,
    H2_INADEQUATE_SECURITY,
    H2_HTTP_1_1_REQUIRED,
};

/* What codecs of HTTP/2 return besides H2_OK and H2_MORE; each has a row in h2_fault(). */
enum h2_fault {
    H2_OK,
    H2_MORE, /* nothing is complete */
    /* Frames */
    H2_FAULT_PREFACE,
    H2_FAULT_FIRST_FRAME,
    H2_FAULT_TOO_LONG,
    H2_FAULT_SIZE,
    H2_FAULT_PRIORITY_SIZE,
    H2_FAULT_STREAM_ZERO,
    H2_FAULT_STREAM_GIVEN,
    H2_FAULT_PADDING,
    H2_FAULT_PUSH_PROMISE,
    H2_FAULT_CONTINUATION_MISSING,
    H2_FAULT_CONTINUATION_ALONE,
    /* Settings */
    H2_FAULT_ENABLE_PUSH,
    H2_FAULT_INITIAL_WINDOW,
    H2_FAULT_MAX_FRAME,
    /* Flow control */
    H2_FAULT_INCREMENT_ZERO,
    H2_FAULT_STREAM_INCREMENT_ZERO,
    H2_FAULT_OVERFLOW,
    H2_FAULT_STREAM_OVERFLOW,
    H2_FAULT_WINDOW,
    H2_FAULT_STREAM_WINDOW,
    /* Streams */
    H2_FAULT_STREAM_ID,
    H2_FAULT_IDLE,
    H2_FAULT_SKIPPED,
    H2_FAULT_HALF_CLOSED,
    H2_FAULT_CLOSED,
    H2_FAULT_TRAILERS_OPEN,
    H2_FAULT_TUNNEL,
    H2_FAULT_REFUSED,
    /* Header blocks */
    H2_FAULT_COMPRESSION,
    H2_FAULT_NAME,
    H2_FAULT_VALUE,
    H2_FAULT_PSEUDO_ORDER,
    H2_FAULT_PSEUDO_TWICE,
    H2_FAULT_PSEUDO_MISSING,
    H2_FAULT_PSEUDO_UNKNOWN,
    H2_FAULT_METHOD,
    H2_FAULT_SCHEME,
    H2_FAULT_PATH,
    H2_FAULT_AUTHORITY,
    H2_FAULT_PROTOCOL,
    H2_FAULT_CONNECTION_FIELD,
    H2_FAULT_TE,
    H2_FAULT_CONTENT_LENGTH,
    H2_FAULT_BODY_LENGTH,
    /* Limits */
    H2_FAULT_CONTINUATIONS,
    H2_FAULT_BLOCK,
    H2_FAULT_EMPTY,
    H2_FAULT_RESETS,
    H2_FAULT_QUEUED,
    H2_FAULT_GLITCHES,
    /* Ours */
    H2_FAULT_SLOW_READER,
    H2_FAULT_SLOW_SENDER,
    H2_FAULT_MEMORY,
    H2_FAULTS
};

struct h2_fault_row {
    uint8_t code;        /* enum h2_code */
    bool connection;     /* it ends the connection with GOAWAY; else the stream with RST_STREAM */
    const char *section; /* of RFC 9113, but for those that have another document's name */
    const char *text;    /* for the log and GOAWAY's debug data */
};

/* The row of a fault. fault: neither H2_OK nor H2_MORE. */
const struct h2_fault_row *h2_fault(enum h2_fault fault);
