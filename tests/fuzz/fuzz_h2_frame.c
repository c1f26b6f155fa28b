/* The input: frames. However they are cut, the same frames come out, within the bytes given. */

#include <string.h>

#include "frontd/codec/h2_frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool same(const struct h2_frame *a, const struct h2_frame *b)
{
    return a->type == b->type && a->flags == b->flags && a->stream == b->stream &&
           a->length == b->length && a->value == b->value && a->code == b->code &&
           a->payload.n == b->payload.n &&
           (a->payload.n == 0 || memcmp(a->payload.p, b->payload.p, a->payload.n) == 0);
}

/* A copy that ends where the bytes end, so that ASan sees a read past it. */
static enum h2_fault parse_copy(const uint8_t *p, size_t n, struct h2_frame *frame, size_t *used)
{
    char *copy = malloc(n + 1);
    CHECK(copy != NULL);
    memcpy(copy, p, n);
    enum h2_fault fault = h2_frame_parse(copy, n, frame, used);
    if (fault == H2_OK) {
        const struct span *payload = &frame->payload;
        CHECK(*used <= n && payload->p >= copy && payload->p + payload->n <= copy + *used);
        frame->payload.p = (const char *)p + (payload->p - copy);
    }
    free(copy);
    return fault;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CHECK(h2_preface_match((const char *)data, size) <= MIN(size, (size_t)H2_PREFACE_SIZE));
    while (size > 0) {
        struct h2_frame whole = {0}, part = {0};
        size_t used = 0, part_used = 0;
        enum h2_fault fault = parse_copy(data, size, &whole, &used);
        for (size_t n = 0; n < MIN(size, (size_t)64); n++) {
            enum h2_fault of_part = parse_copy(data, n, &part, &part_used);
            CHECK(of_part == H2_MORE || of_part == fault);
            CHECK(of_part != H2_OK || (part_used == used && same(&part, &whole)));
        }
        if (fault > H2_MORE && h2_fault(fault)->connection)
            return 0;
        if (fault == H2_MORE)
            return 0;
        CHECK(used >= H2_HEAD_SIZE && used <= size && whole.length == used - H2_HEAD_SIZE);
        data += used;
        size -= used;
    }
    return 0;
}
