#pragma once

/* What the callbacks of a test have been told, as one text. */

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static char said[1024];

static inline void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

static inline void say(const char *format, ...)
{
    size_t n = strlen(said);
    va_list args;
    va_start(args, format);
    vsnprintf(said + n, sizeof(said) - n, format, args);
    va_end(args);
}

/* Compares it, and forgets it. */
static inline void expect_said(const char *text)
{
    cr_expect_str_eq(said, text);
    said[0] = '\0';
}
