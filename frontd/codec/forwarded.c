#include "frontd/codec/forwarded.h"

#include "frontd/codec/http1_scan.h"

/* The last elements of a list, in a ring: what each has of an address. */
struct hops {
    struct span nodes[FORWARDED_HOPS_MAX]; /* n == 0: none */
    size_t count;                          /* of all that were added */
};

static void add_hop(struct hops *hops, struct span node)
{
    hops->nodes[hops->count++ % FORWARDED_HOPS_MAX] = node;
}

enum { NODE_MAX = 64 /* bytes of an address with its port, with room to spare */ };

/* Takes quotes and backslashes away. Returns false where it is longer than an address may be. */
static bool unquote(struct span node, char out[NODE_MAX], struct span *ret_plain)
{
    size_t n = 0;
    if (node.n == 0 || node.p[0] != '"') {
        *ret_plain = node;
        return node.n <= NODE_MAX;
    }
    for (size_t i = 1; i + 1 < node.n; i++) {
        i += node.p[i] == '\\';
        if (n == NODE_MAX)
            return false;
        out[n++] = node.p[i];
    }
    *ret_plain = (struct span){out, n};
    return true;
}

/* ":4711", or an obfuscated port (":_x"), which is not known. Or nothing. */
static bool read_port(struct span text, uint16_t *ret_port)
{
    uint32_t port = 0;
    *ret_port = 0;
    if (text.n == 0)
        return true;
    if (text.n == 1 || text.p[0] != ':')
        return false;
    if (text.p[1] == '_')
        return true;
    if (text.n > 6)
        return false;
    for (size_t i = 1; i < text.n; i++) {
        if (!http1_is(text.p[i], HTTP1_DIGIT))
            return false;
        port = port * 10 + (uint32_t)(text.p[i] - '0');
    }
    *ret_port = (uint16_t)port;
    return port <= UINT16_MAX;
}

/* "192.0.2.7", "192.0.2.7:80", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:80". */
static bool read_node(struct span node, struct peer *ret_peer)
{
    char plain[NODE_MAX];
    struct span host, port = {0};
    if (!unquote(node, plain, &host) || host.n == 0)
        return false;
    const char *end = host.p + host.n;
    const char *colon = memchr(host.p, ':', host.n);
    if (host.p[0] == '[') {
        const char *close = memchr(host.p, ']', host.n);
        if (close == NULL || colon == NULL || colon > close)
            return false;
        port = span_of(close + 1, end);
        host = span_of(host.p + 1, close);
    } else if (colon != NULL && memchr(colon + 1, ':', (size_t)(end - colon - 1)) == NULL) {
        port = span_of(colon, end);
        host = span_of(host.p, colon);
    }
    struct peer peer;
    uint16_t number;
    if (!peer_parse(host, &peer) || !read_port(port, &number))
        return false;
    peer.port = number;
    *ret_peer = peer;
    return true;
}

static bool find(const struct hops *hops, const struct peer_network *trusted, size_t ntrusted,
    struct peer *ret_client)
{
    bool found = false;
    struct peer peer;
    for (size_t i = 0; i < MIN(hops->count, (size_t)FORWARDED_HOPS_MAX); i++) {
        if (!read_node(hops->nodes[(hops->count - 1 - i) % FORWARDED_HOPS_MAX], &peer))
            break;
        *ret_client = peer;
        found = true;
        if (!peer_is_in(&peer, trusted, ntrusted))
            break;
    }
    return found;
}

bool forwarded_x_find(const struct http_head *head, const struct peer_network *trusted,
    size_t ntrusted, struct peer *ret_client)
{
    struct hops hops = {.count = 0};
    for (size_t i = 0; i < head->nfields; i++) {
        struct span list = head->fields[i].value, element;
        if (!same_name(head->fields[i].name, SPAN("x-forwarded-for")))
            continue;
        while (next_element(&list, &element))
            add_hop(&hops, element.p[0] == '"' ? (struct span){0} : element); /* no quotes here */
    }
    return find(&hops, trusted, ntrusted, ret_client);
}

/* The byte after the value of a parameter, or NULL. Unquoted it should be a token, but brackets and
 * colons of addresses are seen there, too. */
static const char *skip_value_of(const char *p, const char *end)
{
    if (p < end && *p == '"')
        return skip_quoted(p, end);
    while (p < end && (http1_is(*p, HTTP1_TOKEN) || *p == '[' || *p == ']' || *p == ':'))
        p++;
    return p;
}

/*
 * Reads an element (section 4): *( [ token "=" value ] OWS ";" OWS ). *ret_node: the value of
 * `for`; n == 0 where there is none, or more than one. Returns the byte after it, or NULL.
 */
static const char *take_element(const char *p, const char *end, struct span *ret_node)
{
    unsigned count = 0;
    struct span node = {0};
    for (;;) {
        const char *name = skip_ows(p, end);
        p = skip_class(name, end, HTTP1_TOKEN);
        struct span key = span_of(name, p);
        if (key.n > 0) {
            if (p == end || *p != '=')
                return NULL;
            const char *value = p + 1;
            p = skip_value_of(value, end);
            if (p == NULL || p == value)
                return NULL;
            if (same_name(key, SPAN("for")) && count++ == 0)
                node = span_of(value, p);
        }
        p = skip_ows(p, end);
        if (p == end || *p != ';')
            break;
        p++;
    }
    *ret_node = count == 1 ? node : (struct span){0};
    return p;
}

/* Adds the elements of one field. */
static void add_field(struct hops *hops, struct span value)
{
    const char *p = value.p, *end = value.p + value.n;
    for (;;) {
        while (p < end && (*p == ',' || is_ows(*p)))
            p++;
        if (p == end)
            return;
        struct span node;
        p = take_element(p, end, &node);
        if (p == NULL || (p < end && *p != ',')) {
            add_hop(hops, (struct span){0});
            return;
        }
        add_hop(hops, node);
    }
}

bool forwarded_find(const struct http_head *head, const struct peer_network *trusted,
    size_t ntrusted, struct peer *ret_client)
{
    struct hops hops = {.count = 0};
    for (size_t i = 0; i < head->nfields; i++) {
        if (same_name(head->fields[i].name, SPAN("forwarded")))
            add_field(&hops, head->fields[i].value);
    }
    return find(&hops, trusted, ntrusted, ret_client);
}
