/*
 * Says what the scanner makes of texts, for comparison with another implementation. On stdin: for
 * each text its length (4 bytes, big-endian) and its bytes. On stdout one line of JSON for each:
 *
 *   "parse"                              not JSON
 *   "invalid" | ["invalid", id]          JSON, and no request; its id where there is a usable one
 *   "batch"                              more than BATCH_MAX members
 *   {"batch":false,"members":[[kind, method, id, params], …]}
 *
 * Values are copied as they stand in the text; null is what is absent, and a method is its string.
 * An id or params that is there is in an array of its own, so that null is told from absent. A
 * second value in the line, behind a tab, is true or false: whether the text is a valid response.
 */

#include <string.h>

#include "proto/jsonrpc.h"

enum {
    TEXT_MAX = 1 << 20, /* bytes; the tests send far less */
    BATCH_MAX = 64,     /* members */
};

static void put_span(struct span span)
{
    if (span.n != 0)
        fwrite(span.p, 1, span.n, stdout);
}

/*
 * Line ends and tabs are white space wherever they stand in JSON; here they end the line or value.
 */
static void put_value(struct span value)
{
    if (value.n == 0) {
        fputs("null", stdout);
        return;
    }
    putchar('[');
    for (size_t i = 0; i < value.n; i++)
        putchar(strchr("\n\r\t", value.p[i]) != NULL ? ' ' : value.p[i]);
    putchar(']');
}

static void put_request(const struct jsonrpc_request *request)
{
    static const char *const kinds[] = {
        [JSONRPC_CALL] = "call",
        [JSONRPC_NOTIFY] = "notify",
        [JSONRPC_INVALID] = "invalid",
        [JSONRPC_RESPONSE] = "response",
        [JSONRPC_BAD_RESPONSE] = "bad response",
    };

    printf("[\"%s\",\"", kinds[request->kind]);
    put_span(request->method);
    fputs("\",", stdout);
    put_value(request->id);
    putchar(',');
    put_value(request->params);
    putchar(']');
}

static void judge(const char *text, size_t n)
{
    struct jsonrpc_request members[BATCH_MAX];
    struct jsonrpc_response response;
    size_t count;
    bool batch;

    const int r = jsonrpc_scan(text, n, members, BATCH_MAX, &count, &batch);
    if ((jsonrpc_validate(text, n) != 0) != (r == JSONRPC_E_PARSE)) {
        puts("\"the scanner and the validator disagree\"\tfalse");
        return;
    }
    if (r == JSONRPC_E_PARSE) {
        fputs("\"parse\"", stdout);
    } else if (r == JSONRPC_E_BATCH) {
        fputs("\"batch\"", stdout);
    } else if (r == JSONRPC_E_INVALID && members[0].id.n == 0) {
        fputs("\"invalid\"", stdout);
    } else if (r == JSONRPC_E_INVALID) {
        fputs("[\"invalid\",", stdout);
        put_span(members[0].id);
        putchar(']');
    } else {
        printf("{\"batch\":%s,\"members\":[", batch ? "true" : "false");
        for (size_t i = 0; i < count; i++) {
            if (i > 0)
                putchar(',');
            put_request(&members[i]);
        }
        fputs("]}", stdout);
    }
    puts(jsonrpc_scan_response(text, n, &response) == 0 ? "\ttrue" : "\tfalse");
}

int main(void)
{
    uint8_t head[4];

    while (fread(head, 1, sizeof(head), stdin) == sizeof(head)) {
        const size_t n = (size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 |
                         head[3];
        CHECK(n <= TEXT_MAX);
        char *text = malloc(n + (n == 0)); /* exactly as large, so that ASan sees a read past it */
        CHECK(text != NULL);
        CHECK(fread(text, 1, n, stdin) == n);
        judge(text, n);
        free(text);
    }
    return 0;
}
