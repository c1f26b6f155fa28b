#include "frontd/codec/http1_body.h"

#include <errno.h>

#include "frontd/codec/http1_scan.h"

/*
 * RFC 9112 section 7.1, byte by byte; only chunk data is taken as a whole. Each state is one place
 * in the grammar, so the result is the same wherever the input was split.
 */

enum state {
    SIZE_START, /* zero: before the first digit */
    SIZE,
    EXT_SPACE,   /* BWS, after which only ';' may come */
    EXT_START,   /* after ';': BWS chunk-ext-name */
    EXT_NAME,    /* in the name */
    EXT_EQUALS,  /* BWS after the name: '=' or ';' */
    VALUE_START, /* after '=': BWS token or quoted-string */
    VALUE,       /* in a token */
    QUOTED,
    QUOTED_PAIR,
    QUOTED_END,
    SIZE_LF,
    DATA,
    DATA_CR,
    DATA_LF,
    TRAILER_START, /* a field line, or the empty line at the end */
    TRAILER_NAME,
    TRAILER_VALUE,
    TRAILER_LF,
    END_LF,
    DONE,
    BAD, /* no byte leads out of it; never stored */
};

enum {
    /* A chunk of one byte may come with a size line of a thousand: a body within its limit could
     * then keep the decoder busy with a thousand times its size. So the bytes of size lines beyond
     * this number plus twice the chunk's data are added up as excess, which later data reduces,
     * and the excess is limited. */
    CHUNK_LINE_FREE = 16,
    CHUNK_LINES_MAX = 16 * 1024,
};

static bool add_digit(struct http1_chunked *state, char c)
{
    const unsigned digit = c <= '9' ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a') + 10;
    if (state->left > UINT64_MAX >> 4)
        return false;
    state->left = state->left << 4 | digit;
    return true;
}

/* After a name, a value or the size: only here may the line end. */
static enum state end_of_word(char c, enum state space)
{
    if (c == '\r')
        return SIZE_LF;
    if (c == ';')
        return EXT_START;
    return is_ows(c) ? space : BAD;
}

/* chunk-ext: RFC 9112 section 7.1.1 whose BWS a recipient has to take. */
static enum state step_extension(enum state state, char c)
{
    switch (state) {
    case EXT_SPACE: return is_ows(c) ? EXT_SPACE : c == ';' ? EXT_START : BAD;
    case EXT_START: return is_ows(c) ? EXT_START : http1_is(c, HTTP1_TOKEN) ? EXT_NAME : BAD;
    case EXT_NAME:
        if (http1_is(c, HTTP1_TOKEN))
            return EXT_NAME;
        return c == '=' ? VALUE_START : end_of_word(c, EXT_EQUALS);
    case EXT_EQUALS:
        if (is_ows(c))
            return EXT_EQUALS;
        return c == '=' ? VALUE_START : c == ';' ? EXT_START : BAD;
    case VALUE_START:
        if (is_ows(c))
            return VALUE_START;
        return c == '"' ? QUOTED : http1_is(c, HTTP1_TOKEN) ? VALUE : BAD;
    case VALUE: return http1_is(c, HTTP1_TOKEN) ? VALUE : end_of_word(c, EXT_SPACE);
    case QUOTED:
        if (c == '"')
            return QUOTED_END;
        return c == '\\' ? QUOTED_PAIR : http1_is(c, HTTP1_VALUE) ? QUOTED : BAD;
    case QUOTED_PAIR: return http1_is(c, HTTP1_VALUE) ? QUOTED : BAD;
    case QUOTED_END: return end_of_word(c, EXT_SPACE);
    default: return BAD;
    }
}

/* The size line has been read: `left` and `line` are of this chunk. */
static enum state start_chunk(struct http1_chunked *state)
{
    if (state->left == 0) {
        state->excess = 0; /* from here on it counts trailers */
        return TRAILER_START;
    }
    const uint64_t data = MIN(state->left, CHUNK_LINES_MAX);
    const uint64_t excused = CHUNK_LINE_FREE + 2 * data;
    const uint64_t excess = (uint64_t)state->excess + state->line;
    if (excess > excused + CHUNK_LINES_MAX)
        return BAD;
    state->excess = excess > excused ? (uint32_t)(excess - excused) : 0;
    return DATA;
}

static enum state step_size(struct http1_chunked *state, char c)
{
    if (state->state == SIZE_LF)
        return c == '\n' ? start_chunk(state) : BAD;
    if (state->state > SIZE)
        return step_extension(state->state, c);
    if (http1_is(c, HTTP1_HEXDIG))
        return add_digit(state, c) ? SIZE : BAD;
    return state->state == SIZE ? end_of_word(c, EXT_SPACE) : BAD;
}

/* Between chunks, and the trailer section: RFC 9112 section 7.1.2. */
static enum state step_rest(enum state state, char c)
{
    switch (state) {
    case DATA_CR: return c == '\r' ? DATA_LF : BAD;
    case DATA_LF: return c == '\n' ? SIZE_START : BAD;
    case TRAILER_START: return c == '\r' ? END_LF : http1_is(c, HTTP1_TOKEN) ? TRAILER_NAME : BAD;
    case TRAILER_NAME:
        return c == ':' ? TRAILER_VALUE : http1_is(c, HTTP1_TOKEN) ? TRAILER_NAME : BAD;
    case TRAILER_VALUE:
        return c == '\r' ? TRAILER_LF : http1_is(c, HTTP1_VALUE) ? TRAILER_VALUE : BAD;
    case TRAILER_LF: return c == '\n' ? TRAILER_START : BAD;
    case END_LF: return c == '\n' ? DONE : BAD;
    default: return BAD;
    }
}

static bool in_trailer(enum state state)
{
    return state >= TRAILER_START && state <= TRAILER_LF;
}

/* One byte that is not chunk data. Returns 0 or minus the status. */
static int step(struct http1_chunked *state, char c, uint32_t trailer_max)
{
    enum state next;
    if (state->state <= SIZE_LF) {
        if (state->line++ == HTTP1_CHUNK_LINE_MAX)
            return -400;
        next = step_size(state, c);
    } else {
        next = step_rest(state->state, c);
    }
    if (next == BAD)
        return -400;
    if (in_trailer(state->state) && next != END_LF && state->excess++ >= trailer_max)
        return -431;
    if (next == SIZE_START)
        state->line = 0;
    state->state = (uint8_t)next;
    return 0;
}

static struct span take_data(struct http1_chunked *state, const char *p, size_t n)
{
    const size_t size = (size_t)MIN(state->left, n);
    state->left -= size;
    if (state->left == 0)
        state->state = DATA_CR;
    return (struct span){p, size};
}

int http1_chunked_feed(struct http1_chunked *state, const char *p, size_t n, uint32_t trailer_max,
    size_t *ret_used, struct span *ret_data)
{
    size_t used = 0;
    while (used < n && state->state != DONE) {
        if (state->state == DATA) {
            *ret_data = take_data(state, p + used, n - used);
            *ret_used = used + ret_data->n;
            return HTTP1_BODY_DATA;
        }
        const int r = step(state, p[used++], trailer_max);
        if (r != 0)
            return r;
    }
    *ret_used = used;
    return state->state == DONE ? HTTP1_BODY_DONE : HTTP1_BODY_MORE;
}

uint64_t http1_chunked_left(const struct http1_chunked *state)
{
    return state->state == DATA ? state->left : 0;
}

void http1_chunked_save(const struct http1_chunked *state, struct pack *pack)
{
    pack_u64(pack, state->left);
    pack_u32(pack, state->excess);
    pack_u16(pack, state->line);
    pack_u8(pack, state->state);
}

int http1_chunked_restore(struct http1_chunked *ret_state, struct unpack *unpack)
{
    struct http1_chunked state = {0};
    state.left = unpack_u64(unpack);
    state.excess = unpack_u32(unpack);
    state.line = unpack_u16(unpack);
    state.state = unpack_u8(unpack);
    if (unpack->bad || state.state >= DONE || state.line > HTTP1_CHUNK_LINE_MAX ||
        (state.state < TRAILER_START && state.excess > CHUNK_LINES_MAX) ||
        (state.state == SIZE_START && (state.line > 0 || state.left > 0)) ||
        (state.state > DATA && state.left > 0) || (state.state == DATA && state.left == 0))
        return -EBADMSG;
    *ret_state = state;
    return 0;
}
