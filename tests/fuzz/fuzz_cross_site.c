/*
 * The input is the head of a request. What is made of it is compared with a second opinion, which
 * copies each field and searches it with the functions of the C library.
 */

#include <string.h>
#include <strings.h>

#include "frontd/codec/cross_site.h"
#include "frontd/codec/http1_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct http1_limits limits = {.head_bytes = 65536, .fields = HTTP_FIELDS_MAX};

#define DIGITS "0123456789"
#define TOKEN  "!#$%&'*+-.^_`|~" DIGITS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

static struct http1_head head;

static char *copy_text(struct span text)
{
    char *copy = malloc(text.n + 1);
    CHECK(copy != NULL);
    memcpy(copy, text.p, text.n);
    copy[text.n] = '\0';
    return copy;
}

/* The value of the field of that name with that number; NULL where there is none. */
static char *value(const char *name, unsigned number)
{
    for (size_t i = 0; i < head.http.nfields; i++) {
        const struct http_field *field = &head.http.fields[i];
        if (field->name.n == strlen(name) && strncasecmp(field->name.p, name, field->name.n) == 0 &&
            number-- == 0)
            return copy_text(field->value);
    }
    return NULL;
}

static bool has(const char *name, unsigned number)
{
    char *text = value(name, number);
    free(text);
    return text != NULL;
}

/* Cuts the port off. */
static bool take_port(char *authority, unsigned long *port)
{
    char *colon = strrchr(authority, ':');
    if (colon == NULL || colon[1 + strspn(colon + 1, DIGITS)] != '\0')
        return true;
    *colon = '\0';
    if (colon[1] != '\0')
        *port = strtoul(colon + 1, NULL, 10); /* ULONG_MAX where it is more */
    return *port <= 65535;
}

static bool own(const char *origin)
{
    const bool tls = strncasecmp(origin, "https://", 8) == 0;
    if (!tls && strncasecmp(origin, "http://", 7) != 0)
        return false;
    unsigned long there = tls ? 443 : 80, here = there;
    char *a = strdup(origin + (tls ? 8 : 7)), *b = copy_text(head.http.authority);
    CHECK(a != NULL);
    bool same = take_port(a, &there) && take_port(b, &here) && there == here;
    for (char **text = (char *[]){a, b, NULL}; *text != NULL; text++) {
        size_t n = strlen(*text);
        if (n > 0 && (*text)[n - 1] == '.')
            (*text)[n - 1] = '\0';
        same = same && **text != '\0';
    }
    same = same && strcasecmp(a, b) == 0;
    free(a);
    free(b);
    return same;
}

static bool foreign(void)
{
    char *text;
    bool any = false, other = false;
    for (unsigned i = 0; (text = value("sec-fetch-site", i)) != NULL; i++) {
        any = true;
        other = other || (strcmp(text, "same-origin") != 0 && strcmp(text, "none") != 0);
        free(text);
    }
    if (any)
        return other;
    text = value("origin", 0);
    other = text != NULL && (has("origin", 1) || !own(text));
    free(text);
    return other;
}

/* One field Content-Type. */
static bool simple_type(char *type)
{
    static const char *const simple[] = {"text/plain", "multipart/form-data",
        "application/x-www-form-urlencoded", "text/ping", "application/csp-report"};
    bool found = false;
    type[strcspn(type, ";")] = '\0';
    for (size_t n = strlen(type); n > 0 && (type[n - 1] == ' ' || type[n - 1] == '\t');)
        type[--n] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(simple); i++)
        found = found || strcasecmp(type, simple[i]) == 0;
    char *slash = strchr(type, '/');
    if (found || slash == NULL || slash == type || slash[1] == '\0')
        return true;
    return type + strspn(type, TOKEN) != slash || slash[1 + strspn(slash + 1, TOKEN)] != '\0';
}

static bool simple(void)
{
    bool found = !has("content-type", 0);
    char *text;
    for (unsigned i = 0; (text = value("content-type", i)) != NULL; i++) {
        found = simple_type(text) || found;
        free(text);
    }
    return found && head.http.method == HTTP_POST;
}

static int listed(char *const *origins, size_t norigins)
{
    char *text = value("origin", 0);
    int star = -1, named = -1;
    for (size_t i = 0; text != NULL && i < norigins; i++) {
        if (strcasecmp(origins[i], text) == 0)
            named = (int)i;
        if (strcmp(origins[i], "*") == 0)
            star = (int)i;
    }
    free(text);
    return has("origin", 1) ? -1 : named >= 0 ? named : star;
}

static void check(char *const *origins, size_t norigins, bool refuse)
{
    int got = -7, wanted = listed(origins, norigins);
    const bool asks = head.http.method == HTTP_OPTIONS && has("origin", 0) &&
                      has("access-control-request-method", 0);
    const bool anybody = wanted >= 0 && strpbrk(origins[wanted], ":") == NULL;
    if (anybody && refuse && simple() && foreign() && (has("cookie", 0) || has("authorization", 0)))
        wanted = -1;
    enum cross_site verdict = CROSS_SITE_PASS;
    if (wanted >= 0)
        verdict = asks ? CROSS_SITE_PREFLIGHT : CROSS_SITE_PASS;
    else if (refuse && (asks || (foreign() && (norigins > 0 || simple()))))
        verdict = CROSS_SITE_REFUSE;
    CHECK(cross_site_judge(&head.http, origins, norigins, refuse, &got) == verdict);
    CHECK(got == wanted);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* A copy that ends where the head ends, so that ASan sees a read past it. */
    size_t used;
    if (http1_head_parse((const char *)data, size, &limits, &head, &used) != 0)
        return 0;
    char *copy = malloc(used);
    CHECK(copy != NULL);
    memcpy(copy, data, used);
    CHECK(http1_head_parse(copy, used, &limits, &head, &used) == 0);

    char first[] = "https://example.com", second[] = "http://localhost:8080", star[] = "*",
         null[] = "null";
    char *const some[] = {first, second, null}, *const any[] = {star, first};
    CHECK(cross_site_foreign(&head.http) == foreign());
    for (int refuse = 0; refuse <= 1; refuse++) {
        check(NULL, 0, refuse != 0);
        check(some, 3, refuse != 0);
        check(any, 2, refuse != 0);
    }
    free(copy);
    return 0;
}
