#include "frontd/codec/cross_site.h"

#include "frontd/codec/http1_scan.h"

/* What the fields of a head say, read in one pass. */
struct said {
    struct span origin;   /* the first field Origin */
    unsigned origins;     /* how many fields Origin there are: a browser sends one at most */
    bool has_site;        /* there is a field Sec-Fetch-Site */
    bool other_site;      /* and one of these fields is neither `same-origin` nor `none` */
    bool asks_method;     /* there is a field Access-Control-Request-Method, as in each preflight */
    bool has_type;        /* there is a field Content-Type */
    bool simple_type;     /* and one of these fields is of a type that needs no preflight */
    bool has_credentials; /* there is a field Cookie or Authorization */
};

static bool same_text(struct span a, struct span b)
{
    return a.n == b.n && memcmp(a.p, b.p, a.n) == 0;
}

/*
 * Whether a browser sends a preflight before a body of this type. It sends none for:
 * - the types of Fetch, "CORS-safelisted request-header"
 * - two that it sends by itself: HTML, "ping", and CSP, "Report a violation"
 * - a text that is no media type
 */
static bool asked_for(struct span type)
{
    static const struct span simple[] = {
        {"application/x-www-form-urlencoded", 33},
        {"multipart/form-data", 19},
        {"text/plain", 10},
        {"text/ping", 9},
        {"application/csp-report", 22},
    };
    const char *end = type.p + type.n;
    const char *slash = skip_class(type.p, end, HTTP1_TOKEN);
    if (slash == type.p || slash == end || *slash != '/')
        return false;
    const char *after = skip_class(slash + 1, end, HTTP1_TOKEN);
    const char *rest = skip_ows(after, end);
    if (after == slash + 1 || (rest != end && *rest != ';'))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(simple); i++)
        if (same_name(span_of(type.p, after), simple[i]))
            return false;
    return true;
}

static void read_field(struct said *said, const struct http_field *field)
{
    struct span name = field->name, value = field->value;
    switch (name.n) {
    case 6:
        if (IS_NAME(name, "cookie"))
            said->has_credentials = true;
        else if (IS_NAME(name, "origin") && said->origins++ == 0)
            said->origin = value;
        break;
    case 12:
        if (IS_NAME(name, "content-type")) {
            said->has_type = true;
            said->simple_type |= !asked_for(value);
        }
        break;
    case 13:
        if (IS_NAME(name, "authorization"))
            said->has_credentials = true;
        break;
    case 14:
        if (IS_NAME(name, "sec-fetch-site")) {
            said->has_site = true;
            said->other_site |= !same_text(value, SPAN("same-origin")) &&
                                !same_text(value, SPAN("none"));
        }
        break;
    case 29:
        if (IS_NAME(name, "access-control-request-method"))
            said->asks_method = true;
        break;
    default: break;
    }
}

static void read_fields(struct said *said, const struct http_head *head)
{
    *said = (struct said){0};
    for (size_t i = 0; i < head->nfields; i++)
        read_field(said, &head->fields[i]);
}

/*
 * Splits host [ ":" port ]; a final dot of the host is left out. False where the port is invalid.
 */
static bool split_authority(
    struct span authority, unsigned usual_port, struct span *ret_host, unsigned *ret_port)
{
    const char *p = authority.p, *end = p + authority.n, *colon = end;
    unsigned port = 0;
    while (colon > p && http1_is(colon[-1], HTTP1_DIGIT))
        colon--;
    bool has_port = colon > p && colon[-1] == ':';
    for (const char *digit = colon; has_port && digit < end; digit++) {
        port = port * 10 + (unsigned)(*digit - '0');
        if (port > 65535)
            return false;
    }
    *ret_port = has_port && colon < end ? port : usual_port;
    *ret_host = span_of(p, has_port ? colon - 1 : end);
    if (ret_host->n > 0 && ret_host->p[ret_host->n - 1] == '.')
        ret_host->n--;
    return ret_host->n > 0;
}

/* Whether an origin is that of the server which the request names. "null" never is. */
static bool is_own(struct span origin, struct span authority)
{
    unsigned usual, port_there, port_here;
    size_t scheme;
    if (origin.n > 8 && same_name((struct span){origin.p, 8}, SPAN("https://"))) {
        usual = 443;
        scheme = 8;
    } else if (origin.n > 7 && same_name((struct span){origin.p, 7}, SPAN("http://"))) {
        usual = 80;
        scheme = 7;
    } else {
        return false;
    }
    struct span there = {origin.p + scheme, origin.n - scheme}, here;
    return split_authority(there, usual, &there, &port_there) &&
           split_authority(authority, usual, &here, &port_here) && port_there == port_here &&
           same_name(there, here);
}

static bool is_foreign(const struct said *said, const struct http_head *head)
{
    if (said->has_site)
        return said->other_site;
    return said->origins > 1 || (said->origins == 1 && !is_own(said->origin, head->authority));
}

bool cross_site_foreign(const struct http_head *head)
{
    struct said said;
    read_fields(&said, head);
    return is_foreign(&said, head);
}

/* The index of the origin in the list: by its name, else of "*". */
static int find_listed(struct span origin, char *const *origins, size_t norigins)
{
    int any = CROSS_SITE_UNLISTED;
    for (size_t i = 0; i < norigins; i++) {
        const struct span listed = {origins[i], strlen(origins[i])};
        if (same_name(listed, origin))
            return (int)i;
        if (same_text(listed, SPAN("*")))
            any = (int)i;
    }
    return any;
}

/*
 * Any page can have a frame with the origin "null". Neither "*" nor "null" is meant to give away
 * what a user is logged in for.
 */
static bool is_any_page(const char *listed)
{
    return strcmp(listed, "*") == 0 || strcmp(listed, "null") == 0;
}

enum cross_site cross_site_judge(const struct http_head *head, char *const *origins,
    size_t norigins, bool refuse, int *ret_listed)
{
    struct said said;
    read_fields(&said, head);
    *ret_listed = CROSS_SITE_UNLISTED;
    if (LIKELY(said.origins == 0 && !said.has_site))
        return CROSS_SITE_PASS; /* not from a browser */

    bool preflight = head->method == HTTP_OPTIONS && said.origins > 0 && said.asks_method;
    bool simple = head->method == HTTP_POST && (!said.has_type || said.simple_type);
    if (said.origins == 1) {
        int listed = find_listed(said.origin, origins, norigins);
        bool too_much = listed >= 0 && simple && said.has_credentials &&
                        is_any_page(origins[listed]);
        if (listed >= 0 && !(refuse && too_much && is_foreign(&said, head))) {
            *ret_listed = listed;
            return preflight ? CROSS_SITE_PREFLIGHT : CROSS_SITE_PASS;
        }
    }
    if (!refuse)
        return CROSS_SITE_PASS;
    /* A browser sends no preflight for a page of the same origin. One of http that calls https, or
     * the like, is another origin, but looks the same here. */
    if (preflight)
        return CROSS_SITE_REFUSE;
    if (!is_foreign(&said, head))
        return CROSS_SITE_PASS;
    return norigins > 0 || simple ? CROSS_SITE_REFUSE : CROSS_SITE_PASS;
}
