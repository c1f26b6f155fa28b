#include <criterion/criterion.h>
#include <string.h>

#include "frontd/codec/http_head.h"

Test(http_head, find)
{
    static struct http_head head;
    const struct http_field fields[] = {
        {.name = SPAN("Content-Type"), .value = SPAN("a")},
        {.name = SPAN("ORIGIN"), .value = SPAN("b")},
        {.name = SPAN("origin"), .value = SPAN("c")},
        {.name = SPAN("left"), .value = SPAN("of a head before")},
    };
    memcpy(head.fields, fields, sizeof(fields));
    head.nfields = 3;
    cr_expect_eq(http_head_find(&head, SPAN("content-type")), &head.fields[0]);
    cr_expect_eq(http_head_find(&head, SPAN("origin")), &head.fields[1], "the first of two");
    cr_expect_null(http_head_find(&head, SPAN("content")));
    cr_expect_null(http_head_find(&head, SPAN("left")));
    head.nfields = 0;
    cr_expect_null(http_head_find(&head, SPAN("origin")));
}
