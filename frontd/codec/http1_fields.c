#include "frontd/codec/http1_fields.h"

#include "frontd/codec/authority.h"
#include "frontd/codec/http1_scan.h"

enum {
    /* Names in all Connection fields together; with more the answer is 431. Each name is looked
     * for among all fields: without a limit the cost of a head would grow with the square of its
     * size. */
    OPTIONS_MAX = 32,
};

/* RFC 9110 section 7.6.1, and Proxy-Connection, which is no standard but is sent */
static const uint32_t hop_by_hop = 1U << HTTP_F_CONNECTION | 1U << HTTP_F_KEEP_ALIVE |
                                   1U << HTTP_F_PROXY_CONNECTION | 1U << HTTP_F_TE |
                                   1U << HTTP_F_TRAILER | 1U << HTTP_F_TRANSFER_ENCODING |
                                   1U << HTTP_F_UPGRADE | 1U << HTTP_F_PROXY_AUTHENTICATE |
                                   1U << HTTP_F_PROXY_AUTHORIZATION;

/* ---- Fields that the codec has to know ---------------------------------------------------- */

/* RFC 9112 section 3.2. Host is empty where the target of the client has no authority. */
static int take_host(struct http1_parse *parse, struct span value)
{
    unsigned port;
    if (parse->has_host || (value.n > 0 && !authority_parse(value, &port)))
        return 400;
    parse->has_host = true;
    parse->host = value;
    return 0;
}

/* A second field is refused, too: http1_parse_length() says why. */
static int take_content_length(struct http1_parse *parse, struct span value)
{
    if (parse->head->has_length || parse->has_coding ||
        !http1_parse_length(value, &parse->head->content_length))
        return 400;
    parse->head->has_length = true;
    return 0;
}

/*
 * RFC 9112 section 6.1. Refused are, beyond that:
 * - empty elements of the list, which RFC 9110 would have ignored: some recipients are known to
 *   read ", chunked" in another way
 * - parameters of chunked, which has none (section 7.1)
 */
static int take_transfer_encoding(struct http1_parse *parse, struct span value)
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
static int take_connection(struct http1_parse *parse, struct span value)
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

/* RFC 9110 section 10.1.1. HTTP/1.0 has no 100 (Continue), so the field is ignored there. */
static int take_expect(struct http1_parse *parse, struct span value)
{
    static const struct span expectation = {"100-continue", 12};
    struct span element;
    while (next_element(&value, &element)) {
        if (!same_name(element, expectation))
            return 417;
        parse->head->http.expect_continue = parse->head->minor != 0;
    }
    return 0;
}

/* RFC 9110 section 8.4. identity is no coding, but some clients send it (section 8.4.1). */
static void take_content_encoding(struct http1_parse *parse, struct span value)
{
    struct span element;
    while (next_element(&value, &element))
        parse->head->http.content_coded |= !same_name(element, SPAN("identity"));
}

static inline int take_known(struct http1_parse *parse, int known, struct span value)
{
    switch (known) {
    case HTTP_F_HOST: return take_host(parse, value);
    case HTTP_F_CONTENT_LENGTH: return take_content_length(parse, value);
    case HTTP_F_TRANSFER_ENCODING: return take_transfer_encoding(parse, value);
    case HTTP_F_CONNECTION: return take_connection(parse, value);
    case HTTP_F_EXPECT: return take_expect(parse, value);
    case HTTP_F_CONTENT_ENCODING: take_content_encoding(parse, value); return 0;
    default: return 0;
    }
}

/* ---- Fields: RFC 9112 section 5 ----------------------------------------------------------- */

static inline int known_name(struct span name)
{
    switch (name.n) {
    case 2: return lower(name.p[0]) == 't' && lower(name.p[1]) == 'e' ? HTTP_F_TE : HTTP_F_OTHER;
    case 4: return IS_NAME(name, "host") ? HTTP_F_HOST : HTTP_F_OTHER;
    case 6: return IS_NAME(name, "expect") ? HTTP_F_EXPECT : HTTP_F_OTHER;
    case 7:
        if (IS_NAME(name, "trailer"))
            return HTTP_F_TRAILER;
        return IS_NAME(name, "upgrade") ? HTTP_F_UPGRADE : HTTP_F_OTHER;
    case 10:
        if (IS_NAME(name, "connection"))
            return HTTP_F_CONNECTION;
        return IS_NAME(name, "keep-alive") ? HTTP_F_KEEP_ALIVE : HTTP_F_OTHER;
    case 14: return IS_NAME(name, "content-length") ? HTTP_F_CONTENT_LENGTH : HTTP_F_OTHER;
    case 16:
        if (IS_NAME(name, "content-encoding"))
            return HTTP_F_CONTENT_ENCODING;
        return IS_NAME(name, "proxy-connection") ? HTTP_F_PROXY_CONNECTION : HTTP_F_OTHER;
    case 17: return IS_NAME(name, "transfer-encoding") ? HTTP_F_TRANSFER_ENCODING : HTTP_F_OTHER;
    case 18: return IS_NAME(name, "proxy-authenticate") ? HTTP_F_PROXY_AUTHENTICATE : HTTP_F_OTHER;
    case 19:
        return IS_NAME(name, "proxy-authorization") ? HTTP_F_PROXY_AUTHORIZATION : HTTP_F_OTHER;
    default: return HTTP_F_OTHER;
    }
}

int http1_known_name(struct span name)
{
    return known_name(name);
}

bool http1_is_hop_by_hop(int known)
{
    return (hop_by_hop >> known & 1) != 0;
}

/*
 * field-line CRLF, whose first byte is there. White space before the colon and folding are
 * refused.
 */
static inline int parse_field(struct http1_parse *parse, struct http_field *field)
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
    const int r = http1_parse_crlf(parse);
    if (r != 0)
        return r;
    while (p > start && is_ows(p[-1]))
        p--;
    field->value = span_of(start, p);

    const int known = known_name(field->name);
    field->known = (uint8_t)known;
    field->hop_by_hop = http1_is_hop_by_hop(known);
    return known == HTTP_F_OTHER ? 0 : take_known(parse, known, field->value);
}

int http1_fields_parse(struct http1_parse *parse, uint32_t fields_max)
{
    struct http_head *head = &parse->head->http;
    for (uint32_t i = 0;; i++) {
        if (parse->p == parse->end)
            return HTTP1_E_MORE;
        if (*parse->p == '\r') {
            head->nfields = (uint16_t)i;
            return http1_parse_crlf(parse);
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

void http1_fields_mark_named(struct http_head *head)
{
    for (size_t i = 0; i < head->nfields; i++) {
        struct span list = head->fields[i].value, option;
        if (head->fields[i].known != HTTP_F_CONNECTION)
            continue;
        while (next_element(&list, &option))
            for (size_t k = 0; k < head->nfields; k++)
                if (head->fields[k].known == HTTP_F_OTHER &&
                    same_name(head->fields[k].name, option))
                    head->fields[k].hop_by_hop = true;
    }
}
