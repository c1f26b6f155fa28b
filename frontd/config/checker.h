#pragma once

/* What the checks of a config share: complaining, and reading scalars with their defaults. */

#include "common/base.h"
#include "frontd/config/findings.h"
#include "frontd/config/lines.h"

enum {
    CHECKER_PATH_SIZE = 128, /* of the longest path of a key that exists, with room to spare */
};

/* While a config is checked: the first complaint wins. */
struct checker {
    const char *file;
    const struct conf_lines *lines;
    const struct conf_findings *findings; /* NULL: nobody wants to know more than the error */
    char *error;
    size_t error_size;
    bool failed;
};

/* Says "FILE:LINE: KEY: what". The key is the path of a value; where it does not stand in the text,
 * its parent names the line. */
void checker_complain(struct checker *checker, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same of what is wrong only where and when frontd starts. */
void checker_complain_of_start(struct checker *checker, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Says the same of what is allowed, and hardly meant, to whoever wants to know. */
void checker_warn(struct checker *checker, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* "a, b or c", as much as fits. */
void checker_choices(const char *const *names, size_t n, char *out, size_t size);

/* Whether a key stands in the text. */
bool checker_has(const struct checker *checker, const char *parent, const char *key);

/* What was allocated, handed through; complains where it is NULL. */
void *checker_take(struct checker *checker, void *memory);

/* Copies are the caller's; NULL of NULL, and without memory, which is complained of. */
char *checker_copy(struct checker *checker, const char *text);
char *checker_copy_lower(struct checker *checker, const char *text);

/* The n texts, in lower case or as they are; where memory ends, some of them are NULL. */
char **checker_copy_texts(struct checker *checker, char **texts, unsigned n, bool lower);

/*
 * Each reads the text of a value, or takes the fallback where it is NULL. `key` is for complaints.
 */
void checker_duration(struct checker *checker, const char *key, const char *text, uint64_t fallback,
    uint64_t *ret_ms);

/* A time that must pass: 0 would mean that nothing ever works. */
void checker_timeout(struct checker *checker, const char *key, const char *text, uint64_t fallback,
    uint64_t *ret_ms);

void checker_size(struct checker *checker, const char *key, const char *text, uint32_t fallback,
    uint32_t min, uint32_t *ret_size);

uint64_t checker_number(struct checker *checker, const char *key, const char *text,
    uint64_t fallback, uint64_t min, uint64_t max);

/* One of a list of names; returns its index, and 0 where the text is NULL or wrong. */
int checker_name(struct checker *checker, const char *key, const char *text,
    const char *const *names, int nnames);
