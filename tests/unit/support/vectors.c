#include "tests/unit/support/vectors.h"

char *vectors_load(const char *file)
{
    char path[4096];
    const char *folder = getenv("VECTORS");
    snprintf(path, sizeof(path), "%s/%s", folder == NULL ? "proto/vectors" : folder, file);
    FILE *stream = fopen(path, "rb");
    cr_assert_not_null(stream, "cannot open %s", path);
    cr_assert_eq(fseek(stream, 0, SEEK_END), 0);
    long size = ftell(stream);
    cr_assert_geq(size, 0);
    rewind(stream);
    char *text = calloc(1, (size_t)size + 1);
    cr_assert_not_null(text);
    cr_assert_eq(fread(text, 1, (size_t)size, stream), (size_t)size);
    fclose(stream);
    return text;
}

/* Cuts a line off; NULL at the end. */
static char *next_line(char **text)
{
    char *line = *text;
    if (*line == '\0')
        return NULL;
    char *end = strchr(line, '\n');
    if (end == NULL) {
        *text = line + strlen(line);
    } else {
        *end = '\0';
        *text = end + 1;
    }
    return line;
}

bool vectors_next(char **text, struct vector *ret_vector)
{
    struct vector vector = {0};
    char *line;
    while ((line = next_line(text)) != NULL) {
        if (*line == '#')
            continue;
        if (*line == '\0') {
            if (vector.npairs > 0)
                break;
            continue;
        }
        if (line[0] == ' ') {
            /* Joined in place: there is room, since the text between only shrinks. */
            cr_assert(vector.npairs > 0);
            char *value = vector.pairs[vector.npairs - 1].value;
            memmove(value + strlen(value), line + 2, strlen(line + 2) + 1);
            continue;
        }
        char *colon = strchr(line, ':');
        cr_assert_not_null(colon, "no key: %s", line);
        cr_assert_lt(vector.npairs, (size_t)VECTOR_KEYS_MAX);
        *colon = '\0';
        vector.pairs[vector.npairs].key = line;
        vector.pairs[vector.npairs].value = colon + (colon[1] == ' ' ? 2 : 1);
        vector.npairs++;
    }
    *ret_vector = vector;
    return vector.npairs > 0;
}

const char *vectors_nth(const struct vector *vector, const char *key, size_t nth)
{
    for (size_t i = 0; i < vector->npairs; i++) {
        if (strcmp(vector->pairs[i].key, key) == 0 && nth-- == 0)
            return vector->pairs[i].value;
    }
    return NULL;
}

char *vectors_bytes(const char *hex, size_t *ret_n)
{
    size_t n = strlen(hex) / 2;
    char *bytes = malloc(n + (n == 0));
    cr_assert_not_null(bytes);
    for (size_t i = 0; i < n; i++) {
        const char digits[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
        char *end;
        bytes[i] = (char)strtoul(digits, &end, 16);
        cr_assert_eq(*end, '\0', "not hex: %s", digits);
    }
    *ret_n = n;
    return bytes;
}
