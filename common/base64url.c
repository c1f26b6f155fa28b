#include "common/base64url.h"

static int digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

bool base64url_decode(struct span text, void *out, size_t room, size_t *ret_n)
{
    unsigned char *to = out;
    uint32_t bits = 0;
    unsigned held = 0; /* of `bits`, those that are in no byte yet */
    size_t n = 0;
    if (text.n % 4 == 1 || text.n / 4 * 3 + (text.n % 4) * 3 / 4 > room)
        return false;
    for (size_t i = 0; i < text.n; i++) {
        int value = digit(text.p[i]);
        if (value < 0)
            return false;
        bits = bits << 6 | (uint32_t)value;
        held += 6;
        if (held >= 8) {
            held -= 8;
            to[n++] = (unsigned char)(bits >> held);
            bits &= (1U << held) - 1;
        }
    }
    *ret_n = n;
    return bits == 0;
}
