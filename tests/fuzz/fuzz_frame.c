/* The frame codec: two bytes for max_frame, and then a channel's bytes. */

#include <string.h>

#include "proto/frame.h"

enum {
    SPLIT_MAX = 1024, /* bytes: an input up to here is tried with every split */
};

static void check_parts(const struct frame *frame, const char *p, size_t used)
{
    const struct frame_head *head = &frame->head;
    const char *payload = p + FRAME_HEAD_SIZE;
    CHECK(used == FRAME_HEAD_SIZE + (size_t)head->length);
    CHECK(frame->meta.p == payload && frame->meta.n == head->meta_len);
    CHECK(frame->body.p == payload + frame->meta.n);
    CHECK(frame->blob.p == frame->body.p + frame->body.n && frame->blob.n == head->blob_len);
    CHECK(frame->blob.p + frame->blob.n == p + used);
}

/* What is written from what was read is the same but for the bytes that are ignored. */
static void check_head(const struct frame_head *head, const char *p)
{
    uint8_t written[FRAME_HEAD_SIZE];
    frame_head_write(head, written);
    CHECK(memcmp(written, p, 6) == 0);
    CHECK(written[6] == 0 && written[7] == 0);
    CHECK(memcmp(written + 8, p + 8, FRAME_HEAD_SIZE - 8) == 0);
}

/* A piece of the bytes says the same, or that there must be more. */
static void check_pieces(const char *p, size_t n, uint32_t max_frame, int result, size_t used)
{
    for (size_t part = 0; part < n; part++) {
        struct frame frame;
        size_t ret_used;
        size_t size;
        int r = frame_read(p, part, max_frame, &frame, &ret_used);
        bool decided = part >= FRAME_HEAD_SIZE && (result != 0 || part >= used);
        CHECK(r == (decided ? result : FRAME_E_MORE));
        CHECK(r != 0 || ret_used == used);
        r = frame_size(p, part, max_frame, &size);
        CHECK(part >= FRAME_HEAD_SIZE || r == FRAME_E_MORE);
        CHECK(r != 0 || result != 0 || size == used);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    uint32_t max_frame = (uint32_t)data[0] << 8 | data[1];
    const char *p = (const char *)data + 2;
    size_t n = size - 2;
    for (;;) {
        struct frame frame;
        size_t used = 0;
        int r = frame_read(p, n, max_frame, &frame, &used);
        CHECK(r >= 0 && r <= FRAME_E_LIMIT);
        if (n <= SPLIT_MAX)
            check_pieces(p, n, max_frame, r, used);
        if (r != 0)
            break;
        CHECK(used <= n && frame.head.length <= max_frame);
        check_parts(&frame, p, used);
        check_head(&frame.head, p);
        p += used;
        n -= used;
    }
    return 0;
}
