#include <criterion/criterion.h>
#include <string.h>

#include "frontd/codec/cross_site.h"
#include "frontd/codec/http1_head.h"

#define TEXT(literal) ((char[]){literal}) /* as the config has them: not const */

#define JSON    "Content-Type: application/json\r\n"
#define FORM    "Content-Type: application/x-www-form-urlencoded\r\n"
#define PLAIN   "Content-Type: text/plain\r\n"
#define EVIL    "Origin: https://evil.example\r\n"
#define OWN     "Origin: https://site.example\r\n"
#define GOOD    "Origin: https://good.example\r\n"
#define CROSS   "Sec-Fetch-Site: cross-site\r\n"
#define SAME    "Sec-Fetch-Site: same-origin\r\n"
#define ASKS    "Access-Control-Request-Method: POST\r\n"
#define COOKIE  "Cookie: session=1\r\n"
#define PASS    CROSS_SITE_PASS
#define REFUSED CROSS_SITE_REFUSE
#define ASKED   CROSS_SITE_PREFLIGHT

static struct http1_head head;

/* Parses a request with these fields; it ends where its bytes end. The caller frees the bytes. */
static char *parse(const char *method, const char *host, const char *fields)
{
    static const struct http1_limits roomy = {.head_bytes = 65536, .fields = HTTP_FIELDS_MAX};
    char *text;
    const int n = asprintf(&text, "%s /rpc HTTP/1.1\r\nHost: %s\r\n%s\r\n", method, host, fields);
    cr_assert(n > 0);
    char *copy = malloc((size_t)n);
    cr_assert_not_null(copy);
    memcpy(copy, text, (size_t)n);
    free(text);
    size_t used;
    const int r = http1_head_parse(copy, (size_t)n, &roomy, &head, &used);
    cr_assert_eq(r, 0, "%s: %d", fields, r);
    return copy;
}

struct row {
    const char *method;
    const char *fields;
    enum cross_site verdict;
    int listed;
};

/* The list ends in NULL. */
static void check(const struct row *rows, size_t count, char *const *origins, bool refuse)
{
    size_t norigins = 0;
    while (origins[norigins] != NULL)
        norigins++;
    for (size_t i = 0; i < count; i++) {
        char *copy = parse(rows[i].method, "site.example", rows[i].fields);
        int listed = -7;
        enum cross_site verdict = cross_site_judge(&head.http, origins, norigins, refuse, &listed);
        cr_expect_eq(verdict, rows[i].verdict, "row %zu: %s: %d", i, rows[i].fields, (int)verdict);
        cr_expect_eq(listed, rows[i].listed, "row %zu: %s: %d", i, rows[i].fields, listed);
        free(copy);
    }
}

static char *const none[] = {NULL};

Test(cross_site, without_origins)
{
    static const struct row rows[] = {
        /* no browser */
        {"POST", "", PASS, -1}, {"POST", JSON, PASS, -1}, {"POST", PLAIN, PASS, -1},
        {"POST", FORM COOKIE, PASS, -1}, {"OPTIONS", ASKS, PASS, -1},
        {"POST", "Origins: https://evil.example\r\nX-Origin: https://evil.example\r\n", PASS, -1},
        /* its own pages */
        {"POST", OWN PLAIN COOKIE, PASS, -1}, {"POST", OWN SAME, PASS, -1},
        {"POST", OWN JSON SAME, PASS, -1}, {"POST", "Sec-Fetch-Site: none\r\n", PASS, -1},
        {"POST", SAME "Origin: https://seen-by-the-browser.example\r\n", PASS, -1},
        {"POST", SAME "Origin: null\r\n" FORM, PASS, -1}, /* Referrer-Policy: no-referrer */
        /* another site's, and a preflight has not guarded it */
        {"POST", EVIL, REFUSED, -1}, {"POST", EVIL PLAIN COOKIE, REFUSED, -1},
        {"POST", "origin: https://evil.example\r\ncontent-type: text/plain\r\n", REFUSED, -1},
        {"POST", CROSS PLAIN, REFUSED, -1}, {"POST", CROSS, REFUSED, -1},
        {"POST", "Sec-Fetch-Site: same-site\r\n" FORM, REFUSED, -1},
        {"POST", OWN "SEC-FETCH-SITE: same-site\r\n" FORM, REFUSED, -1},
        {"POST", OWN CROSS FORM, REFUSED, -1},
        {"POST", "Sec-Fetch-Site: Same-Origin\r\n" FORM, REFUSED, -1},
        {"POST", "Sec-Fetch-Site: \r\n" FORM, REFUSED, -1}, {"POST", SAME CROSS FORM, REFUSED, -1},
        {"POST", CROSS SAME FORM, REFUSED, -1}, {"POST", "Origin: null\r\n" PLAIN, REFUSED, -1},
        {"POST", "Origin:\r\n" PLAIN, REFUSED, -1}, {"POST", OWN EVIL PLAIN, REFUSED, -1},
        {"POST", EVIL OWN PLAIN, REFUSED, -1}, {"POST", OWN OWN PLAIN, REFUSED, -1},
        {"POST", "Origin: https://site.example, https://site.example\r\n" PLAIN, REFUSED, -1},
        /* it has, or would have */
        {"POST", EVIL JSON COOKIE, PASS, -1}, {"POST", CROSS JSON, PASS, -1},
        {"PUT", EVIL PLAIN, PASS, -1}, {"OPTIONS", EVIL, PASS, -1}, {"OPTIONS", CROSS, PASS, -1},
        {"OPTIONS", EVIL ASKS, REFUSED, -1},
        {"OPTIONS", OWN ASKS, REFUSED, -1}, /* http asks https */
    };
    check(rows, ARRAY_LEN(rows), none, true);
}

/* What decides whether a browser asks first: Fetch, "CORS-safelisted request-header". */
Test(cross_site, types)
{
    static const struct {
        const char *fields;
        bool simple;
    } rows[] = {
        {"", true},
        {"Content-Type:\r\n", true},
        {"Content-Type: text/plain\r\n", true},
        {"Content-Type: TEXT/Plain\r\n", true},
        {"CONTENT-TYPE: text/plain\r\n", true},
        {"Content-Type: text/plain;charset=UTF-8\r\n", true},
        {"Content-Type: text/plain ; charset=UTF-8\r\n", true},
        {"Content-Type: text/plain;application/json\r\n", true},
        {"Content-Type: text/plain; x=\"application/json\"\r\n", true},
        {"Content-Type: application/x-www-form-urlencoded\r\n", true},
        {"Content-Type: multipart/form-data; boundary=x\r\n", true},
        {"Content-Type: text/ping\r\n", true},
        {"Content-Type: application/csp-report\r\n", true},
        /* no type: taken for the worst */
        {"Content-Type: application\r\n", true},
        {"Content-Type: application/\r\n", true},
        {"Content-Type: /json\r\n", true},
        {"Content-Type: json\r\n", true},
        {"Content-Type: application/json, text/plain\r\n", true},
        {"Content-Type: application/json x\r\n", true},
        {"Content-Type: application//json\r\n", true},
        {"Content-Type: ;application/json\r\n", true},
        {JSON PLAIN, true},
        {PLAIN JSON, true},
        {JSON "Content-Type:\r\n", true},
        {"X-Content-Type: application/json\r\n", true},
        {JSON, false},
        {JSON JSON, false},
        {"Content-Type: application/json;charset=utf-8\r\n", false},
        {"Content-Type: application/json ; text/plain\r\n", false},
        {"Content-Type: application/json-rpc\r\n", false},
        {"Content-Type: application/jsonrequest\r\n", false},
        {"Content-Type: text/plainer\r\n", false},
        {"Content-Type: text/plai\r\n", false},
        {"Content-Type: text/json\r\n", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char fields[512];
        snprintf(fields, sizeof(fields), EVIL "%s", rows[i].fields);
        const struct row row = {"POST", fields, rows[i].simple ? REFUSED : PASS, -1};
        check(&row, 1, none, true);
    }
}

Test(cross_site, own_origins)
{
    static const struct {
        const char *host, *origin;
        bool own;
    } rows[] = {
        {"site.example", "https://site.example", true},
        {"site.example", "http://site.example", true}, /* which of the two is not known here */
        {"SITE.example", "HTTPS://site.EXAMPLE", true},
        {"site.example:443", "https://site.example", true},
        {"site.example:80", "http://site.example", true},
        {"site.example:80", "https://site.example", false},
        {"site.example:443", "http://site.example", false},
        {"site.example:", "https://site.example", true},
        {"site.example", "https://site.example:443", true},
        {"site.example", "http://site.example:80", true},
        {"site.example", "http://site.example:443", false},
        {"site.example", "https://site.example:80", false},
        {"site.example", "https://site.example:8443", false},
        {"site.example:8443", "https://site.example:8443", true},
        {"site.example:8443", "http://site.example:8443", true},
        {"site.example:8443", "https://site.example", false},
        {"site.example:8443", "https://site.example:8444", false},
        {"site.example:65535", "https://site.example:65535", true},
        {"site.example:0", "https://site.example:65536", false},
        {"site.example", "https://site.example:4294967739", false}, /* 2^32 + 443 */
        {"site.example.", "https://site.example", true},
        {"site.example", "https://site.example.", true},
        {"site.example.:8443", "https://site.example:8443", true},
        {"site.example", "https://site.example..", false},
        {"site.example", "https://sub.site.example", false},
        {"site.example", "https://site.exampl", false},
        {"site.example", "https://site.example.evil.example", false},
        {"site.example", "https://evilsite.example", false},
        {"site.example", "https://site.example@evil.example", false},
        {"site.example", "https://evil.example@site.example", false},
        {"site.example", "https://site.example/", false},
        {"site.example", "https://site.example:443:443", false},
        {"site.example", "https://site.example:x", false},
        {"site.example", "https://", false},
        {"site.example", "https:", false},
        {"site.example", "//site.example", false},
        {"site.example", "site.example", false},
        {"site.example", "ftp://site.example", false},
        {"site.example", "httpss://site.example", false},
        {"site.example", "null", false},
        {"null", "null", false},
        {"localhost", "capacitor://localhost", false},
        {"localhost:8080", "http://localhost:8080", true},
        {"localhost:8080", "http://localhost:3000", false},
        {"localhost:8080", "http://127.0.0.1:8080", false},
        {"127.0.0.1:8080", "http://127.0.0.1:8080", true},
        {"[::1]:8080", "http://[::1]:8080", true},
        {"[::1]", "http://[::1]", true},
        {"[::1]", "http://[::1]:80", true},
        {"[::1]", "http://[::2]", false},
        {"[::1:80]", "http://[::1]", false},
        {"", "https://site.example", false},
        {"", "https://", false},
        {"", "http://.", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char fields[256];
        snprintf(fields, sizeof(fields), "Origin: %s\r\n", rows[i].origin);
        char *copy = parse("POST", rows[i].host, fields);
        cr_expect_eq(cross_site_foreign(&head.http), !rows[i].own, "row %zu: Host: %s, Origin: %s",
            i, rows[i].host, rows[i].origin);
        free(copy);
    }
}

/* RFC 9112 section 3.2.2: the authority of the target is the one that counts. */
Test(cross_site, absolute_targets)
{
    static const struct http1_limits roomy = {.head_bytes = 65536, .fields = HTTP_FIELDS_MAX};
    static const char text[] = "POST http://site.example/rpc HTTP/1.1\r\nHost: evil.example\r\n"
                               "Origin: http://%s\r\n\r\n";
    static const char *const hosts[] = {"site.example", "evil.example"};
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        char bytes[256];
        size_t used;
        const int n = snprintf(bytes, sizeof(bytes), text, hosts[i]);
        cr_assert_eq(http1_head_parse(bytes, (size_t)n, &roomy, &head, &used), 0);
        cr_expect_eq(cross_site_foreign(&head.http), i == 1, "%s", hosts[i]);
    }
}

Test(cross_site, listed_origins)
{
    static const struct row rows[] = {
        {"POST", "", PASS, -1},
        {"POST", PLAIN COOKIE, PASS, -1},
        {"POST", GOOD, PASS, 0},
        {"POST", GOOD PLAIN COOKIE, PASS, 0},
        {"POST", GOOD CROSS JSON, PASS, 0},
        {"POST", "ORIGIN: HTTPS://Good.Example\r\n", PASS, 0},
        {"POST", "Origin: http://localhost:3000\r\n" CROSS, PASS, 1},
        {"GET", GOOD, PASS, 0},
        {"OPTIONS", GOOD, PASS, 0},
        {"OPTIONS", GOOD ASKS, ASKED, 0},
        {"OPTIONS", GOOD "access-control-request-method: DELETE\r\n", ASKED, 0},
        {"POST", GOOD ASKS, PASS, 0},
        {"POST", EVIL, REFUSED, -1},
        {"POST", EVIL JSON, REFUSED, -1},
        {"GET", EVIL, REFUSED, -1},
        {"OPTIONS", EVIL, REFUSED, -1},
        {"OPTIONS", EVIL ASKS, REFUSED, -1},
        {"OPTIONS", OWN ASKS, REFUSED, -1},
        {"POST", CROSS JSON, REFUSED, -1},
        {"POST", "Origin: null\r\n" JSON, REFUSED, -1},
        {"POST", "Origin: *\r\n" JSON, REFUSED, -1},
        {"POST", "Origin:\r\n" JSON, REFUSED, -1},
        {"POST", GOOD EVIL JSON, REFUSED, -1},
        {"POST", EVIL GOOD JSON, REFUSED, -1},
        {"OPTIONS", GOOD EVIL ASKS, REFUSED, -1},
        {"POST", "Origin: https://good.example, https://good.example\r\n" JSON, REFUSED, -1},
        {"POST", "Origin: https://good.example:443\r\n" JSON, REFUSED, -1},
        {"POST", "Origin: https://good.example.\r\n" JSON, REFUSED, -1},
        {"POST", "Origin: https://good.exampl\r\n" JSON, REFUSED, -1},
        {"POST", "Origin: https://good.example.evil.example\r\n" JSON, REFUSED, -1},
        {"POST", "Origin: http://good.example\r\n" JSON, REFUSED, -1},
        {"POST", "Origin: https://good.example/\r\n" JSON, REFUSED, -1},
        {"POST", "Origin: http://localhost\r\n" JSON, REFUSED, -1},
        /* its own pages need not be listed */
        {"POST", OWN PLAIN, PASS, -1},
        {"POST", OWN SAME JSON, PASS, -1},
        {"POST", SAME, PASS, -1},
    };
    char *const origins[] = {TEXT("https://good.example"), TEXT("http://localhost:3000"), NULL};
    check(rows, ARRAY_LEN(rows), origins, true);
}

Test(cross_site, any_origin)
{
    static const struct row rows[] = {
        {"POST", EVIL, PASS, 0},
        {"POST", EVIL JSON COOKIE, PASS, 0},
        {"POST", "Origin: null\r\n" PLAIN, PASS, 0},
        {"POST", "Origin: *\r\n" PLAIN, PASS, 0},
        {"OPTIONS", EVIL ASKS, ASKED, 0},
        {"OPTIONS", EVIL ASKS COOKIE, ASKED, 0},
        /* "*" never goes with credentials */
        {"POST", EVIL PLAIN COOKIE, REFUSED, -1},
        {"POST", EVIL "Authorization: Basic eDp5\r\n", REFUSED, -1},
        {"POST", "Origin: *\r\n" FORM COOKIE, REFUSED, -1},
        {"POST", OWN PLAIN COOKIE, PASS, 0},
        {"POST", GOOD PLAIN COOKIE, PASS, 1},
        {"POST", EVIL GOOD JSON, REFUSED, -1},
    };
    char *const origins[] = {TEXT("*"), TEXT("https://good.example"), NULL};
    check(rows, ARRAY_LEN(rows), origins, true);
}

Test(cross_site, null_can_be_listed)
{
    static const struct row rows[] = {
        {"POST", "Origin: null\r\n" PLAIN, PASS, 0},
        {"POST", "Origin: null\r\n" JSON COOKIE, PASS, 0},
        {"POST", "Origin: null\r\n" PLAIN COOKIE, REFUSED, -1}, /* any page can have that origin */
        {"POST", "Origin: null\r\n" SAME PLAIN COOKIE, PASS, 0},
        {"POST", EVIL PLAIN, REFUSED, -1},
    };
    char *const origins[] = {TEXT("null"), NULL};
    check(rows, ARRAY_LEN(rows), origins, true);
}

/* cross_site: allow */
Test(cross_site, allowed)
{
    static const struct row rows[] = {
        {"POST", EVIL PLAIN COOKIE, PASS, -1},
        {"POST", CROSS, PASS, -1},
        {"OPTIONS", EVIL ASKS, PASS, -1},
        {"POST", EVIL GOOD, PASS, -1},
    };
    static const struct row listed[] = {
        {"POST", GOOD PLAIN COOKIE, PASS, 0},
        {"OPTIONS", GOOD ASKS, ASKED, 0},
        {"POST", EVIL PLAIN COOKIE, PASS, -1},
        {"OPTIONS", EVIL ASKS, PASS, -1},
    };
    static const struct row any[] = {{"POST", EVIL PLAIN COOKIE, PASS, 0}};
    char *const origins[] = {TEXT("https://good.example"), NULL};
    char *const star[] = {TEXT("*"), NULL};
    check(rows, ARRAY_LEN(rows), none, false);
    check(listed, ARRAY_LEN(listed), origins, false);
    check(any, ARRAY_LEN(any), star, false);
}

/* Each of the longest list is found. */
Test(cross_site, many_origins)
{
    enum { N = 256 };
    static char texts[N][32];
    char *origins[N + 1] = {NULL};
    for (int i = 0; i < N; i++) {
        snprintf(texts[i], sizeof(texts[i]), "https://a%d.example", i);
        origins[i] = texts[i];
    }
    for (int i = 0; i <= N; i++) {
        char fields[64];
        snprintf(fields, sizeof(fields), "Origin: https://a%d.example\r\n", i);
        const struct row row = {"POST", fields, i < N ? PASS : REFUSED, i < N ? i : -1};
        check(&row, 1, origins, true);
    }
}
