/*
 * The first byte chooses: the rest is a body that is compressed whole, or in parts, and read back
 * by other libraries' decoders; or the header fields of an answer that gets a coding.
 */

#include <string.h>

#include "common/alloc.h"
#include "frontd/codec/coded_answer.h"
#include "frontd/codec/compress.h"
#include "tests/unit/support/decoded.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *back;
static struct compress_store store;

static void expect_back(enum content_coding coding, struct span body, const struct buf *out)
{
    const struct span coded = {buf_data(out), buf_len(out)};
    CHECK(decoded(coding, coded, back, body.n + 1) == (long)body.n);
    CHECK(body.n == 0 || memcmp(back, body.p, body.n) == 0);
}

static void check_whole(enum content_coding coding, unsigned level, struct span body)
{
    struct buf out = {0};
    if (compress_whole(&store, coding, level, body, &out)) {
        CHECK(buf_len(&out) < body.n);
        expect_back(coding, body, &out);
    }
    buf_deinit(&out);
}

/* Each part ends at a byte that says what is to become of it. */
static void check_parts(unsigned level, struct span body)
{
    struct compressor compressor = {0};
    struct buf out = {0};
    size_t from = 0;
    CHECK(compressor_open(&compressor, level) == 0);
    for (size_t i = 0; i < body.n; i++) {
        if (body.p[i] != 'F' && body.p[i] != 'G')
            continue;
        const struct span part = {body.p + from, i - from};
        const bool flush = body.p[i] == 'F';
        CHECK(compressor_feed(&compressor, part, flush ? COMPRESS_FLUSH : COMPRESS_GATHER, &out) ==
              0);
        from = i;
        const struct span so_far = {buf_data(&out), buf_len(&out)};
        CHECK(!flush || decoded_so_far(so_far, back, body.n + 1) == from);
    }
    const struct span rest = {body.p + from, body.n - from};
    CHECK(compressor_feed(&compressor, rest, COMPRESS_FINISH, &out) == 0);
    expect_back(CODING_GZIP, body, &out);
    compressor_close(&compressor);
    buf_deinit(&out);
}

/* What is written once is left as it is the next time: it has its Vary, and its ETag is weak. */
static void check_fields(struct span fields)
{
    struct buf once = {0}, twice = {0};
    (void)coded_answer_look(fields);
    CHECK(coded_answer_write(fields, CODING_BR, false, &once) == 0);
    const struct span written = {buf_data(&once), buf_len(&once)};
    CHECK(coded_answer_write(written, CODING_BR, false, &twice) == 0);
    CHECK(buf_len(&once) == buf_len(&twice) &&
          memcmp(buf_data(&once), buf_data(&twice), buf_len(&once)) == 0);
    CHECK(coded_answer_write(written, CODING_GZIP, true, &once) == 0);
    CHECK(coded_answer_look((struct span){buf_data(&once), buf_len(&once)}).fixed);
    buf_deinit(&once);
    buf_deinit(&twice);
}

/* As header fields come from routes/http.c: each with a colon and a CRLF, no other CR. */
static bool are_lines(struct span text)
{
    const char *p = text.p, *end = text.p + text.n;
    while (p < end) {
        const char *cr = memchr(p, '\r', (size_t)(end - p));
        if (cr == NULL || cr + 1 == end || cr[1] != '\n' ||
            memchr(p, ':', (size_t)(cr - p)) == NULL || *p == ':')
            return false;
        p = cr + 2;
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > 1 << 16)
        return 0;
    const size_t n = size - 1;
    char *copy = malloc(n + 1);
    back = malloc(n + 1);
    CHECK(copy != NULL && back != NULL);
    memcpy(copy, data + 1, n);
    const struct span body = {copy, n};
    const unsigned level = data[0] / 4;
    switch (data[0] % 4) {
    case 0: check_whole(CODING_GZIP, 1 + level % COMPRESS_GZIP_MAX, body); break;
    case 1: check_whole(CODING_BR, level % (COMPRESS_BR_MAX + 1), body); break;
    case 2: check_parts(1 + level % COMPRESS_GZIP_MAX, body); break;
    default:
        if (are_lines(body))
            check_fields(body);
        break;
    }
    free(copy);
    free(back);
    return 0;
}
