#include "frontd/admin/accept.h"

#include <string.h>
#include <strings.h>

/* One media range: what it takes of the two forms, and how much, in thousandths. */
struct range {
    struct span type; /* "text/plain" */
    struct span version;
    unsigned q;
};

/* How well a range fits a form: the more it says, the better (section 12.5.1); 0: not at all. */
struct fit {
    unsigned precision;
    unsigned q;
};

static struct span trim(struct span text)
{
    while (text.n > 0 && (text.p[0] == ' ' || text.p[0] == '\t')) {
        text.p++;
        text.n--;
    }
    while (text.n > 0 && (text.p[text.n - 1] == ' ' || text.p[text.n - 1] == '\t'))
        text.n--;
    return text;
}

static bool is(struct span text, const char *name)
{
    return text.n == strlen(name) && strncasecmp(text.p, name, text.n) == 0;
}

/* Cuts a text at a byte that is not in quotes; *text: what is behind it. */
static struct span cut(struct span *text, char at)
{
    bool quoted = false;
    size_t i = 0;
    for (; i < text->n && (quoted || text->p[i] != at); i++) {
        if (quoted && text->p[i] == '\\')
            i++;
        else if (text->p[i] == '"')
            quoted = !quoted;
    }
    i = MIN(i, text->n); /* behind an escape */
    struct span first = {text->p, i};
    size_t used = MIN(i + 1, text->n);
    text->p = text->n == 0 ? text->p : text->p + used;
    text->n -= used;
    return trim(first);
}

/* "0.5" in thousandths, at most three digits (section 12.4.2); 1000 for anything else. */
static unsigned read_q(struct span text)
{
    if (text.n == 0 || text.n > 5 || (text.p[0] != '0' && text.p[0] != '1') ||
        (text.n > 1 && text.p[1] != '.'))
        return 1000;
    unsigned q = text.p[0] == '1' ? 1000 : 0;
    unsigned unit = 100;
    for (size_t i = 2; i < text.n; i++, unit /= 10) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return 1000;
        q += (unsigned)(text.p[i] - '0') * unit;
    }
    return MIN(q, 1000U);
}

static struct span unquote(struct span text)
{
    if (text.n >= 2 && text.p[0] == '"' && text.p[text.n - 1] == '"')
        return (struct span){text.p + 1, text.n - 2};
    return text;
}

static struct range read_range(struct span text)
{
    struct range range = {.q = 1000};
    range.type = cut(&text, ';');
    while (text.n > 0) {
        struct span value = cut(&text, ';');
        struct span name = cut(&value, '=');
        value = unquote(trim(value));
        if (is(name, "q"))
            range.q = read_q(value);
        else if (is(name, "version"))
            range.version = value;
    }
    return range;
}

/* version, second: those of the form that are taken for it. */
static void take(struct fit *fit, const struct range *range, const char *type, const char *all,
    const char *version, const char *second)
{
    unsigned precision = 0;
    if (is(range->type, type))
        precision = range->version.n == 0                                       ? 3
                    : is(range->version, version) || is(range->version, second) ? 4
                                                                                : 0;
    else if (is(range->type, all))
        precision = 2;
    else if (is(range->type, "*/*"))
        precision = 1;
    if (precision > fit->precision || (precision == fit->precision && range->q > fit->q))
        *fit = (struct fit){precision, range->q};
}

enum accept_form accept_form(const struct http_head *head)
{
    struct fit text = {0};
    struct fit openmetrics = {0};
    bool asked = false;
    for (size_t i = 0; i < head->nfields; i++) {
        const struct http_field *field = &head->fields[i];
        if (!is(field->name, "accept"))
            continue;
        struct span left = field->value;
        while (left.n > 0) {
            struct range range = read_range(cut(&left, ','));
            if (range.type.n == 0)
                continue;
            asked = true;
            take(&text, &range, "text/plain", "text/*", "0.0.4", "0.0.4");
            take(&openmetrics, &range, "application/openmetrics-text", "application/*", "1.0.0",
                "0.0.1");
        }
    }
    if (!asked)
        return ACCEPT_TEXT;
    unsigned q_text = text.precision > 0 ? text.q : 0;
    unsigned q_openmetrics = openmetrics.precision > 0 ? openmetrics.q : 0;
    if (q_text == 0 && q_openmetrics == 0)
        return ACCEPT_NONE;
    return q_openmetrics > q_text ? ACCEPT_OPENMETRICS : ACCEPT_TEXT;
}

const char *accept_content_type(enum accept_form form)
{
    return form == ACCEPT_OPENMETRICS ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                                      : "text/plain; version=0.0.4; charset=utf-8";
}
