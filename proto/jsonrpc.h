#pragma once

/*
 * The JSON-RPC 2.0 scanner: one pass over a text, no tree, no allocation, no recursion. It
 * validates RFC 8259 JSON (UTF-8 included) and finds what the front needs: jsonrpc, method, id,
 * params, and the members of a batch. Pure.
 */

#include "common/base.h"

enum {
    JSONRPC_DEPTH_MAX = 128, /* nested arrays and objects; one more is a parse error */
};

/* Results besides 0; positive, for the direct caller. */
enum {
    JSONRPC_E_PARSE = 1, /* not RFC 8259 JSON, or nested too deep: -32700 */
    JSONRPC_E_INVALID =
        2, /* JSON, but no JSON-RPC 2.0 request or response, or an empty batch: -32600 */
    JSONRPC_E_BATCH = 3, /* more members than there is room for */
};

enum jsonrpc_kind {
    JSONRPC_CALL,    /* has an id (null included) */
    JSONRPC_NOTIFY,  /* has no id */
    JSONRPC_INVALID, /* a member that is no valid request; `id` is set where a usable one was found
                      */
    /* An answer to a request in the other direction: it has `result` or `error`, and no method or
     * null as method. It is never answered, whatever is wrong with it. */
    JSONRPC_RESPONSE,
    JSONRPC_BAD_RESPONSE, /* an invalid response, as jsonrpc_scan_response() says */
};

/*
 * One request, or what stands in its place. Every span points into the scanned text. Keys are
 * compared after unescaping. A message that two parsers could read in two ways (envelope.h) is
 * invalid, and an id that they could is not usable.
 */
struct jsonrpc_request {
    struct span text;   /* the whole object, without surrounding white space */
    struct span method; /* inside the quotes, escapes not resolved */
    struct span id;     /* the JSON value; n == 0: absent */
    struct span params; /* the JSON value (array or object); n == 0: absent */
    enum jsonrpc_kind kind;
    bool method_escaped; /* method has escapes: use jsonrpc_unescape() */
};

/*
 * Scans a client's text: one request, or a response, or a batch of both.
 *
 * members/cap: room for the requests, at least 1; the caller's.
 *
 * Returns 0 with *ret_count requests and *ret_batch; invalid members of a batch are
 * JSONRPC_INVALID. Else:
 * - JSONRPC_E_PARSE
 * - JSONRPC_E_INVALID: one value that is neither a valid request nor a response, valid or not;
 *   members[0].id is set where a usable id was found
 * - JSONRPC_E_BATCH: a (valid) batch has more than `cap` members
 *
 * A batch is returned only when its whole text is valid JSON. After a failure members[0] is
 * written, with n == 0 in each span but that id; the other outputs are untouched.
 */
int jsonrpc_scan(const char *text, size_t n, struct jsonrpc_request *members, size_t cap,
    size_t *ret_count, bool *ret_batch);

struct jsonrpc_response {
    struct span id;     /* the JSON value */
    struct span result; /* the JSON value; n == 0 when it is an error */
    struct span error;  /* the JSON object; n == 0 when it is a result */
};

/*
 * Checks that a worker's text is exactly one JSON-RPC 2.0 response object, with:
 * - "jsonrpc":"2.0"
 * - an id (string, number or null)
 * - either result or error (an object with an integer code and a string message)
 * - none of these twice or in another spelling (envelope.h)
 *
 * Returns 0, JSONRPC_E_PARSE or JSONRPC_E_INVALID.
 */
int jsonrpc_scan_response(const char *text, size_t n, struct jsonrpc_response *ret_response);

/*
 * Writes a response with another id: the text with `id`, a JSON value, in place of `old`, the span
 * of its id. `out` has room for text.n - old.n + id.n bytes. Returns that many.
 */
size_t jsonrpc_replace_id(struct span text, struct span old, struct span id, char *out);

/*
 * The value of a member of an already validated JSON object, by its key (compared after
 * unescaping; the last one counts); n == 0 where there is none.
 */
struct span jsonrpc_member(struct span object, struct span key);

/*
 * Resolves the escapes of a validated JSON string's inside into UTF-8. `out` has room for in.n
 * bytes, which is always enough. Returns the bytes written. A lone surrogate becomes U+FFFD.
 */
size_t jsonrpc_unescape(struct span in, char *out);

/* Validates any JSON text. Returns 0 or JSONRPC_E_PARSE. */
int jsonrpc_validate(const char *text, size_t n);
