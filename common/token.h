#pragma once

/* token, RFC 9110 section 5.6.2: names of methods, fields, subprotocols. */

#include "common/base.h"

#define TOKEN_IN(c, from, to) ((c) >= (from) && (c) <= (to))

/* Whether c, 0 to 255, is a tchar: a constant where c is one, so that tables can be made of it. */
#define TOKEN_CHAR(c)                                                                              \
    (TOKEN_IN(c, '0', '9') || TOKEN_IN(c, 'A', 'Z') || TOKEN_IN(c, '^', 'z') || (c) == '!' ||      \
        TOKEN_IN(c, '#', '\'') || (c) == '*' || (c) == '+' || (c) == '-' || (c) == '.' ||          \
        (c) == '|' || (c) == '~')

/* What TOKEN_CHAR() allows, for messages. */
#define TOKEN_CHARS "letters, digits and !#$%&'*+-.^_`|~"

/* Whether n bytes are a token: at least one, all of them tchar. */
static inline bool token_valid(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)p[i];
        if (!TOKEN_CHAR(c))
            return false;
    }
    return n > 0;
}
