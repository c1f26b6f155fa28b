#include "proto/frame.h"

#include <endian.h>
#include <string.h>

void frame_head_write(const struct frame_head *head, uint8_t out[static FRAME_HEAD_SIZE])
{
    uint32_t length = htobe32(head->length);
    uint64_t call = htobe64(head->call);
    uint64_t conn = htobe64(head->conn);
    uint32_t meta_len = htobe32(head->meta_len);
    uint32_t blob_len = htobe32(head->blob_len);
    memcpy(out, &length, 4);
    out[4] = head->type;
    out[5] = head->flags;
    out[6] = 0;
    out[7] = 0;
    memcpy(out + 8, &call, 8);
    memcpy(out + 16, &conn, 8);
    memcpy(out + 24, &meta_len, 4);
    memcpy(out + 28, &blob_len, 4);
}

int frame_head_read(const char *p, size_t n, uint32_t max_frame, struct frame_head *ret_head)
{
    if (n < FRAME_HEAD_SIZE)
        return FRAME_E_MORE;
    struct frame_head head = {.type = (uint8_t)p[4], .flags = (uint8_t)p[5]};
    memcpy(&head.length, p, 4);
    memcpy(&head.call, p + 8, 8);
    memcpy(&head.conn, p + 16, 8);
    memcpy(&head.meta_len, p + 24, 4);
    memcpy(&head.blob_len, p + 28, 4);
    head.length = be32toh(head.length);
    head.call = be64toh(head.call);
    head.conn = be64toh(head.conn);
    head.meta_len = be32toh(head.meta_len);
    head.blob_len = be32toh(head.blob_len);
    if (head.type == 0 || (head.type > FRAME_WINDOW && head.type < FRAME_EXTENSION))
        return FRAME_E_TYPE;
    if ((uint64_t)head.meta_len + head.blob_len > head.length)
        return FRAME_E_PARTS;
    if (head.length > max_frame)
        return FRAME_E_LIMIT;
    *ret_head = head;
    return 0;
}

int frame_read(
    const char *p, size_t n, uint32_t max_frame, struct frame *ret_frame, size_t *ret_used)
{
    struct frame_head head;
    int r = frame_head_read(p, n, max_frame, &head);
    if (r != 0)
        return r;
    if (n - FRAME_HEAD_SIZE < head.length)
        return FRAME_E_MORE;
    const char *payload = p + FRAME_HEAD_SIZE;
    uint32_t body_len = head.length - head.meta_len - head.blob_len;
    *ret_frame = (struct frame){
        .head = head,
        .meta = {payload, head.meta_len},
        .body = {payload + head.meta_len, body_len},
        .blob = {payload + head.meta_len + body_len, head.blob_len},
    };
    *ret_used = FRAME_HEAD_SIZE + (size_t)head.length;
    return 0;
}

int frame_size(const char *p, size_t n, uint32_t max_frame, size_t *ret_size)
{
    struct frame_head head;
    int r = frame_head_read(p, n, max_frame, &head);
    if (r == 0)
        *ret_size = FRAME_HEAD_SIZE + (size_t)head.length;
    return r;
}

const char *frame_type_text(uint8_t type)
{
    static const char *const names[] = {[FRAME_HELLO] = "HELLO",
        [FRAME_REQUEST] = "REQUEST",
        [FRAME_RESPONSE] = "RESPONSE",
        [FRAME_CANCEL] = "CANCEL",
        [FRAME_PING] = "PING",
        [FRAME_PONG] = "PONG",
        [FRAME_GOAWAY] = "GOAWAY",
        [FRAME_PUSH] = "PUSH",
        [FRAME_PUBLISH] = "PUBLISH",
        [FRAME_SUBSCRIBE] = "SUBSCRIBE",
        [FRAME_UNSUBSCRIBE] = "UNSUBSCRIBE",
        [FRAME_DISCONNECT] = "DISCONNECT",
        [FRAME_DATA] = "DATA",
        [FRAME_WINDOW] = "WINDOW",
        [FRAME_STATE] = "STATE"};
    return type < ARRAY_LEN(names) && names[type] != NULL ? names[type] : "unknown frame";
}

static bool begins(const char *p, size_t n, const char *with, size_t length)
{
    return n >= length && memcmp(p, with, length) == 0;
}

const char *frame_guess(const char *p, size_t n)
{
    static const struct {
        const char *begins;
        size_t n;
        const char *text;
    } known[] = {
        {"HTTP/", 5, "it speaks HTTP, not the protocol of workers"},
        {"GET ", 4, "it speaks HTTP, not the protocol of workers"},
        {"HEAD ", 5, "it speaks HTTP, not the protocol of workers"},
        {"POST ", 5, "it speaks HTTP, not the protocol of workers"},
        {"PUT ", 4, "it speaks HTTP, not the protocol of workers"},
        {"OPTIONS ", 8, "it speaks HTTP, not the protocol of workers"},
        {"PRI * HTTP/2", 12, "it speaks HTTP/2, not the protocol of workers"},
        {"\x16\x03", 2, "it speaks TLS, not the protocol of workers"},
        {"\x15\x03", 2, "it speaks TLS, not the protocol of workers"},
        {"SSH-", 4, "it speaks SSH, not the protocol of workers"},
        {"{", 1, "it sends JSON without the frames of the protocol of workers"},
    };
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (begins(p, n, known[i].begins, known[i].n))
            return known[i].text;
    }
    /* SETTINGS of a server of HTTP/2: a length of 24 bits, type 4, no flags, stream 0. */
    if (n >= 9 && p[0] == 0 && memcmp(p + 3, "\4\0\0\0\0\0", 6) == 0)
        return "it speaks HTTP/2, not the protocol of workers";
    return NULL;
}

const char *frame_error_text(int error)
{
    switch (error) {
    case FRAME_E_PARTS: return "meta_len and blob_len exceed the frame's length";
    case FRAME_E_TYPE: return "unknown frame type";
    case FRAME_E_LIMIT: return "frame over max_frame";
    default: return "bad frame";
    }
}
