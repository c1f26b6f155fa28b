#include "frontd/frontctl/text.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static void expect_json(struct span json, const char *written)
{
    char *text;
    size_t n;
    FILE *to = open_memstream(&text, &n);
    text_put_json(json, to);
    fclose(to);
    cr_expect_str_eq(text, written);
    free(text);
}

/* Methods and topics are as clients have sent them. */
Test(text, json_cannot_steer_a_terminal)
{
    expect_json(SPAN("{\"a\":\"\x7f\xc2\x80x\xc2\x9b"
                     "31m\xc2\x9f\"}"),
        "{\"a\":\"\\u007f\\u0080x\\u009b31m\\u009f\"}");
    expect_json(SPAN("\"\xc2\xa0\xc3\xbc\xe2\x82\xac\xc3\x82\""),
        "\"\xc2\xa0\xc3\xbc\xe2\x82\xac\xc3\x82\"");
    expect_json(SPAN(""), "");
}

Test(text, text_cannot_either)
{
    char out[32] = "-";
    cr_expect(text_of(SPAN("\"a\\u001b[1m\\u009b\x7f\xc3\xbc\""), out, sizeof(out)));
    cr_expect_str_eq(out, "a?[1m???\xc3\xbc");
    cr_expect(
        text_of(SPAN("\"\xe2\x80\xae\xe2\x81\xa9\xe2\x82\xac\xe2\x80\xa7\""), out, sizeof(out)));
    cr_expect_str_eq(out, "??????\xe2\x82\xac\xe2\x80\xa7");
    cr_expect_not(text_of(SPAN("12"), out, sizeof(out)));
    cr_expect(text_of(SPAN("\"ab\xc3\xbc\""), out, 4), "cut between characters");
    cr_expect_str_eq(out, "ab");
}

static void expect_number(void (*write)(double, char *), double number, const char *expected)
{
    char text[TEXT_SIZE];
    write(number, text);
    cr_expect_str_eq(text, expected);
}

Test(text, numbers_for_people)
{
    expect_number(text_count, 0, "0");
    expect_number(text_count, 9999, "9999");
    expect_number(text_count, 10000, "10.0k");
    expect_number(text_count, 999499, "999k");
    expect_number(text_count, 999500, "1.00M");
    expect_number(text_count, 1e30, "1000000000000E");
    expect_number(text_bytes, 1023, "1023 B");
    expect_number(text_bytes, 1024, "1.00 KiB");
    expect_number(text_bytes, 36.2 * 1024 * 1024, "36.2 MiB");
    expect_number(text_seconds, 0, "0");
    expect_number(text_seconds, 0.00025, "250 us");
    expect_number(text_seconds, 0.0012, "1.20 ms");
    expect_number(text_seconds, 0.9994, "999 ms");
    expect_number(text_seconds, 1, "1.00 s");
    expect_number(text_seconds, 119.4, "119 s");
    expect_number(text_seconds, 150, "2 min 30 s");
    expect_number(text_seconds, 7800, "2 h 10 min");
    expect_number(text_seconds, 273600, "3 d 4 h");
}

Test(text, cannot_steer_a_terminal_and_is_cut_between_characters)
{
    char out[8] = "before";
    cr_expect(text_of(SPAN("\"a\\u001b[2J\\u009bx\""), out, sizeof(out)));
    cr_expect_str_eq(out, "a?[2J??");
    cr_expect(text_of(SPAN("\"12345\xc3\xa4\xc3\xa4\""), out, sizeof(out)));
    cr_expect_str_eq(out, "12345\xc3\xa4");
    cr_expect(text_of(SPAN("\"123456\xc3\xa4\""), out, sizeof(out)));
    cr_expect_str_eq(out, "123456");
    cr_expect_not(text_of(SPAN("7"), out, sizeof(out)));
    cr_expect_str_eq(out, "123456");
}
