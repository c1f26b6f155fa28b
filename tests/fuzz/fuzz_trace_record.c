/* The input is a message with records of spans. What is read of it and packed again is the same. */

#include <string.h>

#include "frontd/ipc/trace_record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span message = {(const char *)data, size};
    struct trace_record record, again;
    bool bad;
    while (trace_record_next(&message, &record, &bad)) {
        struct buf buf = {0};
        CHECK(!bad && trace_record_pack(&buf, &record) == 0);
        struct span packed = {buf_data(&buf), buf_len(&buf)};
        CHECK(trace_record_next(&packed, &again, &bad) && packed.n == 0);
        CHECK(again.start == record.start && again.error == record.error);
        for (size_t i = 0; i < TRACE_TEXTS; i++)
            CHECK(again.texts[i].n == record.texts[i].n &&
                  (again.texts[i].n == 0 ||
                      memcmp(again.texts[i].p, record.texts[i].p, again.texts[i].n) == 0));
        buf_deinit(&buf);
    }
    return 0;
}
