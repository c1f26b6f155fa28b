#include "frontd/codec/h2_head.h"

#include <string.h>

#include "frontd/codec/authority.h"
#include "frontd/codec/http1_fields.h"
#include "frontd/codec/http1_scan.h"

enum pseudo { METHOD, SCHEME, AUTHORITY, PATH, PROTOCOL, PSEUDOS };

static const struct span pseudo_names[PSEUDOS] = {
    [METHOD] = {":method", 7},
    [SCHEME] = {":scheme", 7},
    [AUTHORITY] = {":authority", 10},
    [PATH] = {":path", 5},
    [PROTOCOL] = {":protocol", 9},
};

/* A head that is being read. */
struct reader {
    struct h2_head *head;
    struct span pseudo[PSEUDOS];
    uint8_t seen; /* bits of enum pseudo */
    uint32_t fields_max;
    bool has_host; /* a Host field was read, or is made of :authority */
};

/* ---- Names and values: section 8.2.1 -------------------------------------------------------- */

/* The name of a field that is no pseudo-header field: a token in lower case. */
static bool is_name_right(struct span name)
{
    for (size_t i = 0; i < name.n; i++) {
        if (!http1_is(name.p[i], HTTP1_TOKEN) || (name.p[i] >= 'A' && name.p[i] <= 'Z'))
            return false;
    }
    return name.n > 0;
}

static bool is_value_right(struct span value)
{
    if (value.n == 0)
        return true;
    const char *end = value.p + value.n;
    return skip_value(value.p, end) == end && !is_ows(value.p[0]) && !is_ows(end[-1]);
}

/* ---- Pseudo-header fields: section 8.3 ------------------------------------------------------ */

static enum h2_fault take_pseudo(struct reader *reader, const struct h2_field *field)
{
    for (unsigned i = 0; i < PSEUDOS; i++) {
        const struct span *name = &pseudo_names[i];
        if (field->name.n != name->n || memcmp(field->name.p, name->p, name->n) != 0)
            continue;
        if (reader->seen >> i & 1)
            return H2_FAULT_PSEUDO_TWICE;
        reader->seen |= (uint8_t)(1 << i);
        reader->pseudo[i] = field->value;
        return H2_OK;
    }
    return H2_FAULT_PSEUDO_UNKNOWN;
}

static enum h2_fault settle_method(struct reader *reader)
{
    struct http_head *http = &reader->head->http;
    struct span method = reader->pseudo[METHOD];
    if (!(reader->seen >> METHOD & 1))
        return H2_FAULT_PSEUDO_MISSING;
    const char *end = method.p + method.n;
    if (method.n == 0 || skip_class(method.p, end, HTTP1_TOKEN) != end)
        return H2_FAULT_METHOD;
    http->method_text = method;
    http->method = (uint8_t)http_method_of(method);
    return H2_OK;
}

/* Section 8.5: there has to be a port, and not 0. */
static enum h2_fault settle_connect(struct reader *reader)
{
    struct http_head *http = &reader->head->http;
    unsigned port = 0;
    if (reader->seen & (1 << SCHEME | 1 << PATH))
        return H2_FAULT_PSEUDO_UNKNOWN;
    if (!(reader->seen >> AUTHORITY & 1))
        return H2_FAULT_PSEUDO_MISSING;
    http->form = HTTP_AUTHORITY;
    http->path = http->query = (struct span){reader->pseudo[AUTHORITY].p, 0};
    return authority_parse(reader->pseudo[AUTHORITY], &port) && port != 0 ? H2_OK
                                                                          : H2_FAULT_AUTHORITY;
}

/* As the target of HTTP/1: http1_head.c says which bytes pass. */
static enum h2_fault settle_path(struct reader *reader)
{
    struct http_head *http = &reader->head->http;
    struct span path = reader->pseudo[PATH];
    if (path.n == 0)
        return H2_FAULT_PATH;
    const char *end = path.p + path.n;
    if (path.n == 1 && path.p[0] == '*' && http->method == HTTP_OPTIONS) {
        http->form = HTTP_ASTERISK;
        http->path = http->query = (struct span){path.p, 0};
        return H2_OK;
    }
    if (path.p[0] != '/' || skip_target(path.p, end) != end)
        return H2_FAULT_PATH;
    const char *mark = memchr(path.p, '?', path.n);
    http->form = HTTP_ORIGIN;
    http->path = span_of(path.p, mark == NULL ? end : mark);
    http->query = span_of(mark == NULL ? end : mark + 1, end);
    return H2_OK;
}

/* RFC 8441 section 4: with it CONNECT has a scheme and a path, as other requests have. */
static enum h2_fault settle_protocol(struct reader *reader)
{
    struct h2_head *head = reader->head;
    struct span protocol = reader->pseudo[PROTOCOL];
    if (head->http.method != HTTP_CONNECT)
        return H2_FAULT_PSEUDO_UNKNOWN;
    const char *end = protocol.p + protocol.n;
    if (protocol.n == 0 || skip_class(protocol.p, end, HTTP1_TOKEN) != end)
        return H2_FAULT_PROTOCOL;
    head->protocol = protocol;
    head->http.websocket = same_name(protocol, SPAN("websocket"));
    return H2_OK;
}

static enum h2_fault settle_target(struct reader *reader)
{
    struct h2_head *head = reader->head;
    bool extended = reader->seen >> PROTOCOL & 1;
    enum h2_fault fault = extended ? settle_protocol(reader) : H2_OK;
    if (fault != H2_OK)
        return fault;
    if (head->http.method == HTTP_CONNECT && !extended)
        return settle_connect(reader);
    if ((reader->seen & (1 << SCHEME | 1 << PATH)) != (1 << SCHEME | 1 << PATH))
        return H2_FAULT_PSEUDO_MISSING;
    head->scheme = reader->pseudo[SCHEME];
    if (!same_name(head->scheme, SPAN("http")) && !same_name(head->scheme, SPAN("https")))
        return H2_FAULT_SCHEME;
    return settle_path(reader);
}

/* What the pseudo-header fields say, when all of them have been read. */
static enum h2_fault settle(struct reader *reader)
{
    struct http_head *http = &reader->head->http;
    unsigned port;
    enum h2_fault fault = settle_method(reader);
    if (fault == H2_OK)
        fault = settle_target(reader);
    if (fault != H2_OK || !(reader->seen >> AUTHORITY & 1))
        return fault;
    http->authority = reader->pseudo[AUTHORITY];
    if (!authority_parse(http->authority, &port))
        return H2_FAULT_AUTHORITY;
    http->fields[http->nfields++] = (struct http_field){
        .name = SPAN("host"),
        .value = http->authority,
        .known = HTTP_F_HOST,
    };
    reader->has_host = true;
    return H2_OK;
}

/* ---- Fields that the codec has to know ------------------------------------------------------ */

/* Section 8.3.1. A Host that says the same as :authority is not listed twice. */
static int take_host(struct reader *reader, struct span value, bool *ret_skip)
{
    struct http_head *http = &reader->head->http;
    unsigned port;
    *ret_skip = reader->has_host;
    if (reader->has_host && same_name(value, http->authority) && reader->seen >> AUTHORITY & 1)
        return 0;
    if (reader->has_host || !authority_parse(value, &port))
        return H2_FAULT_AUTHORITY;
    reader->has_host = true;
    http->authority = value;
    return 0;
}

static int take_content_length(struct h2_head *head, struct span value)
{
    if (head->has_length || !http1_parse_length(value, &head->content_length))
        return H2_FAULT_CONTENT_LENGTH;
    head->has_length = true;
    return 0;
}

/* RFC 9110 section 10.1.1 */
static int take_expect(struct http_head *http, struct span value)
{
    struct span element;
    while (next_element(&value, &element)) {
        if (!same_name(element, SPAN("100-continue")))
            return 417;
        http->expect_continue = true;
    }
    return 0;
}

/* Section 8.2.2: these belong to no message of HTTP/2, in whichever section of it they stand. */
static enum h2_fault check_connection_field(int known, struct span value)
{
    switch (known) {
    case HTTP_F_TE: return same_name(value, SPAN("trailers")) ? H2_OK : H2_FAULT_TE;
    case HTTP_F_CONNECTION:
    case HTTP_F_KEEP_ALIVE:
    case HTTP_F_PROXY_CONNECTION:
    case HTTP_F_TRANSFER_ENCODING:
    case HTTP_F_UPGRADE: return H2_FAULT_CONNECTION_FIELD;
    default: return H2_OK;
    }
}

static int take_known(struct reader *reader, int known, struct span value, bool *ret_skip)
{
    struct http_head *http = &reader->head->http;
    struct span element;
    switch (known) {
    case HTTP_F_HOST: return take_host(reader, value, ret_skip);
    case HTTP_F_CONTENT_LENGTH: return take_content_length(reader->head, value);
    case HTTP_F_EXPECT: return take_expect(http, value);
    case HTTP_F_CONTENT_ENCODING:
        while (next_element(&value, &element))
            http->content_coded |= !same_name(element, SPAN("identity"));
        return 0;
    default: return (int)check_connection_field(known, value);
    }
}

static int take_field(struct reader *reader, const struct h2_field *field)
{
    struct http_head *http = &reader->head->http;
    if (!is_name_right(field->name))
        return H2_FAULT_NAME;
    int known = http1_known_name(field->name);
    bool skip = false;
    int r = known == HTTP_F_OTHER ? 0 : take_known(reader, known, field->value, &skip);
    if (r != 0 || skip)
        return r;
    if (http->nfields >= reader->fields_max)
        return 431;
    http->fields[http->nfields++] = (struct http_field){
        .name = field->name,
        .value = field->value,
        .known = (uint8_t)known,
        .hop_by_hop = http1_is_hop_by_hop(known),
    };
    return 0;
}

/*
 * A malformed request is one whatever else is wrong: a status is only returned when all of the list
 * has been read.
 */
int h2_head_read(struct span text, uint32_t fields_max, struct h2_head *ret_head)
{
    struct reader reader = {.head = ret_head, .fields_max = fields_max};
    struct http_head *http = &ret_head->http;
    struct h2_field field;
    bool settled = false;
    int status = 0;
    CHECK(fields_max > 0 && fields_max <= HTTP_FIELDS_MAX);
    ret_head->scheme = ret_head->protocol = (struct span){0};
    ret_head->content_length = 0;
    ret_head->has_length = false;
    ret_head->text = text;
    http->authority = (struct span){0};
    http->nfields = 0;
    http->method = HTTP_OTHER;
    http->may_upgrade = http->websocket = http->expect_continue = http->content_coded = false;
    while (h2_list_next(&text, &field)) {
        bool is_pseudo = field.name.n > 0 && field.name.p[0] == ':';
        int r = 0;
        if (!is_value_right(field.value))
            r = H2_FAULT_VALUE;
        else if (is_pseudo)
            r = settled ? H2_FAULT_PSEUDO_ORDER : (int)take_pseudo(&reader, &field);
        else if (!settled)
            r = (int)settle(&reader);
        settled |= !is_pseudo;
        if (r == 0 && !is_pseudo)
            r = take_field(&reader, &field);
        if (r != 0 && r < H2_FAULTS)
            return r;
        status = status == 0 ? r : status;
    }
    enum h2_fault fault = settled ? H2_OK : settle(&reader);
    if (fault != H2_OK)
        return (int)fault;
    return reader.has_host ? status : H2_FAULT_PSEUDO_MISSING;
}

enum h2_fault h2_trailers_check(struct span text)
{
    struct h2_field field;
    while (h2_list_next(&text, &field)) {
        if (field.name.n > 0 && field.name.p[0] == ':')
            return H2_FAULT_PSEUDO_ORDER;
        if (!is_name_right(field.name))
            return H2_FAULT_NAME;
        if (!is_value_right(field.value))
            return H2_FAULT_VALUE;
        enum h2_fault fault = check_connection_field(http1_known_name(field.name), field.value);
        if (fault != H2_OK)
            return fault;
    }
    return H2_OK;
}
