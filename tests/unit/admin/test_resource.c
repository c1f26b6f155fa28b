/* What a request to the admin address may have: resource, accept and bearer. */

#include <criterion/criterion.h>
#include <string.h>

#include "frontd/admin/resource.h"

static struct http1_head head;

/* line: method, target; fields: each with its CRLF. */
static const struct http1_head *head_of(const char *line, const char *fields)
{
    static char text[4096];
    static const struct http1_limits limits = {.head_bytes = 8192, .fields = 64};
    size_t used;
    int n = snprintf(text, sizeof(text), "%s HTTP/1.1\r\n%s\r\n", line, fields);
    cr_assert_eq(http1_head_parse(text, (size_t)n, &limits, &head, &used), 0, "%s", text);
    return &head;
}

#define HOST "Host: 127.0.0.1:9464\r\n"

Test(resource, paths_and_methods)
{
    static const struct {
        const char *line;
        unsigned status;
        enum resource_kind kind;
    } rows[] = {
        {"GET /metrics", 200, RESOURCE_METRICS},
        {"HEAD /metrics", 200, RESOURCE_METRICS},
        {"GET /metrics?x=1", 200, RESOURCE_METRICS},
        {"GET http://127.0.0.1/healthz", 200, RESOURCE_HEALTH},
        {"GET /readyz", 200, RESOURCE_READY},
        {"GET /status", 200, RESOURCE_STATUS},
        {"GET /", 200, RESOURCE_PAGE},
        {"GET /api/overview", 200, RESOURCE_OVERVIEW},
        {"GET /api/", 404, RESOURCE_NONE},
        {"GET /metrics/", 404, RESOURCE_NONE},
        {"GET /METRICS", 404, RESOURCE_NONE},
        {"GET //metrics", 404, RESOURCE_NONE},
        {"POST /nothing", 404, RESOURCE_NONE},
        {"POST /metrics", 405, RESOURCE_NONE},
        {"DELETE /healthz", 405, RESOURCE_NONE},
        {"get /healthz", 405, RESOURCE_NONE},
        {"OPTIONS *", 405, RESOURCE_NONE},
        {"CONNECT a:1", 405, RESOURCE_NONE},
        {"OPTIONS /metrics", 405, RESOURCE_NONE},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct resource found = resource_of(head_of(rows[i].line, HOST), (struct span){0}, false);
        cr_expect_eq(found.status, rows[i].status, "%s: %u", rows[i].line, found.status);
        cr_expect_eq(found.kind, rows[i].kind, "%s", rows[i].line);
        cr_expect_eq(found.text == NULL, found.status == 200, "%s", rows[i].line);
        bool allows = found.fields.n > 0 && memmem(found.fields.p, found.fields.n, "Allow:", 6);
        cr_expect_eq(allows, found.status == 405, "%s", rows[i].line);
    }
}

Test(resource, the_token)
{
    static const struct {
        const char *fields;
        bool fits;
    } rows[] = {
        {"", false},
        {"Authorization: Bearer secret\r\n", true},
        {"authorization: bearer secret\r\n", true},
        {"Authorization: Bearer Secret\r\n", false},
        {"Authorization: Bearer secre\r\n", false},
        {"Authorization: Bearer secrett\r\n", false},
        {"Authorization: Bearer secretsecret\r\n", false},
        {"Authorization: Bearer \r\n", false},
        {"Authorization: Bearer  secret\r\n", false},
        {"Authorization: Basic secret\r\n", false},
        {"Authorization: secret\r\n", false},
        {"Authorization: Bearer secret\r\nAuthorization: Bearer secret\r\n", false},
        {"Cookie: Bearer secret\r\n", false},
    };
    char fields[256];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        snprintf(fields, sizeof(fields), "Host: frontd.example\r\n%s", rows[i].fields);
        struct resource found = resource_of(head_of("GET /metrics", fields), SPAN("secret"), true);
        cr_expect_eq(found.status, rows[i].fits ? 200 : 401, "%s", rows[i].fields);
        cr_expect_eq(found.fields.n > 0, !rows[i].fits, "WWW-Authenticate");
        found = resource_of(head_of("GET /status", fields), SPAN("secret"), true);
        cr_expect_eq(found.status, rows[i].fits ? 200 : 401, "%s", rows[i].fields);
        found = resource_of(head_of("GET /api/overview", fields), SPAN("secret"), true);
        cr_expect_eq(found.status, rows[i].fits ? 200 : 401, "%s", rows[i].fields);
        found = resource_of(head_of("GET /", fields), SPAN("secret"), true);
        cr_expect_eq(found.status, 200, "the page asks for it");
        found = resource_of(head_of("GET /healthz", fields), SPAN("secret"), true);
        cr_expect_eq(found.status, 200, "probes have no token");
        found = resource_of(head_of("GET /readyz", fields), SPAN("secret"), true);
        cr_expect_eq(found.status, 200, "probes have no token");
    }
}

Test(resource, names_that_lead_to_a_loopback_address)
{
    static const struct {
        const char *host;
        bool own;
    } rows[] = {
        {"localhost", true},
        {"LocalHost:9464", true},
        {"a.localhost:1", true},
        {"127.0.0.1", true},
        {"127.0.0.1:9464", true},
        {"10.1.2.3:80", true},
        {"[::1]:9464", true},
        {"[::1]", true},
        {"evil.example", false},
        {"evil.example:9464", false},
        {"notlocalhost", false},
        {"localhost.example:9464", false},
        {"127.0.0.1.example", false},
        {"1.2.3", false},
    };
    char fields[128];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        snprintf(fields, sizeof(fields), "Host: %s\r\n", rows[i].host);
        const struct http1_head *asked = head_of("GET /metrics", fields);
        cr_expect_eq(resource_of(asked, (struct span){0}, true).status, rows[i].own ? 200 : 403,
            "%s", rows[i].host);
        cr_expect_eq(resource_of(asked, (struct span){0}, false).status, 200, "%s", rows[i].host);
    }
    cr_expect_eq(
        resource_of(head_of("GET http://evil.example/metrics", HOST), (struct span){0}, true)
            .status,
        403, "the target says more than Host");
    cr_expect_eq(
        resource_of(head_of("GET /metrics", "Host:\r\n"), (struct span){0}, true).status, 200);
}

Test(resource, names_of_metrics)
{
    char line[400];
    char name[RESOURCE_NAME_MAX + 2];
    struct resource found = resource_of(
        head_of("GET /metrics?a=b&name=frontd_pool:x9&c", HOST), (struct span){0}, false);
    cr_assert_eq(found.status, 200);
    cr_expect_eq(found.name.n, strlen("frontd_pool:x9"));
    cr_expect_eq(memcmp(found.name.p, "frontd_pool:x9", found.name.n), 0);
    found = resource_of(head_of("GET /metrics?name=&name=x", HOST), (struct span){0}, false);
    cr_expect_eq(found.name.n, 0, "the first counts");
    static const char *const wrong[] = {"a%5F", "a-b", "a b", "{"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        if (strchr(wrong[i], ' ') != NULL)
            continue; /* no target has one */
        snprintf(line, sizeof(line), "GET /metrics?name=%s", wrong[i]);
        cr_expect_eq(
            resource_of(head_of(line, HOST), (struct span){0}, false).status, 400, "%s", wrong[i]);
    }
    for (size_t n = RESOURCE_NAME_MAX; n <= RESOURCE_NAME_MAX + 1; n++) {
        memset(name, 'a', n);
        name[n] = '\0';
        snprintf(line, sizeof(line), "GET /metrics?name=%s", name);
        cr_expect_eq(resource_of(head_of(line, HOST), (struct span){0}, false).status,
            n <= RESOURCE_NAME_MAX ? 200 : 400, "%zu", n);
    }
}

Test(resource, forms_of_metrics)
{
    static const struct {
        const char *accept; /* NULL: no field */
        enum accept_form form;
    } rows[] = {
        {NULL, ACCEPT_TEXT},
        {"", ACCEPT_TEXT},
        {"*/*", ACCEPT_TEXT},
        {"text/plain", ACCEPT_TEXT},
        {"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", ACCEPT_TEXT},
        /* Prometheus 2.42 and 3 */
        {"application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q="
         "0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            ACCEPT_OPENMETRICS},
        {"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding="
         "delimited;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            ACCEPT_TEXT},
        {"application/openmetrics-text", ACCEPT_OPENMETRICS},
        {"Application/OpenMetrics-Text; Version=\"1.0.0\"; charset=utf-8", ACCEPT_OPENMETRICS},
        {"application/openmetrics-text;version=2.0.0", ACCEPT_NONE},
        {"application/openmetrics-text;version=2.0.0,*/*;q=0.1", ACCEPT_TEXT},
        {"application/*", ACCEPT_OPENMETRICS},
        {"application/openmetrics-text;q=0.5,text/plain;q=0.5", ACCEPT_TEXT},
        {"application/openmetrics-text;q=0.501,text/plain;q=0.5", ACCEPT_OPENMETRICS},
        {"application/openmetrics-text;q=0,*/*;q=0.5", ACCEPT_TEXT},
        {"text/plain;q=0,*/*", ACCEPT_OPENMETRICS},
        {"text/plain;q=0.0", ACCEPT_NONE},
        {"image/png", ACCEPT_NONE},
        {"text/plain;version=1.0", ACCEPT_NONE},
        {",, ,text/plain", ACCEPT_TEXT},
        {"text/plain;note=\"a,b;q=0\"", ACCEPT_TEXT},
        {"text/plain;note=\"\\\"", ACCEPT_TEXT},
    };
    char fields[512];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *accept = rows[i].accept;
        snprintf(fields, sizeof(fields), HOST "%s%s%s",
            accept == NULL ? "" : "Accept: ", accept == NULL ? "" : accept,
            accept == NULL ? "" : "\r\n");
        struct resource found = resource_of(
            head_of("GET /metrics", fields), (struct span){0}, false);
        cr_expect_eq(found.status, rows[i].form == ACCEPT_NONE ? 406 : 200, "%s", fields);
        if (found.status == 200)
            cr_expect_eq(found.form, rows[i].form, "%s", fields);
    }
    cr_expect_eq(
        resource_of(head_of("GET /metrics", HOST "Accept: image/png\r\nAccept: text/plain\r\n"),
            (struct span){0}, false)
            .status,
        200, "several fields are one list");
}
