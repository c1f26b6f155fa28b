#include "frontd/codec/authority.h"

#include <arpa/inet.h>
#include <string.h>

#include "frontd/codec/http1_scan.h"

/* *DIGIT, at most 65535: some recipients would take 65616 for 80. */
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

/*
 * The part after '[': returns the byte after ']', or NULL. A zone (RFC 6874) and IPvFuture are
 * refused.
 */
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

bool authority_parse(struct span authority, unsigned *ret_port)
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
