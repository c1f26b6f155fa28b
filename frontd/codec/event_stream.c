#include "frontd/codec/event_stream.h"

#include <string.h>
#include <strings.h>

#include "frontd/codec/http1_scan.h"

/* Whether what follows the type in an element of Accept is a weight of 0, or cannot be read. */
static bool is_refused(const char *p, const char *end)
{
    if (skip_parameters(p, end) != end)
        return true;
    for (; p < end; p++) {
        const char *value = p + 3;
        if ((*p == ';' || is_ows(*p)) && end - p > 3 && lower(p[1]) == 'q' && p[2] == '=')
            return strspn(value, "0.") == strcspn(value, "; \t,\r");
    }
    return false;
}

bool event_stream_accepted(const struct http_head *head)
{
    const struct span type = SPAN("text/event-stream");
    for (size_t i = 0; i < head->nfields; i++) {
        struct span list = head->fields[i].value, element;
        if (!same_name(head->fields[i].name, SPAN("accept")))
            continue;
        while (next_element(&list, &element)) {
            struct span name = {element.p, MIN(type.n, element.n)};
            const char *end = element.p + element.n;
            const char *after = element.p + name.n;
            if (same_name(name, type) && (after == end || *after == ';' || is_ows(*after)) &&
                !is_refused(after, end))
                return true;
        }
    }
    return false;
}

bool event_stream_is(struct span fields)
{
    static const char name[] = "content-type:", type[] = "text/event-stream";
    const char *p = fields.p, *end = fields.p + fields.n;
    while (p < end) {
        const char *line_end = memchr(p, '\n', (size_t)(end - p));
        size_t n = (size_t)((line_end == NULL ? end : line_end) - p);
        if (n > sizeof(name) - 1 && strncasecmp(p, name, sizeof(name) - 1) == 0) {
            const char *value = p + sizeof(name) - 1;
            while (*value == ' ' || *value == '\t')
                value++;
            size_t left = (size_t)(p + n - value);
            return left >= sizeof(type) - 1 && strncasecmp(value, type, sizeof(type) - 1) == 0 &&
                   (left == sizeof(type) - 1 || strchr("; \t\r", value[sizeof(type) - 1]) != NULL);
        }
        p += n + 1;
    }
    return false;
}

/* Lines end in LF, CR or CRLF. */
bool event_stream_between(const struct event_stream *stream)
{
    const char *last = stream->last;
    if (!stream->begun)
        return true;
    if (last[2] == '\n')
        return last[1] == '\n' || (last[1] == '\r' && (last[0] == '\n' || last[0] == '\r'));
    return last[2] == '\r' && last[1] == '\r';
}

size_t event_stream_pass(struct event_stream *stream, struct span bytes)
{
    size_t first = 0;
    for (size_t i = 0; i < bytes.n; i++) {
        stream->last[0] = stream->last[1];
        stream->last[1] = stream->last[2];
        stream->last[2] = bytes.p[i];
        stream->begun = true;
        if (first == 0 && event_stream_between(stream))
            first = i + 1;
    }
    return first;
}
