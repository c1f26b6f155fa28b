#include "proto/json_read.h"

#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "proto/json_scan.h"

bool json_is_number(struct span value)
{
    return value.n > 0 && (value.p[0] == '-' || (value.p[0] >= '0' && value.p[0] <= '9'));
}

bool json_read_next(struct span array, size_t *at, struct span *ret_value)
{
    if (!json_is_array(array) || *at >= array.n)
        return false;
    const char *end = array.p + array.n;
    const char *p = json_scan_white(array.p + (*at == 0 ? 1 : *at), end);
    if (*at != 0 && p < end && *p == ',')
        p = json_scan_white(p + 1, end);
    if (p == end || *p == ']')
        return false;
    const char *after = json_scan_value(p, end, 1);
    if (after == NULL)
        return false;
    *ret_value = (struct span){p, (size_t)(after - p)};
    *at = (size_t)(after - array.p);
    return true;
}

int json_read_integer(struct span value, int64_t *ret_integer)
{
    if (!json_is_number(value))
        return -EINVAL;
    bool negative = value.p[0] == '-';
    /* Counted downwards, since there is one negative number more than positive ones. */
    int64_t integer = 0;
    bool fits = true;
    for (size_t i = negative; i < value.n; i++) {
        if (value.p[i] < '0' || value.p[i] > '9')
            return -EINVAL;
        fits = fits && !__builtin_mul_overflow(integer, 10, &integer) &&
               !__builtin_sub_overflow(integer, value.p[i] - '0', &integer);
    }
    if (!fits || (!negative && integer == INT64_MIN))
        return -ERANGE;
    *ret_integer = negative ? integer : -integer;
    return 0;
}

int json_read_string(struct span value, char **ret_text)
{
    size_t n;
    return json_read_text(value, ret_text, &n);
}

int json_read_text(struct span value, char **ret_text, size_t *ret_n)
{
    if (!json_is_string(value))
        return -EINVAL;
    struct span in = {value.p + 1, value.n - 2};
    char *text = mem_zalloc(in.n + 1);
    if (text == NULL)
        return -ENOMEM;
    *ret_n = json_scan_unescape(in, text);
    *ret_text = text;
    return 0;
}

struct span json_read_member(struct span object, const char *key)
{
    const struct span keys[] = {{key, strlen(key)}};
    struct span found = {NULL, 0};
    if (object.n > 0 && object.p[0] == '{')
        json_scan_object(object.p, object.p + object.n, 0, keys, 1, &found);
    return found;
}

uint64_t json_read_number(struct span value, uint64_t max, uint64_t fallback)
{
    uint64_t number = 0;
    if (value.n == 0)
        return fallback;
    for (size_t i = 0; i < value.n; i++) {
        if (value.p[i] < '0' || value.p[i] > '9' || __builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, (uint64_t)(value.p[i] - '0'), &number))
            return fallback;
    }
    return number <= max ? number : fallback;
}

size_t json_read_count(struct span array)
{
    struct span value;
    size_t n = 0;
    for (size_t at = 0; json_read_next(array, &at, &value);)
        n++;
    return n;
}

bool json_read_plain(struct span value, char *out, size_t size)
{
    bool right = json_is_string(value) && value.n - 2 < size &&
                 memchr(value.p, '\\', value.n) == NULL;
    size_t n = right ? value.n - 2 : 0;
    if (n > 0)
        memcpy(out, value.p + 1, n);
    out[n] = '\0';
    return right;
}

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

size_t json_read_bytes(struct span value, void *out, size_t size)
{
    unsigned char *to = out;
    if (!json_is_string(value) || value.n % 2 != 0 || (value.n - 2) / 2 > size)
        return 0;
    size_t n = (value.n - 2) / 2;
    for (size_t i = 0; i < n; i++) {
        int high = digit(value.p[1 + 2 * i]);
        int low = digit(value.p[2 + 2 * i]);
        if (high < 0 || low < 0)
            return 0;
        to[i] = (unsigned char)(high << 4 | low);
    }
    return n;
}
