#include <string.h>
#include <time.h>

#include "frontd/codec/http1.h"

static const struct {
    unsigned status;
    const char *reason;
} reasons[] = {
    {100, "Continue"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {204, "No Content"},
    {205, "Reset Content"},
    {206, "Partial Content"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {422, "Unprocessable Content"},
    {426, "Upgrade Required"},
    {428, "Precondition Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
};

const char *http1_reason(unsigned status)
{
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
        if (reasons[i].status == status)
            return reasons[i].reason;
    }
    return "";
}

void http1_date(int64_t seconds, char out[static HTTP1_DATE_SIZE])
{
    /* strftime() would follow the locale. */
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t time = (time_t)seconds;
    struct tm tm;
    gmtime_r(&time, &tm);
    char text[64];
    snprintf(text, sizeof(text), "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday],
        tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
    memcpy(out, text, HTTP1_DATE_SIZE - 1);
    out[HTTP1_DATE_SIZE - 1] = '\0';
}

static char *put(char *out, const char *text, size_t n)
{
    memcpy(out, text, n);
    return out + n;
}

#define PUT(out, literal) put(out, literal, sizeof(literal) - 1)

static char *put_number(char *out, uint64_t number)
{
    char digits[20];
    size_t n = 0;
    do {
        digits[n++] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    while (n > 0)
        *out++ = digits[--n];
    return out;
}

static char *put_status_line(char *out, unsigned status)
{
    if (LIKELY(status == 200))
        return PUT(out, "HTTP/1.1 200 OK\r\n");
    const char *reason = http1_reason(status);
    out = PUT(out, "HTTP/1.1 ");
    out = put_number(out, status);
    *out++ = ' ';
    out = put(out, reason, strlen(reason));
    return PUT(out, "\r\n");
}

size_t http1_reply_head(char *out, const struct http1_reply *reply, const char *date)
{
    char *start = out;
    out = put_status_line(out, reply->status);
    out = PUT(out, "Server: frontd\r\nDate: ");
    out = put(out, date, HTTP1_DATE_SIZE - 1);
    out = PUT(out, "\r\n");
    if (reply->content_type != NULL) {
        out = PUT(out, "Content-Type: ");
        out = put(out, reply->content_type, strlen(reply->content_type));
        out = PUT(out, "\r\n");
    }
    if (reply->fields.n > 0)
        out = put(out, reply->fields.p, reply->fields.n);
    if (reply->cors.n > 0)
        out = put(out, reply->cors.p, reply->cors.n);
    if (reply->id.n > 0)
        out = put(out, reply->id.p, reply->id.n);
    if (!reply->no_length) {
        out = PUT(out, "Content-Length: ");
        out = put_number(out, reply->content_length);
        out = PUT(out, "\r\n");
    }
    if (reply->chunked)
        out = PUT(out, "Transfer-Encoding: chunked\r\n");
    if (!reply->keep_alive)
        out = PUT(out, "Connection: close\r\n");
    else if (reply->minor == 0)
        out = PUT(out, "Connection: keep-alive\r\n");
    out = PUT(out, "\r\n");
    return (size_t)(out - start);
}
