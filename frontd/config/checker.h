#pragma once

/*
 * What the checks of a config share: errors and warnings, and reading scalars with their defaults.
 */

#include "common/base.h"
#include "frontd/config/findings.h"
#include "frontd/config/lines.h"

enum {
    CHECKER_PATH_SIZE = 128, /* of the longest path of a key that exists, with room to spare */
};

/* A config that is being checked. The first error is kept. */
struct checker {
    const char *file;
    const struct conf_lines *lines;
    const struct conf_findings *findings; /* NULL: only the error is wanted */
    char *error;
    size_t error_size;
    bool failed;
};

/*
 * An error: "FILE:LINE: KEY: what". key: the path of a value; where it is not in the text, the
 * line is its parent's.
 */
void checker_complain(struct checker *checker, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same for an error that holds only where and when frontd starts (findings.h). */
void checker_complain_of_start(struct checker *checker, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A warning in the same form (findings.h, `odd`). */
void checker_warn(struct checker *checker, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* "a, b or c", as much as fits. */
void checker_choices(const char *const *names, size_t n, char *out, size_t size);

/* Whether a key stands in the text. */
bool checker_has(const struct checker *checker, const char *parent, const char *key);

/* Returns the memory; an error where it is NULL. */
void *checker_take(struct checker *checker, void *memory);

/* Copies, which are the caller's. NULL for NULL, and without memory, which is an error. */
char *checker_copy(struct checker *checker, const char *text);
char *checker_copy_lower(struct checker *checker, const char *text);

/*
 * Copies of n texts, in lower case or as they are. Without memory some of them are NULL, which is
 * an error.
 */
char **checker_copy_texts(struct checker *checker, char **texts, unsigned n, bool lower);

/* An error where a text of a list stands in it before its index, too. key: of that text. */
void checker_once(struct checker *checker, const char *key, char *const *texts, unsigned index);

/* Each reads the text of a value, or takes the fallback where it is NULL. key: for errors. */
void checker_duration(struct checker *checker, const char *key, const char *text, uint64_t fallback,
    uint64_t *ret_ms);

/* A time that is not 0, which would mean that nothing ever succeeds. */
void checker_timeout(struct checker *checker, const char *key, const char *text, uint64_t fallback,
    uint64_t *ret_ms);

void checker_size(struct checker *checker, const char *key, const char *text, uint32_t fallback,
    uint32_t min, uint32_t *ret_size);

uint64_t checker_number(struct checker *checker, const char *key, const char *text,
    uint64_t fallback, uint64_t min, uint64_t max);

/*
 * One of a list of names; returns its index; 0 where the text is NULL, or wrong, which is an
 * error.
 */
int checker_name(struct checker *checker, const char *key, const char *text,
    const char *const *names, int nnames);

/* `true` or `false`; false where the text is NULL, or wrong, which is an error. */
bool checker_flag(struct checker *checker, const char *key, const char *text);
