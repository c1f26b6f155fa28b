/* The input: how to split what follows, then a request whose body is taken in parts. */

#include <string.h>

#include "frontd/codec/http1.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct http1_limits limits = {.head_bytes = 512, .fields = 8};

/*
 * Takes the body behind a head of `head_n` bytes in parts of at most `room` bytes, of which `step`
 * come at a time. Returns the status of what is wrong with it, 0 with all of it, or 1: more is to
 * come. *ret_n: bytes of the body, at ret_body. *ret_used: bytes of the input.
 */
static unsigned take(const uint8_t *data, size_t size, size_t step, size_t room, char *ret_body,
    size_t *ret_n, size_t *ret_used)
{
    static struct http1_head head;
    const struct http1_config config = {limits, 4, true};
    struct http1 http1 = {0};
    char *text = malloc(size + 1);
    CHECK(text != NULL);
    memcpy(text, data, size);
    struct http1_result result = http1_feed(&http1, text, size, &config, &head);
    *ret_n = *ret_used = 0;
    unsigned status = 1;
    if (result.event == HTTP1_LARGE) {
        CHECK(result.used > 0 && result.used <= size);
        http1_begin_parts(&http1, &head);
        size_t at = result.used;
        bool last = false;
        while (at < size && !last) {
            size_t n = MIN(step, size - at);
            char *copy = malloc(n); /* so that ASan sees a read past it */
            CHECK(copy != NULL);
            memcpy(copy, data + at, n);
            size_t used;
            struct span part;
            unsigned r = http1_feed_part(
                &http1, copy, n, room, limits.head_bytes, &used, &part, &last);
            if (r != 0) {
                CHECK(r == 400 || r == 431);
                free(copy);
                status = r;
                break;
            }
            CHECK(used > 0 && used <= n && part.n <= room && part.n <= used);
            memcpy(ret_body + *ret_n, part.p, part.n);
            *ret_n += part.n;
            at += used;
            free(copy);
        }
        status = last ? 0 : status;
        *ret_used = at;
    }
    free(text);
    return status;
}

/* The same request taken whole has the same body, and ends at the same place. */
static void check_whole(const uint8_t *data, size_t size, const char *body, size_t n, size_t used)
{
    static struct http1_head head;
    const struct http1_config config = {limits, UINT32_MAX / 2, false};
    struct http1 http1 = {0};
    char *text = malloc(size + 1);
    CHECK(text != NULL);
    memcpy(text, data, size);
    struct http1_result result = http1_feed(&http1, text, size, &config, &head);
    CHECK(result.event == HTTP1_REQUEST && result.used == used && result.body.n == n);
    CHECK(memcmp(result.body.p, body, n) == 0);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    const size_t step = data[0] + 1, room = data[1] + 1;
    data += 2;
    size -= 2;
    char *one = malloc(size + 1), *other = malloc(size + 1);
    CHECK(one != NULL && other != NULL);
    size_t n, m, used, used_too;
    unsigned status = take(data, size, size + 1, size + 1, one, &n, &used);
    CHECK(take(data, size, step, room, other, &m, &used_too) == status && n == m);
    CHECK(memcmp(one, other, n) == 0);
    if (status == 0) {
        CHECK(used == used_too);
        check_whole(data, size, one, n, used);
    }
    free(one);
    free(other);
    return 0;
}
