#include "frontd/codec/http1_head.h"

#include <string.h>

#include "frontd/codec/authority.h"
#include "frontd/codec/http1_fields.h"
#include "frontd/codec/http1_scan.h"

/*
 * One pass from left to right. Whether to refuse is decided at a byte, by that byte and those
 * before it, so the result is the same however the head was split on its way here.
 */

/* ---- Request line: RFC 9112 section 3 ----------------------------------------------------- */

/* RFC 9112 section 2.2: a client may send a stray CRLF after a body. */
static int skip_empty_lines(struct http1_parse *parse)
{
    while (parse->p < parse->end && *parse->p == '\r') {
        const int r = http1_parse_crlf(parse);
        if (r != 0)
            return r;
    }
    return parse->p == parse->end ? HTTP1_E_MORE : 0;
}

static inline int parse_method(struct http1_parse *parse)
{
    const char *start = parse->p;
    const char *p = skip_class(start, parse->end, HTTP1_TOKEN);
    if (p == parse->end)
        return HTTP1_E_MORE;
    if (*p != ' ' || p == start)
        return 400;
    parse->head->http.method_text = span_of(start, p);
    parse->head->http.method = (uint8_t)http_method_of(parse->head->http.method_text);
    parse->p = p + 1;
    return 0;
}

static inline void split_query(struct http1_head *head, const char *path, const char *end)
{
    const char *mark = memchr(path, '?', (size_t)(end - path));
    head->http.path = span_of(path, mark == NULL ? end : mark);
    head->http.query = span_of(mark == NULL ? end : mark + 1, end);
}

/*
 * "http://" or "https://" at the start of the target, its length in *ret_n. Another scheme is no
 * resource of an origin server (RFC 9110 section 4.2); WebSocket has none of its own here (RFC
 * 6455 section 4.1).
 */
static int match_scheme(struct span target, bool complete, size_t *ret_n)
{
    static const struct span schemes[] = {{"http://", 7}, {"https://", 8}};
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
        const size_t n = MIN(target.n, schemes[i].n);
        if (!same_name((struct span){target.p, n}, (struct span){schemes[i].p, n}))
            continue;
        if (n == schemes[i].n) {
            *ret_n = n;
            return 0;
        }
        if (!complete)
            return HTTP1_E_MORE;
    }
    return 400;
}

static int take_absolute(struct http1_head *head, bool complete)
{
    const char *end = head->target.p + head->target.n;
    size_t scheme;
    const int r = match_scheme(head->target, complete, &scheme);
    if (r != 0 || !complete)
        return r;

    const char *start = head->target.p + scheme, *path = start;
    unsigned port;
    while (path < end && *path != '/' && *path != '?')
        path++;
    head->http.form = HTTP_ABSOLUTE;
    head->http.authority = span_of(start, path);
    if (!authority_parse(head->http.authority, &port))
        return 400;
    split_query(head, path, end);
    if (head->http.path.n == 0) /* an empty path is "/", which the byte before the authority is */
        head->http.path = (struct span){start - 1, 1};
    return 0;
}

/* RFC 9110 section 9.3.6: there has to be a port, and not 0. */
static int take_connect(struct http1_head *head, bool complete)
{
    unsigned port = 0;
    if (!complete)
        return HTTP1_E_MORE;
    head->http.form = HTTP_AUTHORITY;
    head->http.authority = head->target;
    head->http.path = head->http.query = (struct span){head->target.p, 0};
    return authority_parse(head->http.authority, &port) && port != 0 ? 0 : 400;
}

static int take_asterisk(struct http1_head *head)
{
    head->http.form = HTTP_ASTERISK;
    head->http.path = head->http.query = (struct span){head->target.p, 0};
    return head->http.method == HTTP_OPTIONS && head->target.n == 1 ? 0 : 400;
}

/*
 * RFC 9112 section 3.2. Of the bytes that RFC 3986 does not allow, those pass that all recipients
 * read in the same way ('"', '|', '{' ...; browsers send them); a fragment does not.
 */
static inline int parse_target(struct http1_parse *parse)
{
    struct http1_head *head = parse->head;
    const char *start = parse->p;
    const char *p = skip_target(start, parse->end);
    const bool complete = p < parse->end;
    if (complete && (*p != ' ' || p == start))
        return 400;
    if (p == start)
        return HTTP1_E_MORE;

    int r = 0;
    head->target = span_of(start, p);
    head->http.authority = (struct span){start, 0};
    if (head->http.method == HTTP_CONNECT) {
        r = take_connect(head, complete);
    } else if (LIKELY(*start == '/')) {
        head->http.form = HTTP_ORIGIN;
        split_query(head, start, p);
    } else if (*start == '*') {
        r = take_asterisk(head);
    } else {
        r = take_absolute(head, complete);
    }
    if (r != 0)
        return r;
    parse->p = p + 1;
    return complete ? 0 : HTTP1_E_MORE;
}

/* HTTP-version CRLF: RFC 9112 section 2.3. */
static inline int parse_version(struct http1_parse *parse)
{
    static const char form[] = "HTTP/0.0\r\n"; /* '0' stands for any digit */
    const size_t size = sizeof(form) - 1, n = (size_t)(parse->end - parse->p);
    const char *p = parse->p;
    if (LIKELY(n >= size && memcmp(p, "HTTP/1.1\r\n", size) == 0)) {
        parse->head->minor = 1;
        parse->p += size;
        return 0;
    }
    for (size_t i = 0; i < MIN(n, size); i++)
        if (form[i] == '0' ? !http1_is(p[i], HTTP1_DIGIT) : p[i] != form[i])
            return 400;
    if (n < size)
        return HTTP1_E_MORE;
    if (p[5] != '1')
        return 505;
    parse->head->minor = p[7] != '0'; /* a later 1.x is served as 1.1: RFC 9110 section 2.5 */
    parse->p += size;
    return 0;
}

static inline int parse_request_line(struct http1_parse *parse)
{
    int r = skip_empty_lines(parse);
    if (r == 0)
        r = parse_method(parse);
    if (r == 0)
        r = parse_target(parse);
    if (r == 0)
        r = parse_version(parse);
    return r;
}

/*
 * RFC 9112 section 3.2.2: the authority of the target wins, and Host is replaced by it. So a
 * worker, a hash or a check of origins that reads the field sees the name that the request was
 * routed by.
 */
static inline void settle_authority(struct http1_parse *parse)
{
    struct http1_head *head = parse->head;
    if (LIKELY(head->http.authority.n == 0)) {
        if (parse->has_host)
            head->http.authority = parse->host;
        return;
    }
    for (size_t i = 0; i < head->http.nfields; i++)
        if (head->http.fields[i].known == HTTP_F_HOST)
            head->http.fields[i].value = head->http.authority;
}

/* The checks for which the whole head is needed. */
static inline int conclude(struct http1_parse *parse)
{
    struct http1_head *head = parse->head;
    if (!parse->has_host && head->minor != 0)
        return 400;
    if (parse->has_coding && !parse->last_chunked)
        return 400;
    if (parse->other_coding)
        return 501;
    head->http.may_upgrade = head->minor != 0;
    head->http.websocket = false;
    head->chunked = parse->has_coding;
    head->keep_alive = !parse->close && (head->minor != 0 || parse->keep_alive);
    settle_authority(parse);
    if (parse->names_a_field)
        http1_fields_mark_named(&head->http);
    return 0;
}

int http1_head_parse(const char *p, size_t n, const struct http1_limits *limits,
    struct http1_head *ret_head, size_t *ret_used)
{
    CHECK(limits->fields <= HTTP_FIELDS_MAX);
    ret_head->http.method = HTTP_OTHER;
    if (n == 0)
        return HTTP1_E_MORE;

    struct http1_parse parse = {.p = p, .end = p + MIN(n, limits->head_bytes), .head = ret_head};
    const bool full = n >= limits->head_bytes; /* no further byte is looked at */
    ret_head->has_length = false;
    ret_head->http.expect_continue = false;
    ret_head->http.content_coded = false;
    ret_head->content_length = 0;

    int r = parse_request_line(&parse);
    if (r != 0)
        return r == HTTP1_E_MORE && full ? 414 : r;
    r = http1_fields_parse(&parse, limits->fields);
    if (r != 0)
        return r == HTTP1_E_MORE && full ? 431 : r;
    r = conclude(&parse);
    if (r != 0)
        return r;
    ret_head->text = span_of(p, parse.p);
    *ret_used = ret_head->text.n;
    return 0;
}
