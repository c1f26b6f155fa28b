#include <criterion/criterion.h>
#include <string.h>

#include "frontd/codec/event_stream.h"

Test(event_stream, is_one)
{
    static const struct {
        const char *fields;
        bool is;
    } rows[] = {
        {"content-type: text/event-stream\r\n", true},
        {"Content-Type:text/event-stream; charset=utf-8\r\n", true},
        {"x-a: 1\r\nCONTENT-TYPE: \tTEXT/Event-Stream\r\nx-b: 2\r\n", true},
        {"content-type: text/event-streams\r\n", false},
        {"content-type: text/event-strea\r\n", false},
        {"x-content-type: text/event-stream\r\n", false},
        {"content-type: text/plain\r\nx: text/event-stream\r\n", false},
        {"content-type:\r\n", false},
        {"", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        size_t n = strlen(rows[i].fields);
        cr_expect_eq(
            event_stream_is((struct span){rows[i].fields, n}), rows[i].is, "%s", rows[i].fields);
    }
}

/* Each `|` is where an event ends. */
Test(event_stream, ends_of_events)
{
    static const char *const rows[] = {
        "data: a\n\n|data: b\n\n|",
        "data: a\r\n\r\n|data: b\r\n\r\n|",
        "data: a\r\r|\r|",
        "a\nb\nc\n\n|\n|",
        "a\n\r\n|b",
        "a\r\n\n|b",
        ": ping\n\n|",
        "a\n b\n",
        "\r\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct event_stream by_bytes = {0}, whole = {0};
        char text[64];
        size_t n = 0, first = 0;
        cr_expect(event_stream_between(&by_bytes), "nothing has passed");
        for (const char *p = rows[i]; *p != '\0'; p++) {
            if (*p == '|') {
                cr_expect(event_stream_between(&by_bytes), "%s at %td", rows[i], p - rows[i]);
                first = first == 0 ? n : first;
                continue;
            }
            text[n++] = *p;
            bool ends = event_stream_pass(&by_bytes, (struct span){p, 1}) == 1;
            cr_expect_eq(ends, p[1] == '|', "%s at %td", rows[i], p - rows[i]);
        }
        cr_expect_eq(event_stream_pass(&whole, (struct span){text, n}), first, "%s", rows[i]);
        cr_expect_eq(memcmp(&whole, &by_bytes, sizeof(whole)), 0, "%s", rows[i]);
    }
}
