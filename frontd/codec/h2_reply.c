#include "frontd/codec/h2_reply.h"

#include <string.h>

#include "frontd/codec/h2_hpack.h"
#include "frontd/codec/http1.h"
#include "frontd/codec/http1_fields.h"
#include "frontd/codec/http1_scan.h"

/* Indices of the static table: RFC 7541 appendix A. */
enum {
    INDEX_STATUS = 8,
    INDEX_CONTENT_LENGTH = 28,
    INDEX_CONTENT_TYPE = 31,
    INDEX_DATE = 33,
    INDEX_SERVER = 54,
};

/* Statuses that the static table has. */
static const struct {
    unsigned status;
    uint8_t index;
} statuses[] = {{200, 8}, {204, 9}, {206, 10}, {304, 11}, {400, 12}, {404, 13}, {500, 14}};

/* Names of answers' fields that the static table has. */
static const struct {
    struct span name;
    uint8_t index;
} names[] = {
    {{"accept-ranges", 13}, 18},
    {{"access-control-allow-origin", 27}, 20},
    {{"age", 3}, 21},
    {{"allow", 5}, 22},
    {{"cache-control", 13}, 24},
    {{"content-disposition", 19}, 25},
    {{"content-encoding", 16}, 26},
    {{"content-language", 16}, 27},
    {{"content-location", 16}, 29},
    {{"content-range", 13}, 30},
    {{"content-type", 12}, 31},
    {{"etag", 4}, 34},
    {{"expires", 7}, 36},
    {{"last-modified", 13}, 44},
    {{"link", 4}, 45},
    {{"location", 8}, 46},
    {{"retry-after", 11}, 53},
    {{"set-cookie", 10}, 55},
    {{"strict-transport-security", 25}, 56},
    {{"vary", 4}, 59},
    {{"www-authenticate", 16}, 61},
};

enum {
    INDEXED = 0x80,    /* RFC 7541 section 6.1 */
    INDEXED_BITS = 7,  /* of its index */
    LITERAL = 0,       /* without indexing: section 6.2.2 */
    LITERAL_BITS = 4,  /* of its index */
    STRING_BITS = 7,   /* of a string's length */
    TABLE_NONE = 0x20, /* a size update to 0: section 6.3 */
    BASE_MAX = 192,    /* bytes of what every answer has, without its content type */
    PER_LINE = 16,     /* bytes that a field may become longer: its lengths and its index */
    LINE_MIN = 5,      /* bytes of the shortest line */
};

static uint8_t *put(uint8_t *out, const void *bytes, size_t n)
{
    memcpy(out, bytes, n);
    return out + n;
}

static uint8_t *put_string(uint8_t *out, struct span text)
{
    out += h2_hpack_write_integer(out, (uint32_t)text.n, STRING_BITS, 0);
    return text.n == 0 ? out : put(out, text.p, text.n);
}

/* A field whose name the static table has. */
static uint8_t *put_indexed(uint8_t *out, uint8_t index, struct span value)
{
    out += h2_hpack_write_integer(out, index, LITERAL_BITS, LITERAL);
    return put_string(out, value);
}

static uint8_t *put_number(uint8_t *out, uint8_t index, uint64_t number)
{
    char digits[20];
    size_t n = sizeof(digits);
    do {
        digits[--n] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    return put_indexed(out, index, (struct span){digits + n, sizeof(digits) - n});
}

static uint8_t *put_status(uint8_t *out, unsigned status)
{
    for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
        if (statuses[i].status == status) {
            *out++ = INDEXED | statuses[i].index;
            return out;
        }
    }
    return put_number(out, INDEX_STATUS, status);
}

static uint8_t index_of(struct span name)
{
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (same_name(name, names[i].name))
            return names[i].index;
    }
    return 0;
}

static uint8_t *put_field(uint8_t *out, struct span name, struct span value)
{
    uint8_t index = index_of(name);
    if (index != 0)
        return put_indexed(out, index, value);
    *out++ = LITERAL;
    out = put_string(out, name);
    for (size_t i = 0; i < name.n; i++)
        out[(ptrdiff_t)i - (ptrdiff_t)name.n] = (uint8_t)lower(name.p[i]);
    return put_string(out, value);
}

/* Lines of HTTP/1, as struct reply has them. */
static uint8_t *put_lines(uint8_t *out, struct span lines)
{
    if (lines.n == 0)
        return out;
    const char *p = lines.p, *end = lines.p + lines.n;
    while (p < end) {
        const char *colon = memchr(p, ':', (size_t)(end - p));
        const char *cr = colon == NULL ? NULL : memchr(colon, '\r', (size_t)(end - colon));
        if (cr == NULL)
            break;
        struct span name = span_of(p, colon);
        const char *value = skip_ows(colon + 1, cr), *last = cr;
        while (last > value && is_ows(last[-1]))
            last--;
        if (!http1_is_hop_by_hop(http1_known_name(name)))
            out = put_field(out, name, span_of(value, last));
        p = cr + 2;
    }
    return out;
}

static size_t block_room(const struct h2_reply *reply)
{
    size_t lines = reply->fields.n + reply->cors.n + reply->id.n;
    size_t type = reply->content_type == NULL ? 0 : strlen(reply->content_type);
    return BASE_MAX + type + lines + (lines / LINE_MIN + 1) * PER_LINE;
}

size_t h2_reply_room(const struct h2_reply *reply, uint32_t frame_max)
{
    size_t block = block_room(reply);
    return block + (block / frame_max + 1) * H2_HEAD_SIZE;
}

static uint8_t *put_block(uint8_t *out, const struct h2_reply *reply, const char *date)
{
    if (reply->tells_table)
        *out++ = TABLE_NONE;
    out = put_status(out, reply->status);
    out = put_indexed(out, INDEX_SERVER, SPAN("frontd"));
    out = put_indexed(out, INDEX_DATE, (struct span){date, HTTP1_DATE_SIZE - 1});
    if (reply->content_type != NULL)
        out = put_indexed(out, INDEX_CONTENT_TYPE,
            (struct span){reply->content_type, strlen(reply->content_type)});
    if (reply->fields.n > 0)
        out = put_lines(out, reply->fields);
    if (reply->cors.n > 0)
        out = put_lines(out, reply->cors);
    if (reply->id.n > 0)
        out = put_lines(out, reply->id);
    if (!reply->no_length)
        out = put_number(out, INDEX_CONTENT_LENGTH, reply->content_length);
    return out;
}

/* Makes a HEADERS frame and CONTINUATION frames of a block that stands behind the first one's head;
 * from the last to the first, since each moves up by the heads before it. */
static size_t write_frames(
    uint8_t *out, size_t block, uint32_t stream, uint32_t frame_max, uint8_t flags)
{
    size_t frames = block <= frame_max ? 1 : (block + frame_max - 1) / frame_max;
    for (size_t i = frames; i-- > 0;) {
        size_t at = i * frame_max;
        size_t n = MIN(block - at, (size_t)frame_max);
        uint8_t *head = out + at + i * H2_HEAD_SIZE;
        if (i > 0)
            memmove(head + H2_HEAD_SIZE, out + H2_HEAD_SIZE + at, n);
        uint8_t last = i == frames - 1 ? H2_FLAG_END_HEADERS : 0;
        h2_write_head(head, (uint32_t)n, i == 0 ? H2_HEADERS : H2_CONTINUATION,
            (uint8_t)(last | (i == 0 ? flags : 0)), stream);
    }
    return block + frames * H2_HEAD_SIZE;
}

size_t h2_reply_write(uint8_t *out, const struct h2_reply *reply, uint32_t stream,
    uint32_t frame_max, const char *date)
{
    uint8_t *end = put_block(out + H2_HEAD_SIZE, reply, date);
    size_t block = (size_t)(end - out) - H2_HEAD_SIZE;
    CHECK(block <= block_room(reply));
    return write_frames(out, block, stream, frame_max, reply->end_stream ? H2_FLAG_END_STREAM : 0);
}

size_t h2_continue_write(uint8_t out[static H2_CONTINUE_SIZE], uint32_t stream)
{
    uint8_t *end = put_status(out + H2_HEAD_SIZE, 100);
    CHECK(end == out + H2_CONTINUE_SIZE);
    h2_write_head(out, H2_CONTINUE_SIZE - H2_HEAD_SIZE, H2_HEADERS, H2_FLAG_END_HEADERS, stream);
    return H2_CONTINUE_SIZE;
}
