#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "frontd/admin/http_answer.h"

#define OK "HTTP/1.1 200 OK\r\n"

static int reads(const char *text, size_t n, struct http_answer *ret)
{
    char *copy = malloc(n + (n == 0)); /* ends where its bytes end: ASan sees the rest */
    cr_assert_not_null(copy);
    memcpy(copy, text, n);
    int r = http_answer_read((struct span){copy, n}, ret);
    if (r == 1)
        ret->body.p = text + (ret->body.p - copy);
    free(copy);
    return r;
}

Test(http_answer, answers)
{
    static const struct {
        const char *text;
        int r;
        unsigned status;
        bool keep_alive;
        uint32_t retry_after;
        const char *body;
    } rows[] = {
        {OK "Content-Length: 2\r\n\r\n{}", 1, 200, true, 0, "{}"},
        {OK "content-length:0\r\n\r\n", 1, 200, true, 0, ""},
        {OK "Content-Length: 2\r\nConnection: close\r\n\r\n{}", 1, 200, false, 0, "{}"},
        {"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", 1, 200, false, 0, ""},
        {"HTTP/1.1 204\r\n\r\n", 1, 204, true, 0, ""},
        {"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", 1, 503, true, 7, ""},
        {"HTTP/1.1 429 \r\nRetry-After: Wed, 21 Oct\r\nContent-Length: 0\r\n\r\n", 1, 429, true, 0,
            ""},
        {"HTTP/1.1 429 \r\nRetry-After: 99999999999\r\nContent-Length: 0\r\n\r\n", 1, 429, true, 0,
            ""},
        {OK "\r\n", 1, 200, false, 0, ""},
        {OK "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 1, 200, false, 0, ""},
        {OK "Content-Length: 0\r\n\r\nmore", 1, 200, false, 0, ""},
        {"HTTP/1.1 200 OK\nContent-Length: 1\n\nx", 1, 200, true, 0, "x"},
        {OK "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", -EBADMSG, 0, false, 0, ""},
        {OK "Content-Length: -2\r\n\r\n{}", -EBADMSG, 0, false, 0, ""},
        {OK "Content-Length: \r\n\r\n{}", -EBADMSG, 0, false, 0, ""},
        {OK "Content-Length: 1048577\r\n\r\n", -EBADMSG, 0, false, 0, ""},
        {OK "Content-Length: 1048576\r\n\r\n", 0, 0, false, 0, ""},
        {OK ": x\r\n\r\n", -EBADMSG, 0, false, 0, ""},
        {OK "nothing\r\n\r\n", -EBADMSG, 0, false, 0, ""},
        {"HTTP/1.1 100 Continue\r\n\r\n", -EBADMSG, 0, false, 0, ""},
        {"HTTP/1.1 2000 OK\r\n\r\n", -EBADMSG, 0, false, 0, ""},
        {"HTTP/2 200 OK\r\n\r\n", -EBADMSG, 0, false, 0, ""},
        {"HTTP/1.1 20", 0, 0, false, 0, ""},
        {"\r\n\r\n", -EBADMSG, 0, false, 0, ""},
        {"SSH-2.0\r\n", -EBADMSG, 0, false, 0, ""},
        {"", 0, 0, false, 0, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct http_answer answer = {.status = 0};
        int r = reads(rows[i].text, strlen(rows[i].text), &answer);
        cr_expect_eq(r, rows[i].r, "%s: %d", rows[i].text, r);
        cr_expect_eq(answer.status, rows[i].status, "%s", rows[i].text);
        cr_expect_eq(answer.keep_alive, rows[i].keep_alive, "%s", rows[i].text);
        cr_expect_eq(answer.retry_after, rows[i].retry_after, "%s", rows[i].text);
        cr_expect(
            answer.body.n == strlen(rows[i].body) &&
                (answer.body.n == 0 || memcmp(answer.body.p, rows[i].body, answer.body.n) == 0),
            "%s", rows[i].text);
    }
}

Test(http_answer, more_is_needed_until_the_end)
{
    static const char text[] = OK "Content-Length: 2\r\nRetry-After: 1\r\n\r\n{}";
    struct http_answer answer;
    for (size_t n = 0; n < sizeof(text) - 1; n++)
        cr_expect_eq(reads(text, n, &answer), 0, "%zu", n);
    cr_expect_eq(reads(text, sizeof(text) - 1, &answer), 1);
}
