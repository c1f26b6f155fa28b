#include "frontd/codec/ws_deflate.h"

#include <errno.h>
#include <string.h>
#include <zlib.h>

#include "frontd/codec/http1_scan.h"
#include "frontd/codec/zlib_memory.h"

/* What ends each message, and is not sent: RFC 7692 section 7.2.1 */
static const unsigned char tail[4] = {0x00, 0x00, 0xff, 0xff};

enum {
    LEVEL = 1, /* of compression: what higher ones gain for messages is little, their cost is not */
    MEMORY = 6,  /* of the hash table, which is zeroed for each message: 16 KiB */
    FINALS = 16, /* final blocks of a message: each may cost a copy of the window */
};

/* Negotiation */

struct offer {
    unsigned bits; /* server_max_window_bits; 0: not said */
    bool seen_client_bits, seen_server_takeover, seen_client_takeover;
};

/* Takes what is before the next `;` off the front of *rest, without white space around it. */
static struct span next_part(struct span *rest)
{
    const char *end = memchr(rest->p, ';', rest->n);
    struct span part = {rest->p, end == NULL ? rest->n : (size_t)(end - rest->p)};
    size_t used = part.n + (end != NULL);
    *rest = (struct span){rest->p + used, rest->n - used};
    while (part.n > 0 && (part.p[0] == ' ' || part.p[0] == '\t'))
        part = (struct span){part.p + 1, part.n - 1};
    while (part.n > 0 && (part.p[part.n - 1] == ' ' || part.p[part.n - 1] == '\t'))
        part.n--;
    return part;
}

/* RFC 7692 section 7.1.2: 8 to 15, without leading zeros; 0: something else. The value may be
 * quoted (RFC 6455 section 9.1). */
static unsigned window_bits(struct span value)
{
    if (value.n >= 2 && value.p[0] == '"' && value.p[value.n - 1] == '"')
        value = (struct span){value.p + 1, value.n - 2};
    if (value.n == 1 && (value.p[0] == '8' || value.p[0] == '9'))
        return (unsigned)(value.p[0] - '0');
    if (value.n == 2 && value.p[0] == '1' && value.p[1] >= '0' && value.p[1] <= '5')
        return 10 + (unsigned)(value.p[1] - '0');
    return 0;
}

/* Reads one parameter. Returns whether the offer can still be accepted. */
static bool read_parameter(struct span text, struct offer *offer)
{
    const char *equals = memchr(text.p, '=', text.n);
    struct span name = {text.p, equals == NULL ? text.n : (size_t)(equals - text.p)};
    struct span value = {0};
    if (equals != NULL)
        value = (struct span){equals + 1, text.n - name.n - 1};
    bool *seen;
    if (same_name(name, SPAN("server_no_context_takeover"))) {
        seen = &offer->seen_server_takeover;
    } else if (same_name(name, SPAN("client_no_context_takeover"))) {
        seen = &offer->seen_client_takeover;
    } else if (same_name(name, SPAN("client_max_window_bits"))) {
        if (offer->seen_client_bits || (equals != NULL && window_bits(value) == 0))
            return false;
        offer->seen_client_bits = true;
        return true;
    } else if (same_name(name, SPAN("server_max_window_bits"))) {
        if (offer->bits != 0)
            return false;
        offer->bits = window_bits(value);
        return offer->bits >= WS_DEFLATE_BITS_MIN;
    } else {
        return false;
    }
    if (*seen || equals != NULL)
        return false;
    *seen = true;
    return true;
}

/* One offer: the name of an extension and its parameters. */
static struct ws_deflate read_offer(struct span text)
{
    struct offer offer = {0};
    if (!same_name(next_part(&text), SPAN("permessage-deflate")))
        return (struct ws_deflate){0};
    while (text.n > 0)
        if (!read_parameter(next_part(&text), &offer))
            return (struct ws_deflate){0};
    return (struct ws_deflate){
        .bits = (uint8_t)(offer.bits == 0 ? WS_DEFLATE_BITS_MAX : offer.bits),
        .told = offer.bits != 0,
    };
}

/* Takes the next offer off the front of *list. A comma in a quoted string, which a parameter of
 * another extension may have (RFC 6455 section 9.1), does not end it. */
static bool next_offer(struct span *list, struct span *ret_offer)
{
    const char *p = list->p, *end = list->p + list->n;
    if (p == end)
        return false;
    while (p < end && *p != ',') {
        const char *after = *p == '"' ? skip_quoted(p, end) : p + 1;
        p = after == NULL ? end : after; /* a string without an end */
    }
    *ret_offer = span_of(list->p, p);
    *list = span_of(p < end ? p + 1 : end, end);
    return true;
}

struct ws_deflate ws_deflate_choose(const struct http_head *head)
{
    for (size_t i = 0; i < head->nfields; i++) {
        struct span list = head->fields[i].value, offer;
        if (!same_name(head->fields[i].name, SPAN("sec-websocket-extensions")))
            continue;
        while (next_offer(&list, &offer)) {
            const struct ws_deflate chosen = read_offer(offer);
            if (chosen.bits != 0)
                return chosen;
        }
    }
    return (struct ws_deflate){0};
}

size_t ws_deflate_field(struct ws_deflate agreed, char out[static WS_DEFLATE_FIELD])
{
    out[0] = '\0';
    if (agreed.bits == 0)
        return 0;
    char bits[32] = "";
    if (agreed.told)
        snprintf(bits, sizeof(bits), "; server_max_window_bits=%u", agreed.bits);
    int n = snprintf(out, WS_DEFLATE_FIELD,
        "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; "
        "client_no_context_takeover%s\r\n",
        bits);
    CHECK(n > 0 && n < WS_DEFLATE_FIELD);
    return (size_t)n;
}

/* Messages */

static z_stream *inflater(struct deflater *deflater)
{
    if (deflater->inflate != NULL)
        return inflateReset(deflater->inflate) == Z_OK ? deflater->inflate : NULL;
    z_stream *stream = zlib_stream_new();
    if (stream == NULL || inflateInit2(stream, -WS_DEFLATE_BITS_MAX) != Z_OK) {
        coding_give(stream);
        return NULL;
    }
    deflater->inflate = stream;
    return stream;
}

static z_stream *compressor(struct deflater *deflater, unsigned bits)
{
    CHECK(bits >= WS_DEFLATE_BITS_MIN && bits <= WS_DEFLATE_BITS_MAX);
    z_stream **slot = &deflater->deflate[bits];
    if (*slot != NULL)
        return deflateReset(*slot) == Z_OK ? *slot : NULL;
    z_stream *stream = zlib_stream_new();
    if (stream == NULL ||
        deflateInit2(stream, LEVEL, Z_DEFLATED, -(int)bits, MEMORY, Z_DEFAULT_STRATEGY) != Z_OK) {
        coding_give(stream);
        return NULL;
    }
    *slot = stream;
    return stream;
}

void deflater_deinit(struct deflater *deflater)
{
    if (deflater->inflate != NULL)
        inflateEnd(deflater->inflate);
    coding_give(deflater->inflate);
    for (unsigned bits = 0; bits < ARRAY_LEN(deflater->deflate); bits++) {
        if (deflater->deflate[bits] != NULL)
            deflateEnd(deflater->deflate[bits]);
        coding_give(deflater->deflate[bits]);
    }
    *deflater = (struct deflater){0};
}

/*
 * Goes on behind a final block, which may stand anywhere in a message (RFC 7692 section 7.2.3.4):
 * what follows may refer to the bytes before it, up to the size of the window.
 */
static bool go_on_behind_final(z_stream *stream, const struct buf *out)
{
    const size_t n = MIN(buf_len(out), (size_t)1 << WS_DEFLATE_BITS_MAX);
    unsigned char *next_in = stream->next_in;
    const unsigned avail_in = stream->avail_in;
    if (inflateReset(stream) != Z_OK)
        return false;
    stream->next_in = next_in;
    stream->avail_in = avail_in;
    return n == 0 || inflateSetDictionary(stream, zlib_readable(buf_data(out) + buf_len(out) - n),
                         (unsigned)n) == Z_OK;
}

/*
 * Inflates `n` bytes behind those that are in `out`. Returns 0, -EBADMSG, -EMSGSIZE where more than
 * `limit` bytes come, or -ENOMEM.
 */
static int inflate_part(z_stream *stream, const void *p, size_t n, size_t limit, struct buf *out)
{
    stream->next_in = zlib_readable(p);
    stream->avail_in = (unsigned)n;
    for (unsigned finals = 0;;) {
        int r;
        const int failed = zlib_inflate_some(stream, Z_SYNC_FLUSH, limit, out, &r);
        if (failed < 0)
            return failed;
        if (r == Z_STREAM_END) {
            if (++finals > FINALS || !go_on_behind_final(stream, out))
                return -EBADMSG;
            if (stream->avail_in == 0)
                return 0;
            continue;
        }
        if (r != Z_OK && r != Z_BUF_ERROR)
            return -EBADMSG;
        if (stream->avail_in == 0 && stream->avail_out > 0)
            return 0;
    }
}

/* zlib: between blocks, and no bit of the last byte is left over. */
static bool at_border(const z_stream *stream)
{
    return (stream->data_type & 128) != 0 && (stream->data_type & 63) == 0;
}

int ws_inflate(struct deflater *deflater, struct span payload, size_t limit, struct buf *out)
{
    z_stream *stream = inflater(deflater);
    buf_truncate(out, 0);
    if (stream == NULL)
        return -ENOMEM;
    CHECK(payload.n <= UINT32_MAX && limit < UINT32_MAX);
    const size_t ratio = MAX(payload.n * WS_DEFLATE_RATIO, (size_t)WS_DEFLATE_FREE);
    limit = MIN(limit, ratio);
    int r = inflate_part(stream, payload.p, payload.n, limit, out);
    if (r == 0)
        r = inflate_part(stream, tail, sizeof(tail), limit, out);
    return r == 0 && !at_border(stream) ? -EBADMSG : r;
}

bool ws_deflate(struct deflater *deflater, unsigned bits, struct span payload, struct buf *out)
{
    z_stream *stream = compressor(deflater, bits);
    buf_truncate(out, 0);
    CHECK(payload.n <= UINT32_MAX - sizeof(tail));
    char *room = stream == NULL ? NULL : buf_room(out, payload.n + sizeof(tail));
    if (room == NULL)
        return false;
    stream->next_in = zlib_readable(payload.p);
    stream->avail_in = (unsigned)payload.n;
    stream->next_out = (unsigned char *)room;
    stream->avail_out = (unsigned)(payload.n + sizeof(tail));
    /* Where there is room left all has been written, ends with the tail, and is smaller without it
     * than the message. */
    if (deflate(stream, Z_SYNC_FLUSH) != Z_OK || stream->avail_in > 0 || stream->avail_out == 0)
        return false;
    const size_t n = payload.n + sizeof(tail) - stream->avail_out;
    CHECK(n >= sizeof(tail) && memcmp(room + n - sizeof(tail), tail, sizeof(tail)) == 0);
    buf_added(out, n - sizeof(tail));
    return true;
}
