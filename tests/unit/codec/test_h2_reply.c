#include <criterion/criterion.h>
#include <string.h>

#include "frontd/codec/h2_hpack.h"
#include "frontd/codec/h2_reply.h"

#define DATE "Sun, 06 Nov 1994 08:49:37 GMT"
#define LAST "server=frontd\ndate=" DATE "\n"

/* The frames of an answer, put together and decoded: its fields as lines. */
static void describe(char *out, size_t size, const uint8_t *bytes, size_t n, uint32_t frame_max,
    uint8_t flags, unsigned *ret_frames)
{
    static char block[70000], room[200000];
    struct h2_list list = {.text = room, .room = sizeof(room)};
    size_t len = 0, used;
    struct h2_frame frame;
    *ret_frames = 0;
    for (size_t at = 0; at < n; at += used, ++*ret_frames) {
        cr_assert_eq(h2_frame_parse((const char *)bytes + at, n - at, &frame, &used), H2_OK);
        cr_assert(frame.stream == 5 && frame.length <= frame_max);
        cr_expect_eq(frame.type, at == 0 ? H2_HEADERS : H2_CONTINUATION);
        cr_expect_eq(
            frame.flags, (at == 0 ? flags : 0) | (at + used == n ? H2_FLAG_END_HEADERS : 0));
        memcpy(block + len, frame.payload.p, frame.payload.n);
        len += frame.payload.n;
    }
    struct h2_hpack *hpack = h2_hpack_new();
    cr_assert_eq(h2_hpack_decode(hpack, (struct span){block, len}, sizeof(room), &list), H2_OK);
    h2_hpack_free(hpack);
    struct span text = {room, list.n};
    struct h2_field field;
    len = 0;
    while (h2_list_next(&text, &field))
        len += (size_t)snprintf(out + len, size - len, "%.*s=%.*s\n", (int)field.name.n,
            field.name.p, (int)field.value.n, field.value.p);
}

static void expect(const struct h2_reply *reply, const char *fields)
{
    char text[4096];
    unsigned frames;
    size_t room = h2_reply_room(reply, H2_FRAME_MAX);
    uint8_t *bytes = malloc(room);
    size_t n = h2_reply_write(bytes, reply, 5, H2_FRAME_MAX, DATE);
    cr_assert_leq(n, room);
    describe(text, sizeof(text), bytes, n, H2_FRAME_MAX, reply->end_stream ? H2_FLAG_END_STREAM : 0,
        &frames);
    cr_expect_str_eq(text, fields);
    cr_expect_eq(frames, 1u);
    cr_expect_eq(bytes[H2_HEAD_SIZE] == 0x20, reply->tells_table);
    free(bytes);
}

Test(h2_reply, fields)
{
    expect(&(struct h2_reply){.status = 200, .content_type = "text/plain", .content_length = 12},
        ":status=200\n" LAST "content-type=text/plain\ncontent-length=12\n");
    expect(&(struct h2_reply){.status = 204, .no_length = true, .end_stream = true},
        ":status=204\n" LAST);
    expect(&(struct h2_reply){.status = 503,
               .tells_table = true,
               .fields = SPAN("Retry-After: 1\r\nX-Odd:  a b \r\n"),
               .cors = SPAN("Access-Control-Allow-Origin: *\r\n"),
               .content_length = UINT64_MAX},
        ":status=503\n" LAST "retry-after=1\nx-odd=a b\naccess-control-allow-origin=*\n"
        "content-length=18446744073709551615\n");
    /* what HTTP/2 has not */
    expect(&(struct h2_reply){.status = 426,
               .fields = SPAN("Upgrade: websocket\r\nConnection: Upgrade\r\n"
                              "Sec-WebSocket-Version: 13\r\n")},
        ":status=426\n" LAST "sec-websocket-version=13\ncontent-length=0\n");
}

/* A block that is longer than a frame. */
Test(h2_reply, long_block)
{
    static char fields[60000];
    static char text[120000];
    size_t n = 0;
    unsigned frames;
    while (n < sizeof(fields) - 100)
        n += (size_t)sprintf(fields + n, "X-Number-%zu: %0*d\r\n", n, (int)(n % 50), 7);
    struct h2_reply reply = {.status = 200, .fields = {fields, n}, .end_stream = true};
    for (uint32_t max = H2_FRAME_MAX; max > 100; max /= 2) {
        size_t room = h2_reply_room(&reply, max);
        uint8_t *bytes = malloc(room);
        size_t len = h2_reply_write(bytes, &reply, 5, max, DATE);
        cr_assert_leq(len, room);
        describe(text, sizeof(text), bytes, len, max, H2_FLAG_END_STREAM, &frames);
        cr_expect_eq(frames, (len - frames * H2_HEAD_SIZE + max - 1) / max);
        cr_expect(frames > 2 && strstr(text, "\nx-number-0=7\n") != NULL);
        cr_expect(strstr(text, "\ncontent-length=0\n") != NULL);
        free(bytes);
    }
}

/* Lines of one byte each make a block longer than they are themselves. */
Test(h2_reply, room)
{
    static char fields[5000];
    for (size_t i = 0; i + 5 <= sizeof(fields); i += 5)
        memcpy(fields + i, "a: \r\n", 5);
    struct h2_reply reply = {.status = 599, .fields = {fields, sizeof(fields)}};
    size_t room = h2_reply_room(&reply, H2_FRAME_MAX);
    uint8_t *bytes = malloc(room);
    cr_expect_leq(h2_reply_write(bytes, &reply, 5, H2_FRAME_MAX, DATE), room);
    free(bytes);
}

Test(h2_reply, continue_)
{
    uint8_t bytes[H2_CONTINUE_SIZE];
    char text[256];
    unsigned frames;
    cr_assert_eq(h2_continue_write(bytes, 5), sizeof(bytes));
    describe(text, sizeof(text), bytes, sizeof(bytes), H2_FRAME_MAX, 0, &frames);
    cr_expect_str_eq(text, ":status=100\n");
}
