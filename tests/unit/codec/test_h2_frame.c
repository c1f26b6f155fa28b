#include <criterion/criterion.h>
#include <string.h>

#include "frontd/codec/h2_frame.h"

/* A frame's head, as a literal: length (3 bytes), type, flags, stream (4 bytes). */
#define HEAD(length, type, flags, stream) length type flags stream
#define S0                                "\0\0\0\0"
#define S1                                "\0\0\0\x01"
#define BYTES(literal)                                                                             \
    {                                                                                              \
        literal, sizeof(literal) - 1                                                               \
    }

struct row {
    const char *name;
    struct span bytes;
    enum h2_fault fault;
    const char *text; /* what is made of the frame */
};

static const struct row rows[] = {
    {"DATA", BYTES(HEAD("\0\0\x02", "\0", "\x01", S1) "hi"), H2_OK, "0 1 1 2 hi"},
    {"DATA, empty", BYTES(HEAD("\0\0\0", "\0", "\0", S1)), H2_OK, "0 0 1 0 "},
    {"DATA, padded", BYTES(HEAD("\0\0\x05", "\0", "\x08", S1) "\x02hi\0\0"), H2_OK, "0 8 1 5 hi"},
    {"DATA, padding alone", BYTES(HEAD("\0\0\x03", "\0", "\x08", S1) "\x02\0\0"), H2_OK,
        "0 8 1 3 "},
    {"DATA, too much padding", BYTES(HEAD("\0\0\x03", "\0", "\x08", S1) "\x03\0\0"),
        H2_FAULT_PADDING, ""},
    {"DATA, no length of padding", BYTES(HEAD("\0\0\0", "\0", "\x08", S1)), H2_FAULT_SIZE, ""},
    {"DATA on 0", BYTES(HEAD("\0\0\x02", "\0", "\0", S0)), H2_FAULT_STREAM_ZERO, ""},
    {"reserved bit", BYTES(HEAD("\0\0\0", "\0", "\0", "\x80\0\0\x03")), H2_OK, "0 0 3 0 "},
    {"HEADERS", BYTES(HEAD("\0\0\x02", "\x01", "\x05", S1) "\x82\x84"), H2_OK, "1 5 1 2 \x82\x84"},
    {"HEADERS, priority and padding",
        BYTES(HEAD("\0\0\x08", "\x01", "\x2d", S1) "\x01\0\0\0\0\x10\x82\0"), H2_OK,
        "1 45 1 8 \x82"},
    {"HEADERS, short priority", BYTES(HEAD("\0\0\x04", "\x01", "\x24", S1) "\0\0\0\0"),
        H2_FAULT_SIZE, ""},
    {"HEADERS, padding in its priority",
        BYTES(HEAD("\0\0\x06", "\x01", "\x2c", S1) "\x01\0\0\0\0\x10"), H2_FAULT_PADDING, ""},
    {"HEADERS on 0", BYTES(HEAD("\0\0\x02", "\x01", "\x05", S0)), H2_FAULT_STREAM_ZERO, ""},
    {"PRIORITY", BYTES(HEAD("\0\0\x05", "\x02", "\0", S1) "\0\0\0\0\x10"), H2_OK,
        "2 0 1 5 \0\0\0\0\x10"},
    {"PRIORITY, short", BYTES(HEAD("\0\0\x04", "\x02", "\0", S1) "\0\0\0\0"),
        H2_FAULT_PRIORITY_SIZE, ""},
    {"PRIORITY on 0", BYTES(HEAD("\0\0\x05", "\x02", "\0", S0)), H2_FAULT_STREAM_ZERO, ""},
    {"RST_STREAM", BYTES(HEAD("\0\0\x04", "\x03", "\0", S1) "\0\0\0\x08"), H2_OK, "3 0 1 4 code 8"},
    {"RST_STREAM, short", BYTES(HEAD("\0\0\x03", "\x03", "\0", S1)), H2_FAULT_SIZE, ""},
    {"RST_STREAM on 0", BYTES(HEAD("\0\0\x04", "\x03", "\0", S0)), H2_FAULT_STREAM_ZERO, ""},
    {"SETTINGS", BYTES(HEAD("\0\0\x06", "\x04", "\0", S0) "\0\x04\0\0\x12\x34"), H2_OK,
        "4 0 0 6 \0\x04\0\0\x12\x34"},
    {"SETTINGS, not whole", BYTES(HEAD("\0\0\x05", "\x04", "\0", S0)), H2_FAULT_SIZE, ""},
    {"SETTINGS ACK", BYTES(HEAD("\0\0\0", "\x04", "\x01", S0)), H2_OK, "4 1 0 0 "},
    {"SETTINGS ACK, not empty", BYTES(HEAD("\0\0\x06", "\x04", "\x01", S0)), H2_FAULT_SIZE, ""},
    {"SETTINGS on 1", BYTES(HEAD("\0\0\0", "\x04", "\0", S1)), H2_FAULT_STREAM_GIVEN, ""},
    {"PUSH_PROMISE", BYTES(HEAD("\0\0\x04", "\x05", "\x04", S1)), H2_FAULT_PUSH_PROMISE, ""},
    {"PING", BYTES(HEAD("\0\0\x08", "\x06", "\0", S0) "12345678"), H2_OK, "6 0 0 8 12345678"},
    {"PING, long", BYTES(HEAD("\0\0\x09", "\x06", "\0", S0)), H2_FAULT_SIZE, ""},
    {"PING on 1", BYTES(HEAD("\0\0\x08", "\x06", "\0", S1)), H2_FAULT_STREAM_GIVEN, ""},
    {"GOAWAY",
        BYTES(HEAD("\0\0\x0a", "\x07", "\0", S0) "\0\0\0\x07\0\0\0\x0b"
                                                 "no"),
        H2_OK, "7 0 0 10 value 7 code 11 no"},
    {"GOAWAY, short", BYTES(HEAD("\0\0\x07", "\x07", "\0", S0)), H2_FAULT_SIZE, ""},
    {"GOAWAY on 1", BYTES(HEAD("\0\0\x08", "\x07", "\0", S1)), H2_FAULT_STREAM_GIVEN, ""},
    {"WINDOW_UPDATE", BYTES(HEAD("\0\0\x04", "\x08", "\0", S0) "\x80\0\0\x05"), H2_OK,
        "8 0 0 4 value 5"},
    {"WINDOW_UPDATE, short", BYTES(HEAD("\0\0\x03", "\x08", "\0", S1)), H2_FAULT_SIZE, ""},
    {"CONTINUATION", BYTES(HEAD("\0\0\x01", "\x09", "\x04", S1) "\x82"), H2_OK, "9 4 1 1 \x82"},
    {"CONTINUATION on 0", BYTES(HEAD("\0\0\x01", "\x09", "\x04", S0)), H2_FAULT_STREAM_ZERO, ""},
    {"unknown type", BYTES(HEAD("\0\0\x01", "\x99", "\xff", S1) "x"), H2_OK, "153 255 1 1 x"},
    {"too long", BYTES(HEAD("\0\x40\x01", "\0", "\0", S1)), H2_FAULT_TOO_LONG, ""},
    {"unknown type, too long", BYTES(HEAD("\x01\0\0", "\x99", "\0", S1)), H2_FAULT_TOO_LONG, ""},
};

static size_t describe(char *out, size_t size, const struct h2_frame *frame)
{
    int n = snprintf(
        out, size, "%u %u %u %u ", frame->type, frame->flags, frame->stream, frame->length);
    if (frame->type == H2_WINDOW_UPDATE || frame->type == H2_GOAWAY)
        n += snprintf(out + n, size - (size_t)n, "value %u", frame->value);
    if (frame->type == H2_GOAWAY)
        n += snprintf(out + n, size - (size_t)n, " ");
    if (frame->type == H2_RST_STREAM || frame->type == H2_GOAWAY)
        n += snprintf(out + n, size - (size_t)n, "code %u", frame->code);
    if (frame->type == H2_GOAWAY)
        n += snprintf(out + n, size - (size_t)n, " ");
    if (frame->type != H2_RST_STREAM && frame->type != H2_WINDOW_UPDATE) {
        memcpy(out + n, frame->payload.p, frame->payload.n);
        n += (int)frame->payload.n;
    }
    return (size_t)n;
}

/* Each beginning is either incomplete or has the result of the whole. */
static void check_row(const struct row *row)
{
    bool decided = false;
    for (size_t n = 0; n <= row->bytes.n; n++) {
        struct h2_frame frame = {0};
        size_t used = 0;
        char *copy = malloc(n + 1); /* so that ASan sees a read past the end */
        memcpy(copy, row->bytes.p, n);
        enum h2_fault fault = h2_frame_parse(copy, n, &frame, &used);
        if (fault == H2_MORE)
            cr_expect(!decided && n < row->bytes.n, "%s: %zu bytes are not enough", row->name, n);
        else
            cr_expect_eq(fault, row->fault, "%s: %zu bytes: %d", row->name, n, fault);
        decided |= fault != H2_MORE;
        if (fault == H2_OK) {
            char text[256];
            size_t len = describe(text, sizeof(text), &frame);
            cr_expect(len >= strlen(row->text) && memcmp(text, row->text, strlen(row->text)) == 0 &&
                          used == row->bytes.n,
                "%s: %.*s", row->name, (int)len, text);
        }
        if (fault == H2_FAULT_PRIORITY_SIZE)
            cr_expect(used == row->bytes.n && frame.stream == 1);
        free(copy);
    }
    cr_expect(decided, "%s", row->name);
}

Test(h2_frame, rows)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check_row(&rows[i]);
}

/* The largest frame that is taken, and one byte more. */
Test(h2_frame, size_limit)
{
    static char bytes[H2_HEAD_SIZE + H2_FRAME_MAX];
    struct h2_frame frame;
    size_t used;
    h2_write_head((uint8_t *)bytes, H2_FRAME_MAX, H2_DATA, 0, 1);
    cr_expect_eq(h2_frame_parse(bytes, sizeof(bytes) - 1, &frame, &used), H2_MORE);
    cr_expect_eq(h2_frame_parse(bytes, sizeof(bytes), &frame, &used), H2_OK);
    cr_expect(used == sizeof(bytes) && frame.payload.n == H2_FRAME_MAX);
    h2_write_head((uint8_t *)bytes, H2_FRAME_MAX + 1, H2_DATA, 0, 1);
    cr_expect_eq(h2_frame_parse(bytes, H2_HEAD_SIZE, &frame, &used), H2_FAULT_TOO_LONG);
}

Test(h2_frame, preface)
{
    static const char text[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore";
    for (size_t n = 0; n < sizeof(text); n++)
        cr_expect_eq(h2_preface_match(text, n), MIN(n, (size_t)H2_PREFACE_SIZE));
    cr_expect_eq(h2_preface_match("PRI * HTTP/2.1", 14), 13u);
    cr_expect_eq(h2_preface_match("GET", 3), 0u);
}

/* What is written can be read. */
Test(h2_frame, writers)
{
    uint8_t out[128];
    struct h2_frame frame;
    size_t used;
    uint16_t setting;
    uint32_t value;
    const struct h2_setting_value settings[] = {
        {H2_SETTING_MAX_CONCURRENT_STREAMS, 100}, {H2_SETTING_INITIAL_WINDOW_SIZE, 0x12345678}};
#define READ(n) h2_frame_parse((const char *)out, n, &frame, &used)
    size_t n = h2_write_settings(out, settings, 2);
    cr_assert(READ(n) == H2_OK && used == n && frame.type == H2_SETTINGS && frame.flags == 0);
    h2_setting_read(frame.payload, 1, &setting, &value);
    cr_expect(setting == H2_SETTING_INITIAL_WINDOW_SIZE && value == 0x12345678);
    n = h2_write_settings_ack(out);
    cr_assert(READ(n) == H2_OK && used == n && frame.flags == H2_FLAG_ACK);
    n = h2_write_ping(out, "abcdefgh", true);
    cr_assert(READ(n) == H2_OK && used == n && frame.type == H2_PING && frame.flags == H2_FLAG_ACK);
    cr_expect_arr_eq(frame.payload.p, "abcdefgh", 8);
    n = h2_write_reset(out, 7, H2_CANCEL);
    cr_assert(READ(n) == H2_OK && used == n && frame.stream == 7 && frame.code == H2_CANCEL);
    n = h2_write_window(out, 9, 0x01020304);
    cr_assert(READ(n) == H2_OK && used == n && frame.stream == 9 && frame.value == 0x01020304);
    char debug[H2_DEBUG_MAX + 1];
    memset(debug, 'x', sizeof(debug));
    n = h2_write_goaway(out, 11, H2_ENHANCE_YOUR_CALM, (struct span){debug, sizeof(debug)});
    cr_assert(READ(n) == H2_OK && used == n && n == H2_GOAWAY_MAX && frame.value == 11);
    cr_expect(frame.code == H2_ENHANCE_YOUR_CALM && frame.payload.n == H2_DEBUG_MAX);
    n = h2_write_goaway(out, 0, H2_NO_ERROR, (struct span){0});
    cr_assert(READ(n) == H2_OK && frame.payload.n == 0);
}

/* Every fault has a row, whose text fits into GOAWAY. */
Test(h2_frame, faults)
{
    for (unsigned fault = H2_MORE + 1; fault < H2_FAULTS; fault++) {
        const struct h2_fault_row *row = h2_fault(fault);
        cr_expect((row->section[0] >= '1' && row->section[0] <= '9') ||
                  strncmp(row->section, "RFC ", 4) == 0);
        cr_expect(strlen(row->text) <= H2_DEBUG_MAX && row->code <= H2_HTTP_1_1_REQUIRED);
        cr_expect_neq(row->code, H2_NO_ERROR);
    }
}
