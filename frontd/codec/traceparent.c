#include "frontd/codec/traceparent.h"

#include <string.h>

/* Where the members of a value begin. */
enum { TRACE_AT = 3, SPAN_AT = 36, FLAGS_AT = 53 };

/* The value of a hexadecimal digit in lower case; -1 for any other character. */
static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_hex(const char *p, uint8_t *ret, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int high = digit(p[2 * i]);
        int low = digit(p[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        ret[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool is_zero(const uint8_t *bytes, size_t n)
{
    uint8_t all = 0;
    for (size_t i = 0; i < n; i++)
        all |= bytes[i];
    return all == 0;
}

bool traceparent_read(struct span value, struct traceparent *ret)
{
    const char *p = value.p;
    struct traceparent read;
    uint8_t version;
    if (value.n < TRACEPARENT_SIZE || p[TRACE_AT - 1] != '-' || p[SPAN_AT - 1] != '-' ||
        p[FLAGS_AT - 1] != '-')
        return false;
    if (!read_hex(p, &version, 1) || !read_hex(p + TRACE_AT, read.trace, sizeof(read.trace)) ||
        !read_hex(p + SPAN_AT, read.span, sizeof(read.span)) ||
        !read_hex(p + FLAGS_AT, &read.flags, 1))
        return false;
    if (version == 0xff || (version == 0 && value.n > TRACEPARENT_SIZE) ||
        (value.n > TRACEPARENT_SIZE && p[TRACEPARENT_SIZE] != '-'))
        return false;
    if (is_zero(read.trace, sizeof(read.trace)) || is_zero(read.span, sizeof(read.span)))
        return false;
    read.flags &= TRACEPARENT_SAMPLED | TRACEPARENT_RANDOM;
    *ret = read;
    return true;
}

void traceparent_hex(const uint8_t *bytes, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        *out++ = digits[bytes[i] >> 4];
        *out++ = digits[bytes[i] & 15];
    }
}

void traceparent_write(const struct traceparent *of, char out[static TRACEPARENT_SIZE])
{
    memcpy(out, "00-", TRACE_AT);
    traceparent_hex(of->trace, sizeof(of->trace), out + TRACE_AT);
    out[SPAN_AT - 1] = '-';
    traceparent_hex(of->span, sizeof(of->span), out + SPAN_AT);
    out[FLAGS_AT - 1] = '-';
    traceparent_hex(&of->flags, 1, out + FLAGS_AT);
}

bool traceparent_drawn(const struct traceparent *of, uint64_t threshold)
{
    uint64_t random = 0;
    for (size_t i = sizeof(of->trace) - TRACEPARENT_RANDOMS / 8; i < sizeof(of->trace); i++)
        random = random << 8 | of->trace[i];
    return random >= threshold;
}
