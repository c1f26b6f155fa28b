#include "frontd/config/checker.h"

#include <ctype.h>
#include <stdarg.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/config/value.h"

/* "FILE:LINE: KEY: what" */
__attribute__((format(printf, 3, 0))) static void write_complaint(const struct checker *checker,
    const char *key, const char *format, va_list args, char *out, size_t size)
{
    int n = snprintf(
        out, size, "%s:%u: %s: ", checker->file, conf_lines_near(checker->lines, key), key);
    if (n >= 0 && (size_t)n < size)
        vsnprintf(out + n, size - (size_t)n, format, args);
}

void checker_complain(struct checker *checker, const char *key, const char *format, ...)
{
    if (checker->failed)
        return;
    checker->failed = true;
    va_list args;
    va_start(args, format);
    write_complaint(checker, key, format, args, checker->error, checker->error_size);
    va_end(args);
}

void checker_complain_of_start(struct checker *checker, const char *key, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    write_complaint(checker, key, format, args, text, sizeof(text));
    va_end(args);
    if (checker->findings != NULL && checker->findings->found != NULL) {
        checker->findings->found(checker->findings->data, text);
    } else if (!checker->failed) {
        checker->failed = true;
        snprintf(checker->error, checker->error_size, "%s", text);
    }
}

void checker_warn(struct checker *checker, const char *key, const char *format, ...)
{
    char text[512];
    va_list args;
    if (checker->failed || checker->findings == NULL || checker->findings->odd == NULL)
        return;
    va_start(args, format);
    write_complaint(checker, key, format, args, text, sizeof(text));
    va_end(args);
    checker->findings->odd(checker->findings->data, text);
}

void *checker_take(struct checker *checker, void *memory)
{
    if (memory == NULL)
        checker_complain(checker, "config", "no memory");
    return memory;
}

char *checker_copy(struct checker *checker, const char *text)
{
    return text == NULL ? NULL : checker_take(checker, mem_strdup(text));
}

char *checker_copy_lower(struct checker *checker, const char *text)
{
    char *lower = checker_copy(checker, text);
    for (char *p = lower; p != NULL && *p != '\0'; p++)
        *p = (char)tolower((unsigned char)*p);
    return lower;
}

char **checker_copy_texts(struct checker *checker, char **texts, unsigned n, bool lower)
{
    if (n == 0)
        return NULL;
    char **copies = checker_take(checker, mem_zalloc(n * sizeof(*copies)));
    for (unsigned i = 0; copies != NULL && i < n; i++)
        copies[i] = lower ? checker_copy_lower(checker, texts[i]) : checker_copy(checker, texts[i]);
    return copies;
}

void checker_once(struct checker *checker, const char *key, char *const *texts, unsigned index)
{
    for (unsigned i = 0; i < index; i++) {
        if (strcmp(texts[i], texts[index]) == 0)
            checker_complain(checker, key, "'%s' is there twice", texts[index]);
    }
}

void checker_duration(
    struct checker *checker, const char *key, const char *text, uint64_t fallback, uint64_t *ret_ms)
{
    *ret_ms = fallback;
    const char *wrong = text == NULL ? NULL : conf_value_duration(text, ret_ms);
    if (wrong != NULL)
        checker_complain(checker, key, "%s: '%s'", wrong, text);
}

void checker_timeout(
    struct checker *checker, const char *key, const char *text, uint64_t fallback, uint64_t *ret_ms)
{
    checker_duration(checker, key, text, fallback, ret_ms);
    if (*ret_ms == 0)
        checker_complain(checker, key, "must be more than 0");
}

void checker_size(struct checker *checker, const char *key, const char *text, uint32_t fallback,
    uint32_t min, uint32_t *ret_size)
{
    *ret_size = fallback;
    const char *wrong = text == NULL ? NULL : conf_value_size(text, ret_size);
    if (wrong != NULL)
        checker_complain(checker, key, "%s: '%s'", wrong, text);
    else if (*ret_size < min)
        checker_complain(checker, key, "must be at least %u bytes", min);
}

uint64_t checker_number(struct checker *checker, const char *key, const char *text,
    uint64_t fallback, uint64_t min, uint64_t max)
{
    uint64_t value = fallback;
    const char *wrong = text == NULL ? NULL : conf_value_number(text, min, max, &value);
    if (wrong != NULL)
        checker_complain(checker, key, "%s: '%s'", wrong, text);
    return value;
}

void checker_choices(const char *const *names, size_t n, char *out, size_t size)
{
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        const char *between = i == 0 ? "" : i + 1 == n ? " or " : ", ";
        at += (size_t)snprintf(out + at, size - at, "%s%s", between, names[i]);
        at = MIN(at, size - 1);
    }
}

int checker_name(struct checker *checker, const char *key, const char *text,
    const char *const *names, int nnames)
{
    if (text == NULL)
        return 0;
    for (int i = 0; i < nnames; i++) {
        if (strcmp(text, names[i]) == 0)
            return i;
    }
    char choices[200];
    checker_choices(names, (size_t)nnames, choices, sizeof(choices));
    checker_complain(checker, key, "'%s' is not known here: it is %s", text, choices);
    return 0;
}

bool checker_flag(struct checker *checker, const char *key, const char *text)
{
    static const char *const values[] = {"false", "true"};
    return checker_name(checker, key, text, values, ARRAY_LEN(values)) == 1;
}

bool checker_has(const struct checker *checker, const char *parent, const char *key)
{
    char path[CHECKER_PATH_SIZE];
    snprintf(path, sizeof(path), "%s.%s", parent, key);
    return conf_lines_find(checker->lines, path, false) != 0;
}
