#include "proto/errors.h"

static const struct {
    enum rpc_error code;
    unsigned status;
    const char *message;
} table[] = {
    {RPC_PARSE_ERROR, 400, "parse error"},
    {RPC_INVALID_REQUEST, 400, "invalid request"},
    {RPC_METHOD_NOT_FOUND, 404, "method not found"},
    {RPC_OVERLOADED, 503, "overloaded"},
    {RPC_WORKER_LOST, 502, "worker lost"},
    {RPC_DEADLINE_EXCEEDED, 504, "deadline exceeded"},
    {RPC_UNAVAILABLE, 503, "unavailable"},
    {RPC_TOO_LARGE, 413, "too large"},
    {RPC_RATE_LIMITED, 429, "rate limited"},
    {RPC_BAD_RESPONSE, 502, "bad worker response"},
    {RPC_UNAUTHORIZED, 401, "unauthorized"},
    {RPC_FORBIDDEN, 403, "forbidden"},
};

const char *rpc_error_message(enum rpc_error code)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (table[i].code == code)
            return table[i].message;
    }
    return "internal error";
}

unsigned rpc_error_status(enum rpc_error code)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (table[i].code == code)
            return table[i].status;
    }
    return 500;
}

int rpc_error_write(struct buf *out, enum rpc_error error, struct span id)
{
    if (id.n == 0)
        id = SPAN("null");
    return buf_printf(out,
        "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":%d,\"message\":\"%s\"},\"id\":%.*s}", (int)error,
        rpc_error_message(error), (int)id.n, id.p);
}
