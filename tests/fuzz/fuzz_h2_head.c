/*
 * The input: one byte, how long the first block is; two header blocks of one connection. Their
 * fields are read as a request's and as trailers; between the two the decoder may be frozen and
 * thawed, which changes nothing.
 */

#include <string.h>

#include "common/buf.h"
#include "frontd/codec/h2_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LIMIT = 600 };

static bool inside(struct span span, const char *p, size_t n)
{
    return span.n == 0 || (span.p >= p && span.p <= p + n && span.n <= (size_t)(p + n - span.p));
}

/* A head that is right has the form that all readers count on. */
static void check_head(const struct h2_head *head, struct span text)
{
    const struct http_head *http = &head->http;
    const struct span spans[] = {http->method_text, http->path, http->query, http->authority};
    unsigned hosts = 0;
    for (size_t i = 0; i < ARRAY_LEN(spans); i++)
        CHECK(inside(spans[i], text.p, text.n));
    for (size_t i = 0; i < http->nfields; i++) {
        const struct http_field *field = &http->fields[i];
        CHECK(field->name.n > 0 && inside(field->value, text.p, text.n));
        CHECK(memchr(field->name.p, '\n', field->name.n) == NULL);
        CHECK(field->value.n == 0 || memchr(field->value.p, '\n', field->value.n) == NULL);
        CHECK(field->value.n == 0 || memchr(field->value.p, '\r', field->value.n) == NULL);
        CHECK(field->value.n == 0 || memchr(field->value.p, '\0', field->value.n) == NULL);
        hosts += field->known == HTTP_F_HOST;
    }
    CHECK(hosts == 1 && http->authority.n > 0 && http->method_text.n > 0);
    CHECK(http->form == HTTP_AUTHORITY || http->form == HTTP_ASTERISK || http->path.p[0] == '/');
}

static enum h2_fault take_block(
    struct h2_hpack *hpack, const uint8_t *data, size_t n, char *room, struct h2_list *list)
{
    static struct h2_head head;
    *list = (struct h2_list){.text = room, .room = LIMIT};
    char *copy = malloc(n + 1); /* so that ASan sees a read past the end */
    CHECK(copy != NULL);
    if (n > 0)
        memcpy(copy, data, n);
    enum h2_fault fault = h2_hpack_decode(hpack, (struct span){copy, n}, LIMIT, list);
    free(copy);
    if (fault != H2_OK)
        return fault;
    CHECK(list->n <= LIMIT);
    struct span text = {room, list->n};
    int r = h2_head_read(text, 8, &head);
    CHECK(r == 0 || r == 417 || r == 431 || (r > H2_MORE && r < H2_FAULTS));
    if (r == 0)
        check_head(&head, text);
    h2_trailers_check(text);
    return H2_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char room[LIMIT], again[LIMIT];
    struct h2_list list, other;
    if (size == 0)
        return 0;
    size_t first = MIN((size_t)data[0], size - 1);
    struct h2_hpack *hpack = h2_hpack_new(), *thawed = NULL;
    struct buf frozen = {0};
    CHECK(hpack != NULL);
    if (take_block(hpack, data + 1, first, room, &list) == H2_OK) {
        CHECK(h2_hpack_freeze(hpack, &frozen) == 0);
        struct span image = {buf_data(&frozen), buf_len(&frozen)};
        CHECK(h2_hpack_thaw(image, &thawed) == H2_OK);
        const uint8_t *rest = data + 1 + first;
        size_t n = size - 1 - first;
        enum h2_fault fault = take_block(hpack, rest, n, room, &list);
        CHECK(take_block(thawed, rest, n, again, &other) == fault);
        if (fault == H2_OK)
            CHECK(list.n == other.n && list.over == other.over && memcmp(room, again, list.n) == 0);
    }
    buf_deinit(&frozen);
    h2_hpack_free(hpack);
    h2_hpack_free(thawed);
    return 0;
}
