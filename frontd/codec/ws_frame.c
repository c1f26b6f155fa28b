#include "frontd/codec/ws_frame.h"

#include <errno.h>
#include <string.h>

#include "common/utf8.h"
#include "proto/close_code.h"

/* There is one for each WebSocket connection. */
_Static_assert(sizeof(struct ws) == 28, "");

/* RFC 6455 section 5.2 */
enum {
    BIT_FIN = 0x80,
    BITS_RSV = 0x70, /* for extensions */
    BIT_RSV1 = 0x40, /* of permessage-deflate, the only one that this server agrees to */
    BITS_OPCODE = 0x0f,
    BIT_CONTROL = 0x08,
    BIT_MASK = 0x80,
    BITS_LENGTH = 0x7f,
    LENGTH_16 = 126, /* the length follows in 2 bytes */
    LENGTH_64 = 127, /* in 8 */
    MASK_SIZE = 4,
    CODE_SIZE = 2,     /* of the code in a Close frame */
    EXCESS_FREE = 128, /* bytes of heads that a message may have, however small its limit is */
};

/*
 * Unmasks from `p` to `to`: the same place, a place before it (they may overlap: a word is read
 * before anything at or after its place is written), or another buffer.
 */
static void unmask_to(char *to, const char *p, size_t n, uint8_t mask[static MASK_SIZE])
{
    uint8_t turned[MASK_SIZE];
    uint64_t masks, word;
    memcpy(&masks, mask, MASK_SIZE);
    memcpy((char *)&masks + MASK_SIZE, mask, MASK_SIZE);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        memcpy(&word, p + i, sizeof(word));
        word ^= masks;
        memcpy(to + i, &word, sizeof(word));
    }
    for (; i < n; i++)
        to[i] = (char)(p[i] ^ mask[i % MASK_SIZE]);
    for (i = 0; i < MASK_SIZE; i++)
        turned[i] = mask[(n + i) % MASK_SIZE];
    memcpy(mask, turned, MASK_SIZE);
}

void ws_unmask(char *p, size_t n, uint8_t mask[static 4])
{
    unmask_to(p, p, n, mask);
}

/* RFC 6455 section 7.4, and 1012 to 1014 of the registry; 1005, 1006 and 1015 are never sent. */
static uint64_t read_big_endian(const char *p, size_t n)
{
    uint64_t value = 0;
    for (size_t i = 0; i < n; i++)
        value = value << 8 | (unsigned char)p[i];
    return value;
}

/* The head of one frame that a client has sent. */
struct head {
    uint32_t payload; /* bytes */
    uint8_t size;     /* bytes of the head itself: 6, 8 or 14 */
    uint8_t opcode;
    bool compressed;
    bool fin;
};

/* The head is not complete: not a code to close with. */
enum { HEAD_MORE = 1 };

/* RFC 6455 sections 5.2, 5.4 and 5.5, RFC 7692 section 6. Whether this first byte may follow what
 * came before. */
static bool first_byte_valid(const struct ws *ws, unsigned byte, const struct ws_limits *limits)
{
    const unsigned opcode = byte & BITS_OPCODE;
    const bool compressible = limits->deflate && (opcode == WS_TEXT || opcode == WS_BINARY);
    if (UNLIKELY(byte & BITS_RSV) && !((byte & BITS_RSV) == BIT_RSV1 && compressible))
        return false;
    switch (opcode) {
    case WS_CONTINUATION: return ws->opcode != 0;
    case WS_TEXT:
    case WS_BINARY: return ws->opcode == 0;
    case WS_CLOSE:
    case WS_PING:
    case WS_PONG: return byte & BIT_FIN;
    default: return false;
    }
}

/*
 * Each byte is checked as soon as it is there, even if the head is not complete. Returns 0 with
 * *ret_head, HEAD_MORE, or the code to close with.
 */
static unsigned read_head(const struct ws *ws, const char *p, size_t n,
    const struct ws_limits *limits, struct head *ret_head)
{
    if (n < 1)
        return HEAD_MORE;
    const unsigned first = (unsigned char)p[0], opcode = first & BITS_OPCODE;
    if (!first_byte_valid(ws, first, limits))
        return WS_CODE_PROTOCOL_ERROR;
    if (n < 2)
        return HEAD_MORE;
    const unsigned second = (unsigned char)p[1];
    const bool control = opcode & BIT_CONTROL;
    if (!(second & BIT_MASK))
        return WS_CODE_PROTOCOL_ERROR; /* section 5.1 */
    uint64_t payload = second & BITS_LENGTH;
    if (control && (payload > WS_CONTROL_MAX || (opcode == WS_CLOSE && payload == 1)))
        return WS_CODE_PROTOCOL_ERROR; /* sections 5.5 and 5.5.1 */

    size_t length_size = 0;
    if (payload >= LENGTH_16) {
        length_size = payload == LENGTH_16 ? 2 : 8;
        if (n < 2 + length_size)
            return HEAD_MORE;
        payload = read_big_endian(p + 2, length_size);
        if (payload < (length_size == 2 ? LENGTH_16 : 0x10000) || payload >> 63)
            return WS_CODE_PROTOCOL_ERROR;
    }
    if (!control && (payload > limits->frame || ws->message + payload > limits->message))
        return WS_CODE_TOO_BIG;
    const size_t size = 2 + length_size + MASK_SIZE;
    if (n < size)
        return HEAD_MORE;
    *ret_head = (struct head){.payload = (uint32_t)payload,
        .size = (uint8_t)size,
        .opcode = (uint8_t)opcode,
        .compressed = first & BIT_RSV1,
        .fin = first & BIT_FIN};
    return 0;
}

static struct ws_result error(unsigned code)
{
    return (struct ws_result){.event = WS_EVENT_ERROR, .code = (uint16_t)code};
}

/* Moves the bytes that have not been looked at, from `at` on, up to the message. */
static struct ws_result more(struct ws *ws, char *p, size_t n, size_t at)
{
    if (at > ws->message && at < n)
        memmove(p + ws->message, p + at, n - at);
    ws->gap = ws->looked = 0;
    return (struct ws_result){.event = WS_EVENT_MORE, .kept = ws->message + (n - at)};
}

static struct ws_result control_frame(const struct head *head, struct span payload, size_t kept)
{
    struct ws_result result = {
        .event = WS_EVENT_CONTROL, .opcode = head->opcode, .payload = payload, .kept = kept};
    if (head->opcode != WS_CLOSE)
        return result;
    result.code = WS_CODE_NONE;
    if (payload.n == 0)
        return result;
    /* RFC 6455 section 5.5.1 */
    result.code = (uint16_t)read_big_endian(payload.p, CODE_SIZE);
    result.payload = (struct span){payload.p + CODE_SIZE, payload.n - CODE_SIZE};
    if (!close_code_valid(result.code) || !utf8_valid(result.payload.p, result.payload.n))
        return error(WS_CODE_PROTOCOL_ERROR);
    return result;
}

/*
 * The excess is what heads of fragments have beyond the payload of their fragments; fragments with
 * more payload than head reduce it. The last frame of a message does not count: there is only one.
 */
static bool count_head(struct ws *ws, const struct head *head, const struct ws_limits *limits)
{
    if (LIKELY(head->fin))
        return true;
    const uint64_t excess = (uint64_t)ws->excess + head->size;
    ws->excess = excess > head->payload ? (uint32_t)(excess - head->payload) : 0;
    return ws->excess <= MAX(limits->message, (uint32_t)EXCESS_FREE);
}

struct ws_result ws_feed(struct ws *ws, char *p, size_t n, const struct ws_limits *limits,
    char control[static WS_CONTROL_MAX])
{
    size_t at = (size_t)ws->message + ws->gap; /* the first byte that has not been looked at */
    CHECK(at <= n);
    for (;;) {
        if (!ws->in_frame) {
            struct head head;
            const unsigned r = read_head(ws, p + at, n - at, limits, &head);
            if (r == HEAD_MORE)
                return more(ws, p, n, at);
            if (r != 0)
                return error(r);
            memcpy(ws->mask, p + at + head.size - MASK_SIZE, MASK_SIZE);
            if (head.opcode & BIT_CONTROL) {
                if (n - at - head.size < head.payload)
                    return more(ws, p, n, at);
                unmask_to(control, p + at + head.size, head.payload, ws->mask);
                at += head.size + head.payload;
                CHECK(at - ws->message <= UINT32_MAX);
                ws->gap = (uint32_t)(at - ws->message);
                return control_frame(&head, (struct span){control, head.payload}, n);
            }
            if (!count_head(ws, &head, limits))
                return error(WS_CODE_TOO_BIG);
            at += head.size;
            if (head.opcode != WS_CONTINUATION) {
                ws->opcode = head.opcode & BITS_OPCODE;
                ws->compressed = head.compressed;
            }
            ws->left = head.payload;
            ws->fin = head.fin;
            ws->in_frame = true;
        }

        /* A message whose only frame is complete stays where it is. */
        const uint32_t part = (uint32_t)MIN(ws->left, n - at);
        char *message = p;
        if (ws->message == 0 && ws->fin && part == ws->left)
            message += at;
        char *to = message + ws->message;
        unmask_to(to, p + at, part, ws->mask);
        if (ws->opcode == WS_TEXT && !ws->compressed) {
            ws->utf8 = utf8_feed(ws->utf8, to, part);
            if (ws->utf8 == UTF8_BAD)
                return error(WS_CODE_BAD_DATA);
        }
        at += part;
        ws->message += part;
        ws->left -= part;
        if (ws->left > 0)
            return more(ws, p, n, at);
        ws->in_frame = false;
        if (!ws->fin)
            continue;
        if (ws->utf8 != UTF8_WHOLE)
            return error(WS_CODE_BAD_DATA);
        const struct ws_result result = {
            .event = WS_EVENT_MESSAGE,
            .opcode = ws->opcode,
            .compressed = ws->compressed,
            .payload = {message, ws->message},
            .used = at,
        };
        *ws = (struct ws){.looked = ws->looked > at ? (uint32_t)(ws->looked - at) : 0};
        return result;
    }
}

/*
 * Reads the next head behind a message that may not be started yet; its frame may belong to
 * another message.
 */
static unsigned read_head_ahead(
    const char *p, size_t n, const struct ws_limits *limits, struct head *ret_head)
{
    const bool continues = n > 0 && ((unsigned char)p[0] & BITS_OPCODE) == WS_CONTINUATION;
    const struct ws any = {.opcode = continues ? WS_TEXT : 0};
    return read_head(&any, p, n, limits, ret_head);
}

struct ws_result ws_ahead(struct ws *ws, char *p, size_t n, const struct ws_limits *limits,
    unsigned opcodes, size_t *hole, char control[static WS_CONTROL_MAX])
{
    struct ws_result result = {.event = WS_EVENT_MORE};
    struct head head;
    /* `at`: the bytes before it stay as they are; then come the hole, and the bytes that have not
     * been looked at. */
    size_t at = MAX((size_t)ws->looked, (size_t)ws->message + ws->gap + ws->left);
    while (at < n - *hole && read_head_ahead(p + at + *hole, n - *hole - at, limits, &head) == 0) {
        char *frame = p + at + *hole;
        const size_t size = head.size + (size_t)head.payload;
        const size_t there = MIN(size, n - *hole - at);
        if (!(head.opcode & BIT_CONTROL)) {
            if (at > UINT32_MAX - size)
                break;
            if (*hole > 0)
                memmove(p + at, frame, there);
            at += size;
            continue;
        }
        if (there < size || !(opcodes >> head.opcode & 1))
            break;
        result.event = WS_EVENT_CONTROL;
        result.opcode = head.opcode;
        if (head.opcode == WS_CLOSE)
            break;
        uint8_t mask[MASK_SIZE];
        memcpy(mask, frame + head.size - MASK_SIZE, MASK_SIZE);
        unmask_to(control, frame + head.size, head.payload, mask);
        result.payload = (struct span){control, head.payload};
        *hole += size;
        ws->looked = (uint32_t)at;
        return result;
    }
    if (*hole > 0 && at < n - *hole)
        memmove(p + at, p + at + *hole, n - *hole - at);
    ws->looked = (uint32_t)at;
    result.kept = n - *hole;
    *hole = 0;
    return result;
}

size_t ws_head_write(uint8_t out[static WS_HEAD_MAX], enum ws_opcode opcode, uint64_t payload)
{
    out[0] = (uint8_t)(BIT_FIN | opcode);
    if (payload < LENGTH_16) {
        out[1] = (uint8_t)payload;
        return 2;
    }
    const size_t length_size = payload <= 0xffff ? 2 : 8;
    out[1] = length_size == 2 ? LENGTH_16 : LENGTH_64;
    for (size_t i = 0; i < length_size; i++)
        out[2 + i] = (uint8_t)(payload >> 8 * (length_size - 1 - i));
    return 2 + length_size;
}

void ws_head_set_compressed(uint8_t out[static WS_HEAD_MAX])
{
    out[0] |= BIT_RSV1;
}

size_t ws_close_write(uint8_t out[static 2 + WS_CONTROL_MAX], unsigned code, struct span reason)
{
    if (code == WS_CODE_NONE)
        return ws_head_write(out, WS_CLOSE, 0);
    CHECK(close_code_valid(code));
    size_t n = reason.n;
    if (n > WS_CONTROL_MAX - CODE_SIZE) {
        /* back to the first byte of a character that would be cut */
        n = WS_CONTROL_MAX - CODE_SIZE;
        while (n > 0 && ((unsigned char)reason.p[n] & 0xc0) == 0x80)
            n--;
    }
    size_t at = ws_head_write(out, WS_CLOSE, CODE_SIZE + n);
    out[at++] = (uint8_t)(code >> 8);
    out[at++] = (uint8_t)code;
    if (n > 0)
        memcpy(out + at, reason.p, n);
    return at + n;
}

unsigned ws_save_version(const struct ws *ws)
{
    if (ws->compressed)
        return WS_SAVED_COMPRESSED;
    return ws->excess == 0 ? WS_SAVED : WS_SAVED_EXCESS;
}

void ws_save(const struct ws *ws, struct pack *pack)
{
    pack_u32(pack, ws->left);
    pack_u32(pack, ws->message);
    pack_u32(pack, ws->gap);
    pack_raw(pack, ws->mask, MASK_SIZE);
    pack_u8(pack, ws->utf8);
    pack_u8(pack, ws->opcode);
    pack_u8(pack, ws->in_frame);
    pack_u8(pack, ws->fin);
    if (ws_save_version(ws) >= WS_SAVED_EXCESS)
        pack_u32(pack, ws->excess);
    if (ws->compressed)
        pack_u8(pack, 1);
}

int ws_restore(struct ws *ret_ws, struct unpack *unpack, unsigned version, struct span bytes)
{
    struct ws ws = {0};
    ws.left = unpack_u32(unpack);
    ws.message = unpack_u32(unpack);
    ws.gap = unpack_u32(unpack);
    unpack_raw(unpack, ws.mask, MASK_SIZE);
    ws.utf8 = unpack_u8(unpack);
    const uint8_t opcode = unpack_u8(unpack);
    ws.opcode = opcode & BITS_OPCODE;
    ws.in_frame = unpack_flag(unpack);
    ws.fin = unpack_flag(unpack);
    if (version >= WS_SAVED_EXCESS)
        ws.excess = unpack_u32(unpack);
    if (version >= WS_SAVED_COMPRESSED)
        ws.compressed = unpack_flag(unpack);
    if (version != ws_save_version(&ws) || opcode != ws.opcode ||
        (ws.opcode == 0 && (ws.excess > 0 || ws.compressed)))
        return -EBADMSG;
    if (unpack->bad || ws.opcode > WS_BINARY || (ws.opcode == 0 && (ws.message > 0 || ws.in_frame)))
        return -EBADMSG;
    /* Within a frame, payload is to come, and no control frame can have left a gap. */
    if (ws.in_frame ? ws.left == 0 || ws.gap > 0 : ws.left > 0 || ws.fin)
        return -EBADMSG;
    if (ws.message > bytes.n || ws.gap > bytes.n - ws.message || ws.left > UINT32_MAX - ws.message)
        return -EBADMSG;
    uint8_t utf8 = ws.opcode == WS_TEXT && !ws.compressed
                       ? utf8_feed(UTF8_WHOLE, bytes.p, ws.message)
                       : UTF8_WHOLE;
    if (ws.utf8 != utf8 || utf8 == UTF8_BAD)
        return -EBADMSG;
    *ret_ws = ws;
    return 0;
}
