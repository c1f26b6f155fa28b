#include "frontd/admin/http_answer.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

enum { STATUS_AT = 9, STATUS_END = 12, LENGTH_MAX = 1 << 20, SECONDS_MAX = 24 * 3600 };

/* Reads digits alone, up to max. Returns -1 for anything else. */
static int64_t read_number(struct span text, int64_t max)
{
    int64_t number = 0;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9' || number > max / 10)
            return -1;
        number = number * 10 + (text.p[i] - '0');
    }
    return text.n == 0 || number > max ? -1 : number;
}

static bool is_name(struct span name, const char *wanted)
{
    return name.n == strlen(wanted) && strncasecmp(name.p, wanted, name.n) == 0;
}

/* What the head says of where the answer ends. */
struct head {
    struct http_answer answer;
    int64_t length; /* -1: not said */
    bool chunked;
};

static int read_field(struct span line, struct head *head)
{
    const char *colon = memchr(line.p, ':', line.n);
    if (colon == NULL || colon == line.p)
        return -EBADMSG;
    struct span name = {line.p, (size_t)(colon - line.p)};
    struct span value = {colon + 1, line.n - name.n - 1};
    while (value.n > 0 && (value.p[0] == ' ' || value.p[0] == '\t'))
        value = (struct span){value.p + 1, value.n - 1};
    while (value.n > 0 && (value.p[value.n - 1] == ' ' || value.p[value.n - 1] == '\t'))
        value.n--;
    if (is_name(name, "content-length")) {
        int64_t length = read_number(value, LENGTH_MAX);
        if (length < 0 || (head->length >= 0 && head->length != length))
            return -EBADMSG;
        head->length = length;
    } else if (is_name(name, "transfer-encoding")) {
        head->chunked = true;
    } else if (is_name(name, "connection")) {
        head->answer.keep_alive &= !is_name(value, "close");
    } else if (is_name(name, "retry-after")) {
        int64_t seconds = read_number(value, SECONDS_MAX); /* a date is not looked at */
        head->answer.retry_after = seconds < 0 ? 0 : (uint32_t)seconds;
    }
    return 0;
}

static int read_status(struct span line, struct http_answer *answer)
{
    if (line.n < STATUS_END || memcmp(line.p, "HTTP/1.", 7) != 0 || line.p[STATUS_AT - 1] != ' ' ||
        (line.n > STATUS_END && line.p[STATUS_END] != ' '))
        return -EBADMSG;
    int64_t status = read_number((struct span){line.p + STATUS_AT, STATUS_END - STATUS_AT}, 999);
    if (status < 200) /* 1xx is not asked for */
        return -EBADMSG;
    answer->status = (unsigned)status;
    answer->keep_alive = line.p[7] != '0';
    return 0;
}

/* The line at `at`, without its end; *ret_next is behind that. */
static bool next_line(struct span bytes, size_t at, struct span *ret_line, size_t *ret_next)
{
    const char *end = at == bytes.n ? NULL : memchr(bytes.p + at, '\n', bytes.n - at);
    if (end == NULL)
        return false;
    size_t n = (size_t)(end - bytes.p) - at;
    *ret_next = at + n + 1;
    *ret_line = (struct span){bytes.p + at, n > 0 && end[-1] == '\r' ? n - 1 : n};
    return true;
}

int http_answer_read(struct span bytes, struct http_answer *ret)
{
    struct head head = {.length = -1};
    struct span line;
    size_t at = 0;
    int r = 0;
    for (bool first = true; r == 0; first = false) {
        if (!next_line(bytes, at, &line, &at))
            return 0;
        if (line.n == 0)
            break;
        r = first ? read_status(line, &head.answer) : read_field(line, &head);
    }
    if (r < 0 || head.answer.status == 0)
        return -EBADMSG;
    if (head.answer.status == 204 || head.answer.status == 304)
        head.length = 0;
    if (head.chunked || head.length < 0) {
        head.answer.keep_alive = false;
        head.length = 0;
    }
    if (bytes.n - at < (size_t)head.length)
        return 0;
    head.answer.keep_alive &= bytes.n - at == (size_t)head.length;
    head.answer.body = (struct span){bytes.p + at, (size_t)head.length};
    *ret = head.answer;
    return 1;
}
