#include "frontd/shard/request/context.h"

#include <errno.h>
#include <strings.h>

#include "common/siphash.h"
#include "frontd/shard/request/auth.h"
#include "frontd/shard/tls/tls_transport.h"
#include "frontd/shard/upstream/pool.h"
#include "proto/json_write.h"
#include "proto/jsonrpc.h"

/* Appends a key of an object: ',' before every member but the first, then the key and ':'. */
static int put_key(struct buf *out, bool *first, struct span key)
{
    if (buf_append(out, *first ? "" : ",", *first ? 0 : 1) < 0 || json_put_latin1(out, key) < 0)
        return -ENOMEM;
    *first = false;
    return buf_append(out, ":", 1);
}

static bool same_name(struct span name, struct span lower)
{
    return name.n == lower.n && strncasecmp(name.p, lower.p, lower.n) == 0;
}

/*
 * A header field that is there several times is one list (RFC 9110 section 5.3). Cookie is no list:
 * its fields are joined by "; " (RFC 9113 section 8.2.3).
 */
static int put_header(struct buf *out, bool *first, const struct http_head *head, struct span lower)
{
    const struct http_field *field = http_head_find(head, lower);
    if (field == NULL)
        return 0;
    const char *between = same_name(lower, SPAN("cookie")) ? "; " : ", ";
    struct buf value = {0};
    int r = put_key(out, first, lower);
    for (uint32_t i = 0, n = 0; r == 0 && i < head->nfields; i++) {
        if (!same_name(head->fields[i].name, lower))
            continue;
        if (n++ > 0)
            r = buf_append(&value, between, 2);
        if (r == 0)
            r = buf_append(&value, head->fields[i].value.p, head->fields[i].value.n);
    }
    if (r == 0)
        r = json_put_latin1(out, (struct span){buf_data(&value), buf_len(&value)});
    buf_deinit(&value);
    return r;
}

int meta_put_headers(struct buf *out, const struct conf_route *route, const struct http_head *head)
{
    bool first_header = true;
    for (uint32_t i = 0; i < route->nheaders; i++) {
        struct span lower = {route->headers[i], strlen(route->headers[i])};
        if (put_header(out, &first_header, head, lower) < 0)
            return -ENOMEM;
    }
    return 0;
}

static int put_headers(
    struct buf *out, bool *first, const struct conf_route *route, const struct http_head *head)
{
    if (put_key(out, first, SPAN("headers")) < 0 || buf_append(out, "{", 1) < 0 ||
        meta_put_headers(out, route, head) < 0)
        return -ENOMEM;
    return buf_append(out, "}", 1);
}

struct span meta_tls(const struct conf_route *route, const struct client *client)
{
    if (LIKELY(!(route->meta & CONF_META_TLS)))
        return (struct span){0};
    const struct transport *transport = client_transport(client);
    return transport == NULL ? (struct span){0} : tls_transport_info(transport);
}

/* What the token of the request, or of its connection's handshake, says; empty: none was asked for.
 */
static struct span claims_of(const struct request *request)
{
    const struct client *client = request->client;
    const struct claims *claims = client_is_duplex(client) ? client_session(client)->claims(client)
                                                           : request->claims;
    return claims == NULL ? (struct span){0} : (struct span){claims->text, claims->n};
}

enum { MARK_META_ROOM = MARK_ID_MAX + TRACEPARENT_SIZE + 64 /* bytes of the members of a mark */ };

static char *put_text(char *p, struct span text)
{
    memcpy(p, text.p, text.n);
    return p + text.n;
}

/*
 * Puts what the request is known by: its id, and the trace, in which the caller of the worker is
 * the span of the call, whose digits are filled in when that is made (W3C Trace Context section 4).
 */
static int put_mark(struct buf *out, bool *first, const struct mark *mark,
    const struct http_head *head, size_t *ret_span_at)
{
    enum { SPAN_AT = 36 };          /* in a value */
    struct span id = mark_id(mark); /* a token, of which JSON escapes nothing */
    char *start = buf_room(out, MARK_META_ROOM);
    char *p = start;
    if (start == NULL)
        return -ENOMEM;
    if (id.n > 0) {
        p = put_text(p, *first ? SPAN("\"request_id\":\"") : SPAN(",\"request_id\":\""));
        p = put_text(put_text(p, id), SPAN("\""));
        *first = false;
    }
    if (mark->traced) {
        p = put_text(p, *first ? SPAN("\"traceparent\":\"") : SPAN(",\"traceparent\":\""));
        *ret_span_at = buf_len(out) + (size_t)(p - start) + SPAN_AT;
        traceparent_write(&mark->trace, p);
        p = put_text(p + TRACEPARENT_SIZE, SPAN("\""));
        *first = false;
    }
    buf_added(out, (size_t)(p - start));
    if (mark->continued && head != NULL)
        return put_header(out, first, head, SPAN("tracestate"));
    return 0;
}

int meta_write(struct buf *out, const struct request *request, const struct http_head *head,
    size_t *ret_left_at, size_t *ret_span_at)
{
    const struct conf_route *route = request->route;
    const struct client *client = request->client;
    bool first = true;
    const struct mark *mark = request->mark;
    *ret_left_at = *ret_span_at = 0;
    bool marked = UNLIKELY(mark != NULL) && (mark->traced || mark->field_n > 0);
    struct span claims = claims_of(request);
    if (route->meta == 0 && route->nheaders == 0 && !marked && claims.n == 0 && !request->progress)
        return 0;
    int r = marked && buf_room(out, MARK_META_ROOM + 1) == NULL ? -ENOMEM : buf_append(out, "{", 1);
    if (r == 0 && route->meta & CONF_META_PEER) {
        char text[PEER_TEXT_SIZE];
        struct peer peer = request_peer(request);
        peer_text(&peer, text);
        r = put_key(out, &first, SPAN("peer"));
        if (r == 0)
            r = json_put_latin1(out, (struct span){text, strlen(text)});
    }
    if (r == 0 && route->meta & CONF_META_ROUTE) {
        r = put_key(out, &first, SPAN("route"));
        if (r == 0)
            r = json_put_latin1(out, (struct span){route->path, route->path_len});
    }
    struct span tls = meta_tls(route, client);
    if (r == 0 && tls.n > 0) {
        r = put_key(out, &first, SPAN("tls"));
        if (r == 0)
            r = buf_append(out, tls.p, tls.n);
    }
    if (r == 0 && claims.n > 0) {
        r = put_key(out, &first, SPAN("auth"));
        if (r == 0)
            r = buf_append(out, claims.p, claims.n);
    }
    if (r == 0 && request->progress) {
        r = put_key(out, &first, SPAN("progress"));
        if (r == 0)
            r = json_put_raw(out, "true");
    }
    if (r == 0 && marked)
        r = put_mark(out, &first, mark, head, ret_span_at);
    if (r == 0 && route->meta & CONF_META_TRACEPARENT && head != NULL && *ret_span_at == 0)
        r = put_header(out, &first, head, SPAN("traceparent"));
    struct span kept = client_is_duplex(client) ? client_session(client)->headers(client)
                                                : (struct span){0};
    if (r == 0 && kept.n > 0) {
        r = put_key(out, &first, SPAN("headers"));
        if (r == 0)
            r = buf_append(out, kept.p, kept.n);
    } else if (r == 0 && route->nheaders > 0 && head != NULL)
        r = put_headers(out, &first, route, head);
    if (r == 0 && route->meta & CONF_META_DEADLINE) {
        r = put_key(out, &first, SPAN("deadline_ms"));
        *ret_left_at = buf_len(out);
        if (r == 0)
            r = buf_printf(out, "%*d", JOB_LEFT_DIGITS, 0); /* filled in when it is sent */
    }
    return r == 0 ? buf_append(out, "}", 1) : r;
}

uint64_t meta_hash(const struct conf_pool *pool, const struct client *client,
    const struct peer *peer, const struct http_head *head, struct span params)
{
    /* The same in every shard and generation, so that a key keeps its worker. */
    static const struct hash_key key = {0x66726f6e74640001ULL, 0x6861736800000001ULL};
    struct span of = {(const char *)&client->conn.id, sizeof(client->conn.id)};
    switch (pool->hash) {
    case CONF_HASH_NONE: return 0;
    case CONF_HASH_CONN: break;
    case CONF_HASH_PEER:
        if (peer->family != AF_UNIX)
            of = (struct span){(const char *)peer->bytes, sizeof(peer->bytes)};
        break;
    case CONF_HASH_HEADER: {
        struct span name = {pool->hash_name, strlen(pool->hash_name)};
        const struct http_field *field = head == NULL ? NULL : http_head_find(head, name);
        if (field != NULL)
            of = field->value;
        break;
    }
    case CONF_HASH_PARAM: {
        struct span name = {pool->hash_name, strlen(pool->hash_name)};
        struct span value = {0};
        if (params.n > 0 && params.p[0] == '{')
            value = jsonrpc_member(params, name);
        if (value.n > 0)
            of = value;
        break;
    }
    }
    return hash_bytes(&key, of.p, of.n);
}
