#include <criterion/criterion.h>
#include <string.h>

#include "common/token.h"

/* As RFC 9110 section 5.6.2 lists them. */
static const char tchars[] = "!#$%&'*+-.^_`|~"
                             "0123456789"
                             "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

Test(token, each_byte)
{
    for (int c = 0; c < 256; c++) {
        const char text[] = {'a', (char)c};
        const bool listed = c != 0 && strchr(tchars, c) != NULL;
        cr_expect_eq(token_valid(text, 2), listed, "%d", c);
        cr_expect_eq(token_valid(text + 1, 1), listed, "%d", c);
    }
}

Test(token, at_least_one_byte)
{
    cr_expect_not(token_valid("", 0));
    cr_expect_not(token_valid(NULL, 0));
    cr_expect_not(token_valid("a\0b", 3));
    cr_expect(token_valid("a b", 1)); /* what follows is not looked at */
}
