#include "frontd/codec/http1_head.h"

#include <arpa/inet.h>
#include <string.h>

#include "frontd/codec/http1_scan.h"

/*
 * One pass from left to right. Whether to refuse is decided at a byte from what stands before it
 * only, so a head gives the same answer however it was split on its way here.
 */

enum {
    /*
     * Names in all Connection fields together; past it, 431. Each is looked for among all fields:
     * without a limit the cost of a head would grow with the square of its size.
     */
    OPTIONS_MAX = 32,
};

/* RFC 9110 section 7.6.1, and Proxy-Connection, which is no standard but is sent */
static const uint32_t hop_by_hop = 1U << HTTP1_F_CONNECTION | 1U << HTTP1_F_KEEP_ALIVE |
                                   1U << HTTP1_F_PROXY_CONNECTION | 1U << HTTP1_F_TE |
                                   1U << HTTP1_F_TRAILER | 1U << HTTP1_F_TRANSFER_ENCODING |
                                   1U << HTTP1_F_UPGRADE | 1U << HTTP1_F_PROXY_AUTHENTICATE |
                                   1U << HTTP1_F_PROXY_AUTHORIZATION;

/* What the fields say together, judged when the last of them has been read. */
struct parse {
    const char *p;   /* the next byte */
    const char *end; /* of the input, or of what the limit allows */
    struct http1_head *head;
    struct span host;
    uint32_t options;   /* names in Connection fields so far */
    bool has_host;      /* a Host field was read */
    bool has_coding;    /* a Transfer-Encoding field was read */
    bool other_coding;  /* a transfer coding other than chunked was read */
    bool last_chunked;  /* the last transfer coding so far is chunked */
    bool close;         /* Connection: close */
    bool keep_alive;    /* Connection: keep-alive */
    bool names_a_field; /* Connection has an option that may be the name of a field */
};

/* CRLF and nothing else ends a line (RFC 9112 section 2.2 would let a bare LF pass). */
static inline int parse_crlf(struct parse *parse)
{
    if (parse->p == parse->end)
        return HTTP1_E_MORE;
    if (*parse->p != '\r')
        return 400;
    if (parse->p + 1 == parse->end)
        return HTTP1_E_MORE;
    if (parse->p[1] != '\n')
        return 400;
    parse->p += 2;
    return 0;
}

/* ---- Host and authority: RFC 3986 section 3.2 --------------------------------------------- */

/* *DIGIT, and a port that exists: two readers may take 65616 for two different numbers. */
static bool parse_port(const char *p, const char *end, unsigned *ret_port)
{
    unsigned port = 0;
    for (; p < end; p++) {
        if (!http1_is(*p, HTTP1_DIGIT))
            return false;
        port = port * 10 + (unsigned)(*p - '0');
        if (port > 65535)
            return false;
    }
    *ret_port = port;
    return true;
}

/* What follows '[': the byte after ']', or NULL. A zone (RFC 6874) or IPvFuture is refused. */
static const char *skip_ipv6(const char *p, const char *end)
{
    const char *close = memchr(p, ']', (size_t)(end - p));
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;
    if (close == NULL || (size_t)(close - p) >= sizeof(text))
        return NULL;
    memcpy(text, p, (size_t)(close - p));
    text[close - p] = '\0';
    return inet_pton(AF_INET6, text, &address) == 1 ? close + 1 : NULL;
}

/* The byte after the reg-name or IPv4 address, or NULL. */
static const char *skip_reg_name(const char *p, const char *end)
{
    for (;;) {
        p = skip_class(p, end, HTTP1_HOST);
        if (p == end || *p != '%')
            return p;
        if (end - p < 3 || !http1_is(p[1], HTTP1_HEXDIG) || !http1_is(p[2], HTTP1_HEXDIG))
            return NULL;
        p += 3;
    }
}

/* host [ ":" port ], without userinfo; *ret_port is 0 where there is none. */
static bool parse_authority(struct span authority, unsigned *ret_port)
{
    const char *start = authority.p, *end = authority.p + authority.n;
    if (authority.n == 0)
        return false;
    const char *p = *start == '[' ? skip_ipv6(start + 1, end) : skip_reg_name(start, end);
    if (p == NULL || p == start)
        return false;
    *ret_port = 0;
    return p == end || (*p == ':' && parse_port(p + 1, end, ret_port));
}

/* ---- Request line: RFC 9112 section 3 ----------------------------------------------------- */

/* RFC 9112 section 2.2: a client may send a stray CRLF after a body. */
static int skip_empty_lines(struct parse *parse)
{
    while (parse->p < parse->end && *parse->p == '\r') {
        const int r = parse_crlf(parse);
        if (r != 0)
            return r;
    }
    return parse->p == parse->end ? HTTP1_E_MORE : 0;
}

/* Methods are case-sensitive: RFC 9110 section 9.1. */
static inline int method_of(struct span text)
{
#define IS(literal) (memcmp(text.p, literal, sizeof(literal) - 1) == 0)
    switch (text.n) {
    case 3: return IS("GET") ? HTTP1_GET : IS("PUT") ? HTTP1_PUT : HTTP1_OTHER;
    case 4: return IS("POST") ? HTTP1_POST : IS("HEAD") ? HTTP1_HEAD : HTTP1_OTHER;
    case 5: return IS("PATCH") ? HTTP1_PATCH : IS("TRACE") ? HTTP1_TRACE : HTTP1_OTHER;
    case 6: return IS("DELETE") ? HTTP1_DELETE : HTTP1_OTHER;
    case 7: return IS("OPTIONS") ? HTTP1_OPTIONS : IS("CONNECT") ? HTTP1_CONNECT : HTTP1_OTHER;
    default: return HTTP1_OTHER;
    }
#undef IS
}

static inline int parse_method(struct parse *parse)
{
    const char *start = parse->p;
    const char *p = skip_class(start, parse->end, HTTP1_TOKEN);
    if (p == parse->end)
        return HTTP1_E_MORE;
    if (*p != ' ' || p == start)
        return 400;
    parse->head->method_text = span_of(start, p);
    parse->head->method = (uint8_t)method_of(parse->head->method_text);
    parse->p = p + 1;
    return 0;
}

static inline void split_query(struct http1_head *head, const char *path, const char *end)
{
    const char *mark = memchr(path, '?', (size_t)(end - path));
    head->path = span_of(path, mark == NULL ? end : mark);
    head->query = span_of(mark == NULL ? end : mark + 1, end);
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
    head->form = HTTP1_ABSOLUTE;
    head->authority = span_of(start, path);
    if (!parse_authority(head->authority, &port))
        return 400;
    split_query(head, path, end);
    if (head->path.n == 0) /* then it is "/", and the byte before the authority is one */
        head->path = (struct span){start - 1, 1};
    return 0;
}

/* RFC 9110 section 9.3.6: a port that can be connected to has to be there. */
static int take_connect(struct http1_head *head, bool complete)
{
    unsigned port = 0;
    if (!complete)
        return HTTP1_E_MORE;
    head->form = HTTP1_AUTHORITY;
    head->authority = head->target;
    head->path = head->query = (struct span){head->target.p, 0};
    return parse_authority(head->authority, &port) && port != 0 ? 0 : 400;
}

static int take_asterisk(struct http1_head *head)
{
    head->form = HTTP1_ASTERISK;
    head->path = head->query = (struct span){head->target.p, 0};
    return head->method == HTTP1_OPTIONS && head->target.n == 1 ? 0 : 400;
}

/*
 * RFC 9112 section 3.2. Of the bytes that RFC 3986 does not allow, those that no two readers see
 * differently pass ('"', '|', '{' ...; browsers send them); a fragment does not.
 */
static inline int parse_target(struct parse *parse)
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
    head->authority = (struct span){start, 0};
    if (head->method == HTTP1_CONNECT) {
        r = take_connect(head, complete);
    } else if (LIKELY(*start == '/')) {
        head->form = HTTP1_ORIGIN;
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
static inline int parse_version(struct parse *parse)
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

static inline int parse_request_line(struct parse *parse)
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

/* ---- Fields that the codec has to know ---------------------------------------------------- */

/* RFC 9112 section 3.2. An empty one is what a client sends whose target has no authority. */
static int take_host(struct parse *parse, struct span value)
{
    unsigned port;
    if (parse->has_host || (value.n > 0 && !parse_authority(value, &port)))
        return 400;
    parse->has_host = true;
    parse->host = value;
    return 0;
}

/*
 * RFC 9112 section 6.3 lets a list of equal numbers pass; here it is refused, and so is a second
 * field, since those who take the first and those who take the last would disagree.
 */
static int take_content_length(struct parse *parse, struct span value)
{
    uint64_t length = 0;
    if (value.n == 0 || parse->head->has_length || parse->has_coding)
        return 400;
    for (size_t i = 0; i < value.n; i++) {
        if (!http1_is(value.p[i], HTTP1_DIGIT))
            return 400;
        const unsigned digit = (unsigned)(value.p[i] - '0');
        if (__builtin_mul_overflow(length, 10, &length) ||
            __builtin_add_overflow(length, digit, &length))
            return 400;
    }
    parse->head->has_length = true;
    parse->head->content_length = length;
    return 0;
}

/*
 * RFC 9112 section 6.1. Empty elements of the list, which RFC 9110 would have ignored, are refused:
 * ", chunked" is what others are known to read in another way. So are parameters of chunked, which
 * has none (section 7.1).
 */
static int take_transfer_encoding(struct parse *parse, struct span value)
{
    const char *p = value.p, *end = value.p + value.n;
    if (parse->head->minor == 0 || parse->head->has_length)
        return 400;
    parse->has_coding = true;
    for (;; p = skip_ows(p + 1, end)) {
        const char *after = skip_class(p, end, HTTP1_TOKEN);
        const struct span name = span_of(p, after);
        const bool chunked = name.n == 7 && IS_NAME(name, "chunked");
        if (name.n == 0 || parse->last_chunked)
            return 400;
        if (chunked)
            parse->last_chunked = true;
        else
            parse->other_coding = true;
        const bool bare = after == end || *after != ';';
        p = skip_parameters(after, end);
        if (p == NULL || (chunked && !bare))
            return 400;
        if (p == end)
            return 0;
        if (*p != ',')
            return 400;
    }
}

/* RFC 9110 section 7.6.1 */
static int take_connection(struct parse *parse, struct span value)
{
    struct span option;
    while (next_element(&value, &option)) {
        const char *end = option.p + option.n;
        if (skip_class(option.p, end, HTTP1_TOKEN) != end)
            return 400;
        if (parse->options++ == OPTIONS_MAX)
            return 431;
        if (option.n == 5 && IS_NAME(option, "close"))
            parse->close = true;
        else if (option.n == 10 && IS_NAME(option, "keep-alive"))
            parse->keep_alive = true;
        else
            parse->names_a_field = true;
    }
    return 0;
}

/* RFC 9110 section 10.1.1; HTTP/1.0 knows no 100 (Continue), so it is not told. */
static int take_expect(struct parse *parse, struct span value)
{
    static const struct span expectation = {"100-continue", 12};
    struct span element;
    while (next_element(&value, &element)) {
        if (!same_name(element, expectation))
            return 417;
        parse->head->expect_continue = parse->head->minor != 0;
    }
    return 0;
}

/* RFC 9110 section 8.4. identity is no coding, but it is sent (section 8.4.1). */
static void take_content_encoding(struct parse *parse, struct span value)
{
    struct span element;
    while (next_element(&value, &element))
        parse->head->content_coded |= !same_name(element, SPAN("identity"));
}

static inline int take_known(struct parse *parse, int known, struct span value)
{
    switch (known) {
    case HTTP1_F_HOST: return take_host(parse, value);
    case HTTP1_F_CONTENT_LENGTH: return take_content_length(parse, value);
    case HTTP1_F_TRANSFER_ENCODING: return take_transfer_encoding(parse, value);
    case HTTP1_F_CONNECTION: return take_connection(parse, value);
    case HTTP1_F_EXPECT: return take_expect(parse, value);
    case HTTP1_F_CONTENT_ENCODING: take_content_encoding(parse, value); return 0;
    default: return 0;
    }
}

/* ---- Fields: RFC 9112 section 5 ----------------------------------------------------------- */

static inline int known_name(struct span name)
{
    switch (name.n) {
    case 2: return lower(name.p[0]) == 't' && lower(name.p[1]) == 'e' ? HTTP1_F_TE : HTTP1_F_OTHER;
    case 4: return IS_NAME(name, "host") ? HTTP1_F_HOST : HTTP1_F_OTHER;
    case 6: return IS_NAME(name, "expect") ? HTTP1_F_EXPECT : HTTP1_F_OTHER;
    case 7:
        if (IS_NAME(name, "trailer"))
            return HTTP1_F_TRAILER;
        return IS_NAME(name, "upgrade") ? HTTP1_F_UPGRADE : HTTP1_F_OTHER;
    case 10:
        if (IS_NAME(name, "connection"))
            return HTTP1_F_CONNECTION;
        return IS_NAME(name, "keep-alive") ? HTTP1_F_KEEP_ALIVE : HTTP1_F_OTHER;
    case 14: return IS_NAME(name, "content-length") ? HTTP1_F_CONTENT_LENGTH : HTTP1_F_OTHER;
    case 16:
        if (IS_NAME(name, "content-encoding"))
            return HTTP1_F_CONTENT_ENCODING;
        return IS_NAME(name, "proxy-connection") ? HTTP1_F_PROXY_CONNECTION : HTTP1_F_OTHER;
    case 17: return IS_NAME(name, "transfer-encoding") ? HTTP1_F_TRANSFER_ENCODING : HTTP1_F_OTHER;
    case 18:
        return IS_NAME(name, "proxy-authenticate") ? HTTP1_F_PROXY_AUTHENTICATE : HTTP1_F_OTHER;
    case 19:
        return IS_NAME(name, "proxy-authorization") ? HTTP1_F_PROXY_AUTHORIZATION : HTTP1_F_OTHER;
    default: return HTTP1_F_OTHER;
    }
}

/* field-line CRLF, the first byte being there. No white space before the colon, no folding. */
static inline int parse_field(struct parse *parse, struct http1_field *field)
{
    const char *start = parse->p;
    const char *p = skip_name(start, parse->end);
    if (p == parse->end)
        return HTTP1_E_MORE;
    if (*p != ':')
        return 400;
    field->name = span_of(start, p);

    start = skip_ows(p + 1, parse->end);
    p = skip_value(start, parse->end);
    parse->p = p;
    const int r = parse_crlf(parse);
    if (r != 0)
        return r;
    while (p > start && is_ows(p[-1]))
        p--;
    field->value = span_of(start, p);

    const int known = known_name(field->name);
    field->known = (uint8_t)known;
    field->hop_by_hop = (hop_by_hop >> known & 1) != 0;
    return known == HTTP1_F_OTHER ? 0 : take_known(parse, known, field->value);
}

static inline int parse_fields(struct parse *parse, uint32_t fields_max)
{
    struct http1_head *head = parse->head;
    for (uint32_t i = 0;; i++) {
        if (parse->p == parse->end)
            return HTTP1_E_MORE;
        if (*parse->p == '\r') {
            head->nfields = (uint16_t)i;
            return parse_crlf(parse);
        }
        if (!http1_is(*parse->p, HTTP1_TOKEN))
            return 400;
        if (i == fields_max)
            return 431;
        const int r = parse_field(parse, &head->fields[i]);
        if (r != 0)
            return r;
    }
}

/*
 * Fields that Connection names go no further. Not those that the codec knows: a client that names
 * Host or Content-Length there would have the next one in the chain read another request.
 */
static void mark_named(struct http1_head *head)
{
    for (size_t i = 0; i < head->nfields; i++) {
        struct span list = head->fields[i].value, option;
        if (head->fields[i].known != HTTP1_F_CONNECTION)
            continue;
        while (next_element(&list, &option))
            for (size_t k = 0; k < head->nfields; k++)
                if (head->fields[k].known == HTTP1_F_OTHER &&
                    same_name(head->fields[k].name, option))
                    head->fields[k].hop_by_hop = true;
    }
}

/*
 * RFC 9112 section 3.2.2: the authority of the target wins, and Host is replaced by it. Whoever is
 * shown the field (a worker, a hash, a check of origins) reads the name that was routed by.
 */
static inline void settle_authority(struct parse *parse)
{
    struct http1_head *head = parse->head;
    if (LIKELY(head->authority.n == 0)) {
        if (parse->has_host)
            head->authority = parse->host;
        return;
    }
    for (size_t i = 0; i < head->nfields; i++)
        if (head->fields[i].known == HTTP1_F_HOST)
            head->fields[i].value = head->authority;
}

/* What only the whole head can tell. */
static inline int conclude(struct parse *parse)
{
    struct http1_head *head = parse->head;
    if (!parse->has_host && head->minor != 0)
        return 400;
    if (parse->has_coding && !parse->last_chunked)
        return 400;
    if (parse->other_coding)
        return 501;
    head->chunked = parse->has_coding;
    head->keep_alive = !parse->close && (head->minor != 0 || parse->keep_alive);
    settle_authority(parse);
    if (parse->names_a_field)
        mark_named(head);
    return 0;
}

int http1_head_parse(const char *p, size_t n, const struct http1_limits *limits,
    struct http1_head *ret_head, size_t *ret_used)
{
    CHECK(limits->fields <= HTTP1_FIELDS_MAX);
    ret_head->method = HTTP1_OTHER;
    if (n == 0)
        return HTTP1_E_MORE;

    struct parse parse = {.p = p, .end = p + MIN(n, limits->head_bytes), .head = ret_head};
    const bool full = n >= limits->head_bytes; /* no byte more is going to be looked at */
    ret_head->has_length = false;
    ret_head->expect_continue = false;
    ret_head->content_coded = false;
    ret_head->content_length = 0;

    int r = parse_request_line(&parse);
    if (r != 0)
        return r == HTTP1_E_MORE && full ? 414 : r;
    r = parse_fields(&parse, limits->fields);
    if (r != 0)
        return r == HTTP1_E_MORE && full ? 431 : r;
    r = conclude(&parse);
    if (r != 0)
        return r;
    ret_head->text = span_of(p, parse.p);
    *ret_used = ret_head->text.n;
    return 0;
}

const struct http1_field *http1_head_find(const struct http1_head *head, struct span lower_name)
{
    for (size_t i = 0; i < head->nfields; i++)
        if (same_name(head->fields[i].name, lower_name))
            return &head->fields[i];
    return NULL;
}
