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
    cr_expect_not(text_of(SPAN("12"), out, sizeof(out)));
    cr_expect(text_of(SPAN("\"ab\xc3\xbc\""), out, 4), "cut between characters");
    cr_expect_str_eq(out, "ab");
}
