/*
 * The input: what another process says is a frozen header table. Where it is taken, it is frozen
 * again to what can be thawed to the same.
 */

#include <string.h>

#include "frontd/codec/h2_hpack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct h2_hpack *hpack = NULL, *thawed = NULL;
    struct buf first = {0}, second = {0};
    enum h2_fault fault = h2_hpack_thaw((struct span){(const char *)data, size}, &hpack);
    CHECK(fault == H2_OK || fault == H2_FAULT_COMPRESSION);
    if (fault != H2_OK)
        return 0;
    CHECK(h2_hpack_freeze(hpack, &first) == 0);
    CHECK(h2_hpack_thaw((struct span){buf_data(&first), buf_len(&first)}, &thawed) == H2_OK);
    CHECK(h2_hpack_freeze(thawed, &second) == 0);
    CHECK(buf_len(&first) == buf_len(&second));
    CHECK(
        buf_len(&first) == 0 || memcmp(buf_data(&first), buf_data(&second), buf_len(&first)) == 0);
    buf_deinit(&first);
    buf_deinit(&second);
    h2_hpack_free(hpack);
    h2_hpack_free(thawed);
    return 0;
}
