/* What the control server reads of a client: frames whose bodies are requests or HELLO. */

#include <string.h>

#include "common/base.h"
#include "frontd/ipc/control_rpc.h"
#include "proto/frame.h"
#include "proto/json_read.h"
#include "proto/jsonrpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_within(struct span part, struct span whole)
{
    return part.n == 0 || (part.p >= whole.p && part.p + part.n <= whole.p + whole.n);
}

static void try_body(struct span body)
{
    struct control_rpc_request request;
    int r = control_rpc_read_request(body, &request);
    CHECK(request.id.n > 0 && jsonrpc_validate(request.id.p, request.id.n) == 0);
    CHECK((r == CONTROL_RPC_PARSE) == (jsonrpc_validate(body.p, body.n) != 0));
    if (r == 0) {
        CHECK(is_within(request.method, body) && is_within(request.params, body));
        CHECK(is_within(request.id, body));
        CHECK(request.params.n == 0 || request.params.p[0] == '{');
        json_read_member(request.params, "pool");
    }
    int version = control_rpc_read_hello(body);
    CHECK(version == -1 || version > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *p = (const char *)data;
    while (size > 0) {
        struct frame frame;
        size_t used;
        if (frame_read(p, size, CONTROL_REQUEST_MAX, &frame, &used) != 0)
            break;
        try_body(frame.body);
        p += used;
        size -= used;
    }
    try_body((struct span){p, size});
    return 0;
}
