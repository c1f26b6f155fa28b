/*
 * The first byte chooses: the rest is a message to inflate, compared with zlib's own reading of it
 * with the tail in one piece; a message to compress and inflate again; or the head of a handshake's
 * extensions.
 */

#include <errno.h>
#include <string.h>
#include <zlib.h>

#include "frontd/codec/ws_deflate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct deflater deflater;

/* With zlib alone, where no final block is in it: its bytes, or -1. */
static long inflate_plainly(const char *p, size_t n, char *out, size_t size, bool *ret_final)
{
    z_stream stream = {0};
    char *all = malloc(n + 4);
    CHECK(all != NULL && inflateInit2(&stream, -WS_DEFLATE_BITS_MAX) == Z_OK);
    memcpy(all, p, n);
    memcpy(all + n, "\0\0\xff\xff", 4);
    stream.next_in = (unsigned char *)all;
    stream.avail_in = (unsigned)n + 4;
    stream.next_out = (unsigned char *)out;
    stream.avail_out = (unsigned)size;
    const int r = inflate(&stream, Z_SYNC_FLUSH);
    *ret_final = r == Z_STREAM_END;
    const bool whole = r == Z_OK && stream.avail_in == 0 && (stream.data_type & 191) == 128;
    inflateEnd(&stream);
    free(all);
    return whole ? (long)(size - stream.avail_out) : -1;
}

static void check_message(const char *p, size_t n)
{
    enum { LIMIT = 1 << 16 };
    static char expected[LIMIT + 1];
    struct buf out = {0};
    bool final;
    const long want = inflate_plainly(p, n, expected, sizeof(expected), &final);
    const int r = ws_inflate(&deflater, (struct span){p, n}, LIMIT, &out);
    if (!final && want >= 0 && want <= LIMIT)
        CHECK(r == 0 && buf_len(&out) == (size_t)want &&
              (want == 0 || memcmp(buf_data(&out), expected, (size_t)want) == 0));
    if (!final && want < 0)
        CHECK(r == -EBADMSG || r == -EMSGSIZE);
    CHECK(buf_len(&out) <= LIMIT + 1);
    buf_deinit(&out);
}

static void check_back(unsigned bits, const char *p, size_t n)
{
    struct buf packed = {0}, out = {0};
    if (ws_deflate(&deflater, bits, (struct span){p, n}, &packed)) {
        const struct span payload = {buf_data(&packed), buf_len(&packed)};
        const int r = ws_inflate(&deflater, payload, n, &out);
        CHECK(payload.n < n);
        CHECK(r == 0 && buf_len(&out) == n && memcmp(buf_data(&out), p, n) == 0);
    }
    buf_deinit(&packed);
    buf_deinit(&out);
}

static void check_offer(const char *p, size_t n)
{
    static struct http_head head;
    char text[WS_DEFLATE_FIELD];
    head.nfields = 1;
    head.fields[0] = (struct http_field){.name = SPAN("sec-websocket-extensions"), .value = {p, n}};
    const struct ws_deflate chosen = ws_deflate_choose(&head);
    CHECK(chosen.bits == 0 ||
          (chosen.bits >= WS_DEFLATE_BITS_MIN && chosen.bits <= WS_DEFLATE_BITS_MAX));
    CHECK((ws_deflate_field(chosen, text) > 0) == (chosen.bits > 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    char *copy = malloc(size); /* ends where the input ends */
    CHECK(copy != NULL);
    memcpy(copy, data + 1, size - 1);
    const unsigned bits = WS_DEFLATE_BITS_MIN + data[0] / 4 % 7;
    switch (data[0] % 4) {
    case 0:
        /* as a field's value comes: no control characters, no white space around it */
        if (size > 1 && copy[0] > ' ' && copy[size - 2] > ' ')
            check_offer(copy, size - 1);
        break;
    case 1: check_back(bits, copy, size - 1); break;
    default: check_message(copy, size - 1); break;
    }
    free(copy);
    return 0;
}
