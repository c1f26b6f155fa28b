/* JSON for handlers: the public face of proto's scanner, and of what reads and writes values. */

#include <errno.h>
#include <math.h>
#include <string.h>

#include "common/alloc.h"
#include "proto/json_quote.h"
#include "proto/json_read.h"
#include "proto/json_scan.h"
#include "proto/jsonrpc.h"
#include "workerd/call.h"

enum {
    NUMBER_MAX = 1100, /* bytes: what a double can need, written out, and more */
};

static struct span to_span(struct workerd_text text)
{
    return (struct span){text.p, text.n};
}

struct workerd_text workerd_json_member(struct workerd_text object, const char *key)
{
    if (object.n == 0 || object.p[0] != '{')
        return (struct workerd_text){NULL, 0};
    return call_text(jsonrpc_member(to_span(object), (struct span){key, strlen(key)}));
}

bool workerd_json_next(struct workerd_text array, size_t *at, struct workerd_text *ret_value)
{
    struct span value;
    if (!json_read_next(to_span(array), at, &value))
        return false;
    *ret_value = call_text(value);
    return true;
}

int workerd_json_integer(struct workerd_text value, int64_t *ret_integer)
{
    return json_read_integer(to_span(value), ret_integer);
}

int workerd_json_double(struct workerd_text value, double *ret_number)
{
    char text[NUMBER_MAX];
    if (!json_is_number(to_span(value)))
        return -EINVAL;
    if (value.n >= sizeof(text))
        return -ERANGE;
    memcpy(text, value.p, value.n);
    text[value.n] = '\0';
    char *end;
    double number = strtod(text, &end);
    if (*end != '\0')
        return -EINVAL;
    if (!isfinite(number))
        return -ERANGE;
    *ret_number = number;
    return 0;
}

int workerd_json_string(struct workerd_text value, char *out, size_t size)
{
    if (value.n < 2 || value.p[0] != '"')
        return -EINVAL;
    struct span in = {value.p + 1, value.n - 2};
    if (in.n < size) {
        size_t n = json_scan_unescape(in, out);
        out[n] = '\0';
        return (int)n;
    }
    if (memchr(in.p, '\\', in.n) == NULL || in.n / JSON_QUOTE_FACTOR >= size)
        return -ENOSPC;
    /* It may still fit once its escapes are resolved. Not mem_get(): this may be any thread. */
    char *temporary = malloc(in.n);
    if (temporary == NULL)
        return -ENOMEM;
    size_t n = json_scan_unescape(in, temporary);
    if (n < size) {
        memcpy(out, temporary, n);
        out[n] = '\0';
    }
    free(temporary);
    return n < size ? (int)n : -ENOSPC;
}

int64_t workerd_json_quote(const char *text, size_t n, char *out, size_t size)
{
    if (size / JSON_QUOTE_FACTOR >= n && size - n * JSON_QUOTE_FACTOR >= 2)
        return (int64_t)json_quote_write(text, n, out);
    char *temporary = malloc(n * JSON_QUOTE_FACTOR + 2);
    if (temporary == NULL)
        return -ENOMEM;
    size_t length = json_quote_write(text, n, temporary);
    if (length <= size)
        memcpy(out, temporary, length);
    free(temporary);
    return length <= size ? (int64_t)length : -ENOSPC;
}
