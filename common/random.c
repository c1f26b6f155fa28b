#include "common/random.h"

#include <sys/random.h>

void random_bytes(void *out, size_t n)
{
    CHECK(getrandom(out, n, 0) == (ssize_t)n);
}

void random_hex(char *out, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    random_bytes(out + n, n); /* each is read before its place is written */
    for (size_t i = 0; i < n; i++) {
        uint8_t byte = (uint8_t)out[n + i];
        out[2 * i] = digits[byte >> 4];
        out[2 * i + 1] = digits[byte & 15];
    }
    out[2 * n] = '\0';
}
