#include "frontd/admin/resource.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "frontd/admin/bearer.h"

static const struct {
    const char *path;
    enum resource_kind kind;
    bool open; /* without a token, too */
} resources[] = {
    {"/", RESOURCE_PAGE, true}, /* it has nothing of this front, and asks for the token */
    {"/metrics", RESOURCE_METRICS, false},
    {"/healthz", RESOURCE_HEALTH, true},
    {"/readyz", RESOURCE_READY, true},
    {"/status", RESOURCE_STATUS, false},
    {"/api/overview", RESOURCE_OVERVIEW, false},
};

static struct resource refuse(unsigned status, const char *text, struct span fields)
{
    return (struct resource){.status = status, .text = text, .fields = fields};
}

static bool is_same(struct span text, const char *other)
{
    return text.n == strlen(other) && memcmp(text.p, other, text.n) == 0;
}

/* Whether a host is an address, or a name that every system has for itself (RFC 6761 6.3). */
static bool is_own_name(struct span host)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;
    static const char own[] = "localhost";
    static const size_t n = sizeof(own) - 1;
    if (host.n >= n && strncasecmp(host.p + host.n - n, own, n) == 0)
        return host.n == n || host.p[host.n - n - 1] == '.';
    bool bracketed = host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']';
    struct span inner = bracketed ? (struct span){host.p + 1, host.n - 2} : host;
    if (inner.n == 0 || inner.n >= sizeof(text))
        return false;
    memcpy(text, inner.p, inner.n);
    text[inner.n] = '\0';
    return inet_pton(bracketed ? AF_INET6 : AF_INET, text, &address) == 1;
}

/* Without its port. */
static struct span host_of(struct span authority)
{
    size_t n = authority.n;
    while (n > 0 && authority.p[n - 1] >= '0' && authority.p[n - 1] <= '9')
        n--;
    if (n > 0 && authority.p[n - 1] == ':')
        authority.n = n - 1;
    return authority;
}

static bool is_name(struct span text)
{
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                c == '_' || c == ':'))
            return false;
    }
    return text.n <= RESOURCE_NAME_MAX;
}

/* The value of `name` in the query; empty where there is none. */
static struct span read_name(struct span query)
{
    static const char key[] = "name=";
    static const size_t n = sizeof(key) - 1;
    for (const char *p = query.p, *end = query.p + query.n; query.n > 0 && p < end;) {
        const char *next = memchr(p, '&', (size_t)(end - p));
        size_t length = (size_t)((next == NULL ? end : next) - p);
        if (length >= n && memcmp(p, key, n) == 0)
            return (struct span){p + n, length - n};
        p += length + 1;
    }
    return (struct span){0};
}

static struct resource take_metrics(const struct http1_head *head)
{
    struct resource resource = {.status = 200, .kind = RESOURCE_METRICS};
    resource.form = accept_form(&head->http);
    resource.name = read_name(head->http.query);
    if (!is_name(resource.name))
        return refuse(
            400, "name: the beginning of a metric's name, at most 128 bytes\n", (struct span){0});
    if (resource.form == ACCEPT_NONE)
        return refuse(406,
            "there are text/plain;version=0.0.4 and "
            "application/openmetrics-text;version=1.0.0\n",
            (struct span){0});
    return resource;
}

struct resource resource_of(const struct http1_head *head, struct span token, bool local)
{
    size_t i = 0;
    const struct http_head *http = &head->http;
    if (http->form != HTTP_ORIGIN && http->form != HTTP_ABSOLUTE)
        return refuse(405, "GET and HEAD are all there is\n", SPAN("Allow: GET, HEAD\r\n"));
    while (i < ARRAY_LEN(resources) && !is_same(http->path, resources[i].path))
        i++;
    if (i == ARRAY_LEN(resources))
        return refuse(404, "not found; there are /, /metrics, /healthz, /readyz and /status\n",
            (struct span){0});
    if (http->method != HTTP_GET && http->method != HTTP_HEAD)
        return refuse(405, "GET and HEAD are all there is\n", SPAN("Allow: GET, HEAD\r\n"));
    if (token.n == 0 && local && http->authority.n > 0 && !is_own_name(host_of(http->authority)))
        return refuse(403,
            "asked by a name that is not this machine's own; admin.token_file lets any name in\n",
            (struct span){0});
    if (token.n > 0 && !resources[i].open && !bearer_fits(http, token))
        return refuse(401, "a token is needed: Authorization: Bearer TOKEN\n",
            SPAN("WWW-Authenticate: Bearer realm=\"frontd\"\r\n"));
    if (resources[i].kind == RESOURCE_METRICS)
        return take_metrics(head);
    return (struct resource){.status = 200, .kind = resources[i].kind};
}
