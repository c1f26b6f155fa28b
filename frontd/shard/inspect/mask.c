#include "frontd/shard/inspect/mask.h"

#include <string.h>
#include <strings.h>

/* A name that has one of these in it, in upper or lower case. */
static const struct span secrets[] = {
    {"password", 8},
    {"passwd", 6},
    {"passphrase", 10},
    {"pwd", 3},
    {"secret", 6},
    {"token", 5},
    {"authorization", 13},
    {"cookie", 6},
    {"credential", 10},
    {"api-key", 7},
    {"api_key", 7},
    {"apikey", 6},
    {"private_key", 11},
    {"privatekey", 10},
    {"session_id", 10},
    {"sessionid", 9},
};

static bool contains(struct span text, struct span word)
{
    for (size_t i = 0; i + word.n <= text.n; i++) {
        if (strncasecmp(text.p + i, word.p, word.n) == 0)
            return true;
    }
    return false;
}

bool mask_is_secret(struct span name)
{
    for (size_t i = 0; i < ARRAY_LEN(secrets); i++) {
        if (contains(name, secrets[i]))
            return true;
    }
    return false;
}

static bool is_white(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void hide(char *from, const char *to)
{
    for (; from < to; from++) {
        if (*from != '\r' && *from != '\n')
            *from = '*';
    }
}

/* ---- JSON ---------------------------------------------------------------------------------- */

/* The quote that ends the string which begins at `p`; `end` where there is none. */
static char *find_quote(char *p, char *end)
{
    for (p++; p < end && *p != '"'; p++)
        p += *p == '\\';
    return MIN(p, end);
}

static char *skip_string(char *p, char *end)
{
    return MIN(find_quote(p, end) + 1, end);
}

/* Behind the value that begins at `p`, by its brackets alone. */
static char *skip_value(char *p, char *end)
{
    size_t depth = 0;
    while (p < end) {
        if (*p == '"') {
            p = skip_string(p, end);
        } else if (depth == 0 && (*p == ',' || *p == '}' || *p == ']' || is_white(*p))) {
            return p;
        } else {
            depth += *p == '{' || *p == '[';
            depth -= *p == '}' || *p == ']';
            p++;
        }
        if (depth == 0 && (p[-1] == '"' || p[-1] == '}' || p[-1] == ']'))
            return p;
    }
    return end;
}

/* What can be written in another way may be a secret's name. */
static bool is_secret_key(struct span key)
{
    return memchr(key.p, '\\', key.n) != NULL || mask_is_secret(key);
}

static void hide_value(char *p, char *end)
{
    if (*p == '"')
        hide(p + 1, find_quote(p, end));
    else
        hide(p, end);
}

void mask_json(char *text, size_t n)
{
    char *p = text;
    char *end = text + n;
    while (p < end) {
        if (*p != '"') {
            p++;
            continue;
        }
        char *key = p + 1;
        p = skip_string(p, end);
        size_t key_n = (size_t)(p - key) - (p > key && p[-1] == '"');
        while (p < end && is_white(*p))
            p++;
        if (p == end || *p != ':')
            continue; /* it is no key */
        for (p++; p < end && is_white(*p); p++)
            ;
        if (p == end || !is_secret_key((struct span){key, key_n}))
            continue; /* the value may have members of its own */
        char *value = p;
        p = skip_value(p, end);
        if (p == value) /* a lone bracket: something is wrong */
            p++;
        hide_value(value, p);
    }
}

/* ---- HTTP ---------------------------------------------------------------------------------- */

static char *find(char *p, char *end, char c)
{
    char *found = p < end ? memchr(p, c, (size_t)(end - p)) : NULL;
    return found == NULL ? end : found;
}

/* Parameters with secret names in a line: "?name=value&name=value". */
static void mask_query(char *p, char *end)
{
    p = find(p, end, '?');
    while (p < end) {
        char *name = ++p;
        while (p < end && *p != '=' && *p != '&' && !is_white(*p))
            p++;
        struct span of = {name, (size_t)(p - name)};
        char *value = p;
        while (p < end && *p != '&' && !is_white(*p))
            p++;
        if (value < p && (mask_is_secret(of) || memchr(of.p, '%', of.n) != NULL))
            hide(value + 1, p);
        if (p < end && *p != '&')
            return;
    }
}

/* What follows the name of a scheme of authentication, wherever it stands in a line. */
static void mask_schemes(char *p, char *end)
{
    static const struct span schemes[] = {{"bearer ", 7}, {"basic ", 6}, {"digest ", 7}};
    for (; p < end; p++) {
        for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
            if ((size_t)(end - p) > schemes[i].n &&
                strncasecmp(p, schemes[i].p, schemes[i].n) == 0) {
                hide(p + schemes[i].n, end);
                return;
            }
        }
    }
}

/* A field with a secret name; one without a colon is hidden behind its first word. */
static bool mask_field(char *line, char *end)
{
    char *p = line;
    while (p < end && *p != ':' && *p != ' ' && *p != '\t')
        p++;
    if (!mask_is_secret((struct span){line, (size_t)(p - line)}))
        return false;
    hide(MIN(p + 1, end), end);
    return true;
}

void mask_http(char *text, size_t n)
{
    char *end = text + n;
    bool hidden = false; /* the line before was */
    bool first = true;
    for (char *line = text; line < end;) {
        char *stop = find(line, end, '\n');
        char *next = MIN(stop + 1, end);
        while (stop > line && stop[-1] == '\r')
            stop--;
        if (stop == line && !first) { /* the head has ended */
            mask_json(next, (size_t)(end - next));
            return;
        }
        if (first && stop > line) {
            mask_query(line, stop);
            first = false;
        } else if (hidden && (*line == ' ' || *line == '\t')) {
            hide(line, stop); /* it goes on: RFC 9112 section 5.2 */
        } else {
            hidden = mask_field(line, stop);
        }
        mask_schemes(line, stop);
        line = next;
    }
}
