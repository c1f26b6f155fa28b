#include <criterion/criterion.h>

#include "proto/errors.h"

/* Protocol section 6. */
Test(errors, table)
{
    static const struct {
        int code;
        const char *message;
        unsigned status;
    } rows[] = {
        {-32700, "parse error", 400},
        {-32600, "invalid request", 400},
        {-32601, "method not found", 404},
        {-32001, "overloaded", 503},
        {-32002, "worker lost", 502},
        {-32003, "deadline exceeded", 504},
        {-32004, "unavailable", 503},
        {-32005, "too large", 413},
        {-32006, "rate limited", 429},
        {-32007, "bad worker response", 502},
        {-32008, "unauthorized", 401},
        {-32009, "forbidden", 403},
        {-32603, "internal error", 500},
        {0, "internal error", 500},
        {-1, "internal error", 500},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        cr_assert_str_eq(rpc_error_message((enum rpc_error)rows[i].code), rows[i].message);
        cr_assert_eq(rpc_error_status((enum rpc_error)rows[i].code), rows[i].status);
    }
}
