#include "frontd/admin/metrics_line.h"

#include <stdio.h>
#include <string.h>

#include "common/utf8.h"

enum { NUMBER_MAX = 24 /* bytes of a number, in seconds too */ };

struct metrics_line metrics_line_from(char *text, size_t size, const char *labels)
{
    struct metrics_line line = {.text = text, .size = size, .n = strlen(labels)};
    if (line.n + 1 > size)
        line.n = 0;
    memcpy(text, labels, line.n);
    text[line.n] = '\0';
    return line;
}

/* How many bytes the character at p has, at most n; 0: it is not UTF-8. */
static size_t character(const char *p, size_t n)
{
    for (size_t k = 1; k <= 4 && k <= n; k++) {
        if (utf8_valid(p, k))
            return k;
    }
    return 0;
}

/* Escapes a value to `out`, which has room for 5 times as many bytes. Returns how many it has. */
static size_t escape(struct span value, char *out)
{
    static const char digits[] = "0123456789abcdef";
    size_t n = 0;
    for (size_t i = 0; i < value.n;) {
        unsigned char c = (unsigned char)value.p[i];
        size_t k = c >= 0x80 ? character(value.p + i, value.n - i) : 1;
        if (c == '"' || c == '\\' || c == '\n') {
            out[n++] = '\\';
            out[n++] = c == '\n' ? 'n' : (char)c;
        } else if (k == 0 || c < 0x20 || c == 0x7f) {
            memcpy(out + n, "\\\\x", 3);
            out[n + 3] = digits[c >> 4];
            out[n + 4] = digits[c & 15];
            n += 5;
            k = 1;
        } else {
            memcpy(out + n, value.p + i, k);
            n += k;
        }
        i += MAX(k, (size_t)1);
    }
    return n;
}

void metrics_line_label(struct metrics_line *line, const char *name, struct span value)
{
    size_t len = strlen(name);
    if (line->n + len + value.n * 5 + sizeof(",=\"\"") > line->size)
        return;
    if (line->n > 0)
        line->text[line->n++] = ',';
    memcpy(line->text + line->n, name, len);
    line->n += len;
    line->text[line->n++] = '=';
    line->text[line->n++] = '"';
    line->n += escape(value, line->text + line->n);
    line->text[line->n++] = '"';
    line->text[line->n] = '\0';
}

bool metrics_wanted(const struct metrics_out *out, const char *name)
{
    return out->prefix.n == 0 ||
           (strlen(name) >= out->prefix.n && memcmp(name, out->prefix.p, out->prefix.n) == 0);
}

bool metrics_family(
    struct metrics_out *out, enum metrics_type type, const char *name, const char *help)
{
    static const struct {
        const char *text;
        const char *open; /* in OpenMetrics */
        size_t cut;       /* bytes that the family's name has less there */
    } types[] = {
        [METRICS_COUNTER] = {"counter", "counter", sizeof("_total") - 1},
        [METRICS_GAUGE] = {"gauge", "gauge", 0},
        [METRICS_HISTOGRAM] = {"histogram", "histogram", 0},
        [METRICS_INFO] = {"gauge", "info", sizeof("_info") - 1},
    };
    if (!metrics_wanted(out, name))
        return false;
    int n = (int)(strlen(name) - (out->openmetrics ? types[type].cut : 0));
    const char *text = out->openmetrics ? types[type].open : types[type].text;
    if (buf_printf(out->out, "# HELP %.*s %s\n# TYPE %.*s %s\n", n, name, help, n, name, text) < 0)
        out->failed = true;
    return !out->failed;
}

/* Writes a number in decimal digits. Returns how many there are. */
static size_t put_number(char *p, uint64_t number)
{
    char digits[NUMBER_MAX];
    size_t n = 0;
    do {
        digits[n++] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    for (size_t i = 0; i < n; i++)
        p[i] = digits[n - 1 - i];
    return n;
}

static char *put_text(char *p, const char *text, size_t n)
{
    memcpy(p, text, n);
    return p + n;
}

/* A sample but for its number, for which there is room behind it. NULL: there is no memory. */
static char *begin_sample(struct metrics_out *out, const char *name, const char *suffix,
    const char *labels, const char *more, const char *value, char **ret_begin)
{
    size_t name_n = strlen(name);
    size_t suffix_n = strlen(suffix);
    size_t labels_n = strlen(labels);
    size_t more_n = more == NULL ? 0 : strlen(more);
    size_t value_n = more == NULL ? 0 : strlen(value);
    char *p = buf_room(out->out, name_n + suffix_n + labels_n + more_n + value_n + NUMBER_MAX + 16);
    *ret_begin = p;
    if (p == NULL) {
        out->failed = true;
        return NULL;
    }
    p = put_text(p, name, name_n);
    p = put_text(p, suffix, suffix_n);
    if (labels_n > 0 || more != NULL) {
        *p++ = '{';
        p = put_text(p, labels, labels_n);
        if (more != NULL) {
            if (labels_n > 0)
                *p++ = ',';
            p = put_text(p, more, more_n);
            p = put_text(p, "=\"", 2);
            p = put_text(p, value, value_n);
            *p++ = '"';
        }
        *p++ = '}';
    }
    *p++ = ' ';
    return p;
}

static void end_sample(struct metrics_out *out, const char *begin, char *p)
{
    *p++ = '\n';
    buf_added(out->out, (size_t)(p - begin));
}

void metrics_sample(struct metrics_out *out, const char *name, const char *suffix,
    const char *labels, const char *more, const char *value, uint64_t number)
{
    char *begin;
    char *p = begin_sample(out, name, suffix, labels, more, value, &begin);
    if (p != NULL)
        end_sample(out, begin, p + put_number(p, number));
}

void metrics_sample_us(
    struct metrics_out *out, const char *name, const char *suffix, const char *labels, uint64_t us)
{
    enum { PLACES = 6 };
    char *begin;
    char *p = begin_sample(out, name, suffix, labels, NULL, NULL, &begin);
    if (p == NULL)
        return;
    p += put_number(p, us / 1000000);
    *p++ = '.';
    uint64_t rest = us % 1000000;
    for (unsigned i = PLACES; i-- > 0; rest /= 10)
        p[i] = (char)('0' + rest % 10);
    end_sample(out, begin, p + PLACES);
}

void metrics_end(struct metrics_out *out)
{
    if (buf_append(out->out, "# EOF\n", 6) < 0)
        out->failed = true;
}
