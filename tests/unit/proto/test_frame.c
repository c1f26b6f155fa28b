#include <criterion/criterion.h>

#include "proto/frame.h"
#include "tests/unit/support/vectors.h"

static int result_of(const struct vector *vector)
{
    static const struct {
        const char *name;
        int result;
    } results[] = {
        {"frame", 0},
        {"more", FRAME_E_MORE},
        {"parts", FRAME_E_PARTS},
        {"type", FRAME_E_TYPE},
        {"limit", FRAME_E_LIMIT},
    };
    const char *name = vectors_get(vector, "result");
    for (size_t i = 0; i < ARRAY_LEN(results); i++) {
        if (strcmp(results[i].name, name) == 0)
            return results[i].result;
    }
    cr_assert_fail("unknown result %s", name);
    return -1;
}

static void check_part(const struct vector *vector, const char *key, struct span part)
{
    size_t n;
    char *wanted = vectors_bytes(vectors_get(vector, key), &n);
    cr_assert_eq(part.n, n, "%s: %s", vectors_get(vector, "name"), key);
    cr_assert(n == 0 || memcmp(part.p, wanted, n) == 0, "%s: %s", vectors_get(vector, "name"), key);
    free(wanted);
}

static void check_frame(const struct vector *vector, const struct frame *frame, size_t used)
{
    const char *name = vectors_get(vector, "name");
    const struct frame_head *head = &frame->head;
    cr_assert_eq(head->length, vectors_number(vector, "length"), "%s", name);
    cr_assert_eq(head->type, vectors_number(vector, "type"), "%s", name);
    cr_assert_eq(head->flags, vectors_number(vector, "flags"), "%s", name);
    cr_assert_eq(head->call, vectors_number(vector, "call"), "%s", name);
    cr_assert_eq(head->conn, vectors_number(vector, "conn"), "%s", name);
    cr_assert_eq(used, FRAME_HEAD_SIZE + (size_t)head->length, "%s", name);
    check_part(vector, "meta", frame->meta);
    check_part(vector, "body", frame->body);
    check_part(vector, "blob", frame->blob);
}

/*
 * Every shorter piece of the bytes wants more, until the 32 bytes are there that say what is wrong.
 */
static void check_pieces(const char *bytes, size_t n, uint32_t max_frame, int result, size_t used)
{
    for (size_t part = 0; part < n; part++) {
        char *copy = malloc(part + (part == 0));
        struct frame frame;
        size_t ret_used = 77;
        cr_assert_not_null(copy);
        memcpy(copy, bytes, part);
        int r = frame_read(copy, part, max_frame, &frame, &ret_used);
        if (part < FRAME_HEAD_SIZE || (result == 0 && part < used))
            cr_assert_eq(r, FRAME_E_MORE);
        else
            cr_assert_eq(r, result);
        cr_assert(r == 0 || ret_used == 77);
        free(copy);
    }
}

Test(frame, vectors)
{
    char *text = vectors_load("frames.txt");
    char *rest = text;
    struct vector vector;
    size_t count = 0;
    for (; vectors_next(&rest, &vector); count++) {
        const char *name = vectors_get(&vector, "name");
        uint32_t max_frame = (uint32_t)vectors_number(&vector, "max_frame");
        int wanted = result_of(&vector);
        size_t n;
        char *bytes = vectors_bytes(vectors_get(&vector, "hex"), &n);
        struct frame frame;
        size_t used = 0;
        size_t size = 77;
        cr_assert_eq(frame_read(bytes, n, max_frame, &frame, &used), wanted, "%s", name);
        if (wanted == 0)
            check_frame(&vector, &frame, used);
        check_pieces(bytes, n, max_frame, wanted, used);

        int r = frame_size(bytes, n, max_frame, &size);
        cr_assert_eq(r, n >= FRAME_HEAD_SIZE && wanted == FRAME_E_MORE ? 0 : wanted, "%s", name);
        cr_assert(wanted != 0 || size == used, "%s", name);
        cr_assert(r == 0 || size == 77, "%s", name);
        free(bytes);
    }
    cr_assert_gt(count, (size_t)10);
    free(text);
}

/* What is read is written back as it was, but for what a receiver ignores. */
Test(frame, heads_are_written_as_they_are_read)
{
    char *text = vectors_load("frames.txt");
    char *rest = text;
    struct vector vector;
    while (vectors_next(&rest, &vector)) {
        if (result_of(&vector) != 0)
            continue;
        size_t n;
        char *bytes = vectors_bytes(vectors_get(&vector, "hex"), &n);
        struct frame frame;
        size_t used;
        uint8_t head[FRAME_HEAD_SIZE];
        cr_assert_eq(frame_read(bytes, n, UINT32_MAX, &frame, &used), 0);
        frame_head_write(&frame.head, head);
        bytes[6] = bytes[7] = 0; /* reserved */
        cr_assert_eq(memcmp(head, bytes, sizeof(head)), 0, "%s", vectors_get(&vector, "name"));
        free(bytes);
    }
    free(text);
}

Test(frame, the_sum_of_the_parts_does_not_wrap)
{
    const struct frame_head head = {
        .type = FRAME_REQUEST, .length = 1, .meta_len = UINT32_MAX, .blob_len = 2};
    uint8_t bytes[FRAME_HEAD_SIZE];
    struct frame frame;
    size_t used;
    frame_head_write(&head, bytes);
    cr_assert_eq(
        frame_read((char *)bytes, sizeof(bytes), UINT32_MAX, &frame, &used), FRAME_E_PARTS);
}

Test(frame, types)
{
    for (unsigned type = 0; type < 256; type++) {
        const struct frame_head head = {.type = (uint8_t)type};
        uint8_t bytes[FRAME_HEAD_SIZE];
        struct frame frame;
        size_t used;
        frame_head_write(&head, bytes);
        int r = frame_read((char *)bytes, sizeof(bytes), 0, &frame, &used);
        bool known = (type >= FRAME_HELLO && type <= FRAME_WINDOW) || type >= FRAME_EXTENSION;
        cr_assert_eq(r, known ? 0 : FRAME_E_TYPE, "type %u", type);
    }
}

/* The header alone, of what is not read: at the limit and past it. */
Test(frame, heads_alone)
{
    static const struct {
        uint32_t length;
        uint32_t max_frame;
        int result;
    } rows[] = {
        {0, 0, 0},
        {FRAME_MAX_DEFAULT + 1, FRAME_MAX_DEFAULT, FRAME_E_LIMIT},
        {FRAME_MAX_DEFAULT + 1, FRAME_SKIP_MAX, 0},
        {FRAME_SKIP_MAX, FRAME_SKIP_MAX, 0},
        {FRAME_SKIP_MAX + 1U, FRAME_SKIP_MAX, FRAME_E_LIMIT},
        {UINT32_MAX, FRAME_SKIP_MAX, FRAME_E_LIMIT},
        {UINT32_MAX, UINT32_MAX, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct frame_head head = {.type = FRAME_RESPONSE,
            .flags = FRAME_F_MORE,
            .call = 7,
            .conn = 8,
            .length = rows[i].length,
            .blob_len = rows[i].length};
        struct frame_head found = {.call = 77};
        uint8_t bytes[FRAME_HEAD_SIZE];
        frame_head_write(&head, bytes);
        int r = frame_head_read((char *)bytes, sizeof(bytes), rows[i].max_frame, &found);
        cr_expect_eq(r, rows[i].result, "row %zu", i);
        cr_expect_eq(found.call, r == 0 ? 7U : 77U);
        cr_expect(r != 0 || (found.length == rows[i].length && found.blob_len == rows[i].length &&
                                found.type == FRAME_RESPONSE && found.conn == 8));
        r = frame_head_read((char *)bytes, sizeof(bytes) - 1, UINT32_MAX, &found);
        cr_expect_eq(r, FRAME_E_MORE);
    }
}

Test(frame, error_texts_differ)
{
    cr_assert_str_neq(frame_error_text(FRAME_E_PARTS), frame_error_text(FRAME_E_TYPE));
    cr_assert_str_neq(frame_error_text(FRAME_E_TYPE), frame_error_text(FRAME_E_LIMIT));
    cr_assert_str_not_empty(frame_error_text(99));
    cr_assert_str_eq(frame_type_text(FRAME_HELLO), "HELLO");
    cr_assert_str_eq(frame_type_text(FRAME_WINDOW), "WINDOW");
    cr_assert_str_eq(frame_type_text(0), "unknown frame");
    cr_assert_str_eq(frame_type_text(FRAME_WINDOW + 1), "unknown frame");
    cr_assert_str_eq(frame_type_text(255), "unknown frame");
}

/* A peer that answers in another protocol is called by its name. */
Test(frame, guesses)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *begins; /* of the text; NULL: there is none */
    } rows[] = {
        {"HTTP/1.1 400", 12, "it speaks HTTP,"},
        {"HTTP", 4, NULL},
        {"GET / HTTP/1.1", 14, "it speaks HTTP,"},
        {"PRI * HTTP/2.0", 14, "it speaks HTTP/2"},
        {"\0\0\x12\4\0\0\0\0\0", 9, "it speaks HTTP/2"},
        {"\0\0\x12\4\0\0\0\0", 8, NULL},
        {"\x16\3\1", 3, "it speaks TLS"},
        {"\x15\3\3\0\2\2\x28", 7, "it speaks TLS"},
        {"SSH-2.0", 7, "it speaks SSH"},
        {"{\"jsonrpc\"", 10, "it sends JSON"},
        {"\0\0\0\1\1", 5, NULL},
        {"", 0, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *text = frame_guess(rows[i].bytes, rows[i].n);
        cr_expect_eq(text == NULL, rows[i].begins == NULL, "row %zu", i);
        if (text != NULL && rows[i].begins != NULL)
            cr_expect_eq(
                strncmp(text, rows[i].begins, strlen(rows[i].begins)), 0, "row %zu: %s", i, text);
    }
}
