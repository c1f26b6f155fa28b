#include "frontd/codec/access_line.h"

#include <string.h>

enum {
    ESCAPED_MAX = 6, /* bytes that one byte becomes: \u00xx */
    MEMBER_MAX = 20, /* bytes of a member besides its value: a comma, its name, quotes */
};

static const struct {
    struct span name;
    bool number;
} fields[ACCESS_FIELDS_COUNT] = {
#define ACCESS_ROW(name, number) {{#name, sizeof(#name) - 1}, number},
    ACCESS_FIELDS(ACCESS_ROW)
#undef ACCESS_ROW
};

static int find_field(const char *name, size_t n)
{
    for (int i = 0; i < ACCESS_FIELDS_COUNT; i++) {
        if (fields[i].name.n == n && memcmp(fields[i].name.p, name, n) == 0)
            return i;
    }
    return -1;
}

/* Reads "$$" or "${name}" at p. Returns NULL with the rest and the field (-1: a dollar), or what is
 * wrong. */
static const char *read_dollar(const char *p, const char **ret_rest, int *ret_field)
{
    if (p[1] == '$') {
        *ret_field = -1;
        *ret_rest = p + 2;
        return NULL;
    }
    const char *end = p[1] == '{' ? strchr(p, '}') : NULL;
    if (end == NULL)
        return "a field is written as ${name}, and $$ is a dollar";
    *ret_field = find_field(p + 2, (size_t)(end - p) - 2);
    *ret_rest = end + 1;
    return *ret_field < 0 ? "there is no such field" : NULL;
}

const char *access_format_read(
    const char *format, struct access_part ret_parts[static ACCESS_PARTS_MAX], size_t *ret_n)
{
    size_t n = 0;
    const char *begin = format;
    if (strlen(format) > ACCESS_FORMAT_MAX)
        return "at most 1024 bytes";
    for (const char *p = format; *p != '\0';) {
        if ((unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7f)
            return "only printable ASCII";
        if (*p != '$') {
            p++;
            continue;
        }
        const char *rest;
        int field;
        const char *wrong = read_dollar(p, &rest, &field);
        if (wrong != NULL)
            return wrong;
        if (n == ACCESS_PARTS_MAX - 1)
            return "it has too many parts";
        size_t text = (size_t)(p - begin) + (field < 0); /* with the first of "$$" */
        ret_parts[n++] = (struct access_part){{begin, text}, field};
        begin = p = rest;
    }
    if (*begin != '\0' || n == 0)
        ret_parts[n++] = (struct access_part){{begin, strlen(begin)}, -1};
    *ret_n = n;
    return NULL;
}

struct line {
    char *out;
    size_t n;
};

static void put(struct line *line, struct span text)
{
    if (text.n > 0)
        memcpy(line->out + line->n, text.p, text.n);
    line->n += text.n;
}

/* Puts a value, as much of it as leaves `reserve` bytes of the line. */
static void put_value(struct line *line, struct span value, size_t reserve, bool json)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < value.n && line->n + ESCAPED_MAX + reserve <= ACCESS_LINE_MAX; i++) {
        unsigned char c = (unsigned char)value.p[i];
        if (c == '"' || c == '\\') {
            line->out[line->n++] = '\\';
            line->out[line->n++] = (char)c;
        } else if (c >= 0x20 && c < 0x7f) {
            line->out[line->n++] = (char)c;
        } else {
            put(line, json ? SPAN("\\u00") : SPAN("\\x"));
            line->out[line->n++] = digits[c >> 4];
            line->out[line->n++] = digits[c & 15];
        }
    }
}

static void put_json(struct line *line, const struct span *values)
{
    char next = '{';
    for (size_t i = 0; i < ACCESS_FIELDS_COUNT; i++) {
        size_t reserve = (ACCESS_FIELDS_COUNT - i) * MEMBER_MAX;
        if (values[i].n == 0)
            continue;
        line->out[line->n++] = next;
        next = ',';
        put(line, SPAN("\""));
        put(line, fields[i].name);
        put(line, fields[i].number ? SPAN("\":") : SPAN("\":\""));
        put_value(line, values[i], reserve, true);
        if (!fields[i].number)
            put(line, SPAN("\""));
    }
    put(line, next == '{' ? SPAN("{}") : SPAN("}"));
}

size_t access_line_write(const struct access_part *parts, size_t n,
    const struct span values[static ACCESS_FIELDS_COUNT], char out[static ACCESS_LINE_MAX])
{
    struct line line = {.out = out};
    size_t reserve = 1; /* the newline, and all text that is still to come */
    if (n == 0)
        put_json(&line, values);
    for (size_t i = 0; i < n; i++)
        reserve += parts[i].text.n + (parts[i].field >= 0);
    for (size_t i = 0; i < n; i++) {
        put(&line, parts[i].text);
        reserve -= parts[i].text.n + (parts[i].field >= 0);
        if (parts[i].field < 0)
            continue;
        if (values[parts[i].field].n == 0)
            put(&line, SPAN("-"));
        else
            put_value(&line, values[parts[i].field], reserve, false);
    }
    put(&line, SPAN("\n"));
    return line.n;
}
