#include "frontd/codec/coded_answer.h"

#include "frontd/codec/http1_scan.h"

struct line {
    struct span name;
    struct span value; /* without white space around it */
    struct span text;  /* all of it, without its CRLF */
};

/* Takes the first line off `fields`; false: there is none left. */
static bool next_line(struct span *fields, struct line *ret_line)
{
    if (fields->n == 0)
        return false;
    const char *end = fields->p + fields->n;
    const char *cr = memchr(fields->p, '\r', fields->n);
    const char *last = cr == NULL ? end : cr;
    const char *colon = memchr(fields->p, ':', (size_t)(last - fields->p));
    const char *value = colon == NULL ? last : skip_ows(colon + 1, last), *value_end = last;
    while (value_end > value && is_ows(value_end[-1]))
        value_end--;
    *ret_line = (struct line){
        .name = span_of(fields->p, colon == NULL ? last : colon),
        .value = span_of(value, value_end),
        .text = span_of(fields->p, last),
    };
    *fields = span_of(end - last < 2 ? end : last + 2, end);
    return true;
}

/* Whether an element of a list is, or begins with, a name and `=`. */
static bool list_has(struct span list, struct span name)
{
    struct span element;
    while (next_element(&list, &element)) {
        const char *end = element.p + element.n;
        if (same_name(span_of(element.p, skip_class(element.p, end, HTTP1_TOKEN)), name))
            return true;
    }
    return false;
}

struct coded_answer coded_answer_look(struct span fields)
{
    static const struct span fixed[] = {{"content-encoding", 16}, {"content-range", 13},
        {"content-md5", 11}, {"digest", 6}, {"content-digest", 14}, {"repr-digest", 11}};
    struct coded_answer look = {0};
    struct line line;
    while (next_line(&fields, &line)) {
        if (same_name(line.name, SPAN("content-type"))) {
            const char *semicolon = memchr(line.value.p, ';', line.value.n);
            look.type = line.value;
            if (semicolon != NULL)
                look.type.n = (size_t)(semicolon - line.value.p);
            while (look.type.n > 0 && is_ows(look.type.p[look.type.n - 1]))
                look.type.n--;
        }
        for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
            look.fixed |= same_name(line.name, fixed[i]);
        if (same_name(line.name, SPAN("cache-control")))
            look.fixed |= list_has(line.value, SPAN("no-transform"));
    }
    return look;
}

bool coded_answer_fits(struct span type, struct span pattern)
{
    if (pattern.n >= 2 && memcmp(pattern.p + pattern.n - 2, "/*", 2) == 0) {
        pattern.n--; /* the slash has to be there, and something behind it */
        return type.n > pattern.n && same_name((struct span){type.p, pattern.n}, pattern);
    }
    return same_name(type, pattern);
}

static int append(struct buf *out, struct span text)
{
    return text.n == 0 ? 0 : buf_append(out, text.p, text.n);
}

static bool is_strong(struct span etag)
{
    return etag.n > 0 && etag.p[0] == '"';
}

/* Whether a Vary field says that the answer depends on Accept-Encoding already. */
static bool varies(struct span fields)
{
    struct line line;
    while (next_line(&fields, &line)) {
        if (same_name(line.name, SPAN("vary")) &&
            (list_has(line.value, SPAN("accept-encoding")) || list_has(line.value, SPAN("*"))))
            return true;
    }
    return false;
}

int coded_answer_write(
    struct span fields, enum content_coding coding, bool has_body, struct buf *out)
{
    const bool coded = coding != CODING_IDENTITY;
    bool vary = varies(fields);
    struct line line;
    int r = 0;
    while (r == 0 && next_line(&fields, &line)) {
        if (coded && same_name(line.name, SPAN("accept-ranges")))
            continue;
        if (coded && same_name(line.name, SPAN("etag")) && is_strong(line.value)) {
            r = append(out, SPAN("ETag: W/"));
            r = r < 0 ? r : append(out, line.value);
        } else {
            r = append(out, line.text);
        }
        if (r == 0 && !vary && line.value.n > 0 && same_name(line.name, SPAN("vary"))) {
            r = append(out, SPAN(", Accept-Encoding"));
            vary = true;
        }
        if (r == 0)
            r = append(out, SPAN("\r\n"));
    }
    if (r == 0 && !vary)
        r = append(out, SPAN("Vary: Accept-Encoding\r\n"));
    if (r == 0 && coded && has_body)
        r = append(out, coding == CODING_BR ? SPAN("Content-Encoding: br\r\n")
                                            : SPAN("Content-Encoding: gzip\r\n"));
    return r;
}
