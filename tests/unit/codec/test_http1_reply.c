#include <criterion/criterion.h>
#include <locale.h>
#include <string.h>

#include "frontd/codec/http1.h"

static const char date[HTTP1_DATE_SIZE] = "Sun, 06 Nov 1994 08:49:37 GMT";

#define BEGIN "Server: frontd\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"

Test(http1_reply, heads)
{
    const struct {
        struct http1_reply reply;
        const char *text;
    } rows[] = {
        {{.status = 200, .minor = 1, .keep_alive = true},
            "HTTP/1.1 200 OK\r\n" BEGIN "Content-Length: 0\r\n\r\n"},
        {{.status = 200, .minor = 1, .keep_alive = false},
            "HTTP/1.1 200 OK\r\n" BEGIN "Content-Length: 0\r\nConnection: close\r\n\r\n"},
        {{.status = 200, .minor = 0, .keep_alive = true},
            "HTTP/1.1 200 OK\r\n" BEGIN "Content-Length: 0\r\nConnection: keep-alive\r\n\r\n"},
        {{.status = 200, .minor = 0, .keep_alive = false},
            "HTTP/1.1 200 OK\r\n" BEGIN "Content-Length: 0\r\nConnection: close\r\n\r\n"},
        {{.status = 204, .minor = 1, .keep_alive = true, .no_length = true, .content_length = 7},
            "HTTP/1.1 204 No Content\r\n" BEGIN "\r\n"},
        {{.status = 304, .minor = 1, .no_length = true, .fields = SPAN("ETag: \"a\"\r\n")},
            "HTTP/1.1 304 Not Modified\r\n" BEGIN "ETag: \"a\"\r\nConnection: close\r\n\r\n"},
        {{.status = 404,
             .minor = 1,
             .keep_alive = true,
             .content_length = 9,
             .content_type = "text/plain"},
            "HTTP/1.1 404 Not Found\r\n" BEGIN
            "Content-Type: text/plain\r\nContent-Length: 9\r\n\r\n"},
        {{.status = 503,
             .minor = 1,
             .keep_alive = true,
             .content_length = 10,
             .content_type = "text/plain",
             .fields = SPAN("Retry-After: 1\r\nX: y\r\n")},
            "HTTP/1.1 503 Service Unavailable\r\n" BEGIN
            "Content-Type: text/plain\r\nRetry-After: 1\r\nX: y\r\nContent-Length: 10\r\n\r\n"},
        {{.status = 204,
             .minor = 1,
             .keep_alive = true,
             .no_length = true,
             .fields = SPAN("Allow: POST\r\n"),
             .cors = SPAN("Vary: Origin\r\n")},
            "HTTP/1.1 204 No Content\r\n" BEGIN "Allow: POST\r\nVary: Origin\r\n\r\n"},
        /* RFC 9112 section 4: the space stays though there is no reason */
        {{.status = 299, .minor = 1, .keep_alive = true},
            "HTTP/1.1 299 \r\n" BEGIN "Content-Length: 0\r\n\r\n"},
        {{.status = 200, .minor = 1, .keep_alive = true, .content_length = UINT64_MAX},
            "HTTP/1.1 200 OK\r\n" BEGIN "Content-Length: 18446744073709551615\r\n\r\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        /* Exactly as much room as there has to be. */
        char *out = malloc(HTTP1_REPLY_HEAD_MAX + rows[i].reply.fields.n + rows[i].reply.cors.n);
        cr_assert_not_null(out);
        size_t n = http1_reply_head(out, &rows[i].reply, date);
        cr_assert(n == strlen(rows[i].text) && memcmp(out, rows[i].text, n) == 0, "%zu: %.*s", i,
            (int)n, out);
        free(out);
    }
}

/* Whatever the status is, a head fits, and has one line with it. */
Test(http1_reply, every_status_fits)
{
    for (unsigned status = 100; status <= 999; status++) {
        char out[HTTP1_REPLY_HEAD_MAX];
        char line[128];
        const struct http1_reply reply = {
            .status = status, .content_length = UINT64_MAX, .content_type = "application/json"};
        size_t n = http1_reply_head(out, &reply, date);
        int wanted = snprintf(
            line, sizeof(line), "HTTP/1.1 %u %s\r\n", status, http1_reason(status));
        cr_assert(n <= sizeof(out) && memcmp(out, line, (size_t)wanted) == 0);
        cr_assert_eq(memcmp(out + n - 4, "\r\n\r\n", 4), 0);
    }
}

Test(http1_reply, reasons)
{
    static const struct {
        unsigned status;
        const char *reason;
    } rows[] = {
        {100, "Continue"},
        {200, "OK"},
        {204, "No Content"},
        {205, "Reset Content"},
        {304, "Not Modified"},
        {400, "Bad Request"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {417, "Expectation Failed"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {0, ""},
        {299, ""},
        {599, ""},
        {4294967295, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        cr_assert_str_eq(http1_reason(rows[i].status), rows[i].reason);
}

Test(http1_reply, dates)
{
    static const struct {
        int64_t seconds;
        const char *text;
    } rows[] = {
        {0, "Thu, 01 Jan 1970 00:00:00 GMT"},
        {784111777, "Sun, 06 Nov 1994 08:49:37 GMT"}, /* RFC 9110 section 5.6.7 */
        {951782400, "Tue, 29 Feb 2000 00:00:00 GMT"},
        {951868799, "Tue, 29 Feb 2000 23:59:59 GMT"},
        {951868800, "Wed, 01 Mar 2000 00:00:00 GMT"},
        {1078012800, "Sun, 29 Feb 2004 00:00:00 GMT"},
        {1234567890, "Fri, 13 Feb 2009 23:31:30 GMT"},
        {2147483647, "Tue, 19 Jan 2038 03:14:07 GMT"},
        {2147483648, "Tue, 19 Jan 2038 03:14:08 GMT"},
        {4102444799, "Thu, 31 Dec 2099 23:59:59 GMT"},
        {4107542400, "Mon, 01 Mar 2100 00:00:00 GMT"}, /* 2100 is no leap year */
        {253402300799, "Fri, 31 Dec 9999 23:59:59 GMT"},
    };
    char *locale = setlocale(LC_ALL, "");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char out[HTTP1_DATE_SIZE];
        memset(out, 'x', sizeof(out));
        http1_date(rows[i].seconds, out);
        cr_assert_eq(out[HTTP1_DATE_SIZE - 1], '\0');
        cr_assert_str_eq(out, rows[i].text, "%lld in locale %s: %s", (long long)rows[i].seconds,
            locale == NULL ? "C" : locale, out);
    }
}
