#include <criterion/criterion.h>
#include <string.h>

#include "frontd/codec/http1_head.h"
#include "frontd/codec/ws_handshake.h"

#define UPGRADE "Upgrade: websocket\r\nConnection: Upgrade\r\n"
#define VERSION "Sec-WebSocket-Version: 13\r\n"
/* RFC 6455 section 1.3 */
#define KEY    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

static struct http1_head head;

/* Parses a request of this method, version and these fields; it ends where its bytes end. */
static char *parse(const char *method, const char *version, const char *fields)
{
    static const struct http1_limits roomy = {.head_bytes = 65536, .fields = HTTP_FIELDS_MAX};
    char *text, *copy;
    const int n = asprintf(
        &text, "%s /chat HTTP/%s\r\nHost: server.example.com\r\n%s\r\n", method, version, fields);
    cr_assert(n > 0);
    copy = malloc((size_t)n);
    cr_assert_not_null(copy);
    memcpy(copy, text, (size_t)n);
    free(text);
    size_t used;
    const int r = http1_head_parse(copy, (size_t)n, &roomy, &head, &used);
    cr_assert_eq(r, 0, "%s: %d", fields, r);
    return copy;
}

Test(ws_handshake, wanted)
{
    static const struct {
        const char *method, *version, *fields;
        bool wanted;
    } rows[] = {
        {"GET", "1.1", UPGRADE, true},
        {"GET", "1.9", UPGRADE, true},
        {"GET", "1.0", UPGRADE, false},
        {"POST", "1.1", UPGRADE "Content-Length: 0\r\n", false},
        {"HEAD", "1.1", UPGRADE, false},
        {"get", "1.1", UPGRADE, false},
        {"GET", "1.1", "", false},
        {"GET", "1.1", "Upgrade: websocket\r\n", false},
        {"GET", "1.1", "Connection: Upgrade\r\n", false},
        {"GET", "1.1", "Upgrade: WebSocket\r\nConnection: upgrade\r\n", true},
        {"GET", "1.1", "UPGRADE: WEBSOCKET\r\nCONNECTION: UPGRADE\r\n", true},
        {"GET", "1.1", "Upgrade: h2c, websocket\r\nConnection: keep-alive, Upgrade\r\n", true},
        {"GET", "1.1", "Upgrade: ,websocket ,h2c\r\nConnection: Upgrade\t,, x\r\n", true},
        {"GET", "1.1",
            "Upgrade: h2c\r\nConnection: keep-alive\r\nUpgrade: websocket\r\n"
            "Connection: upgrade\r\n",
            true},
        {"GET", "1.1", "Upgrade: h2c\r\nConnection: Upgrade\r\n", false},
        {"GET", "1.1", "Upgrade: websocket/13\r\nConnection: Upgrade\r\n", false},
        {"GET", "1.1", "Upgrade: websockets\r\nConnection: Upgrade\r\n", false},
        {"GET", "1.1", "Upgrade: websocke\r\nConnection: Upgrade\r\n", false},
        {"GET", "1.1", "Upgrade: web socket\r\nConnection: Upgrade\r\n", false},
        {"GET", "1.1", "Upgrade:\r\nConnection: Upgrade\r\n", false},
        {"GET", "1.1", "Upgrade: websocket\r\nConnection: websocket\r\n", false},
        {"GET", "1.1", "Upgrade: upgrade\r\nConnection: Upgrade\r\n", false},
        {"GET", "1.1", "Upgrade: websocket\r\nConnection: keep-alive\r\n", false},
        {"GET", "1.1", "X-Upgrade: websocket\r\nX-Connection: Upgrade\r\n", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char *copy = parse(rows[i].method, rows[i].version, rows[i].fields);
        cr_assert_eq(ws_wanted(&head.http), rows[i].wanted, "row %zu: %s", i, rows[i].fields);
        free(copy);
    }
}

struct row {
    const char *fields;
    int result;
    const char *protocol; /* the one that is chosen */
};

/* The lists end in NULL. What is refused leaves the outputs as they were. */
static void check(const struct row *rows, size_t count, char *const *origins,
    char *const *protocols, const char *accept)
{
    size_t norigins = 0, nprotocols = 0;
    while (origins[norigins] != NULL)
        norigins++;
    while (protocols[nprotocols] != NULL)
        nprotocols++;
    for (size_t i = 0; i < count; i++) {
        char *copy = parse("GET", "1.1", rows[i].fields);
        char result[WS_ACCEPT_SIZE] = "before";
        int protocol = -7;
        const int r = ws_handshake(
            &head.http, origins, norigins, protocols, nprotocols, result, &protocol);
        cr_assert_eq(r, rows[i].result, "row %zu: %s: %d", i, rows[i].fields, r);
        cr_assert_str_eq(result, r == 0 ? accept : "before", "row %zu: %s", i, result);
        if (r != 0)
            cr_assert_eq(protocol, -7);
        else if (rows[i].protocol == NULL)
            cr_assert_eq(protocol, -1, "row %zu: %s", i, rows[i].fields);
        else
            cr_assert(protocol >= 0 && (size_t)protocol < nprotocols &&
                          strcmp(protocols[protocol], rows[i].protocol) == 0,
                "row %zu: %s: %d", i, rows[i].fields, protocol);
        free(copy);
    }
}

/* As the config has them: not const. */
#define TEXT(literal) ((char[]){literal})

static char *const none[] = {NULL};

Test(ws_handshake, key_and_version)
{
    static const struct row rows[] = {
        {UPGRADE KEY VERSION, 0, NULL},
        {UPGRADE VERSION "sec-websocket-KEY:\t dGhlIHNhbXBsZSBub25jZQ== \r\n", 0, NULL},
        {KEY VERSION "Sec-WebSocket-Extensions: permessage-deflate\r\n", 0, NULL},
        {KEY VERSION "Origin: null\r\nSec-WebSocket-Protocol: a, b\r\n", 0, NULL},

        {VERSION, 400, NULL},
        {KEY KEY VERSION, 400, NULL},
        {VERSION "Sec-WebSocket-Key:\r\n", 400, NULL},
        {VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=\r\n", 400, NULL},
        {VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ\r\n", 400, NULL},
        {VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ===\r\n", 400, NULL},
        {VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=A\r\n", 400, NULL},
        {VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQA=\r\n", 400, NULL},
        {VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j====\r\n", 400, NULL},
        {VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ-==\r\n", 400, NULL},
        {VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ_==\r\n", 400, NULL},
        {VERSION "Sec-WebSocket-Key: =GhlIHNhbXBsZSBub25jZQ==\r\n", 400, NULL},
        {VERSION "Sec-WebSocket-Key: dGhlIHNhbXBs SBub25jZQ==\r\n", 400, NULL},
        {VERSION "Sec-WebSocket-Key: dGhlIHNhbXBs,SBub25jZQ==\r\n", 400, NULL},
        {VERSION "Sec-WebSocket-Key: dGhlIHNhbXBs\xc3\xa4"
                 "ub25jZQ==\r\n",
            400, NULL},
        {VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==\r\n", 400,
            NULL},

        {KEY, 426, NULL},
        {"", 426, NULL},
        {KEY VERSION VERSION, 426, NULL},
        {KEY "Sec-WebSocket-Version: 8\r\n", 426, NULL},
        {KEY "Sec-WebSocket-Version: 14\r\n", 426, NULL},
        {KEY "Sec-WebSocket-Version: 1\r\n", 426, NULL},
        {KEY "Sec-WebSocket-Version: 133\r\n", 426, NULL},
        {KEY "Sec-WebSocket-Version: 013\r\n", 426, NULL},
        {KEY "Sec-WebSocket-Version: 13, 8\r\n", 426, NULL},
        {KEY "Sec-WebSocket-Version:\r\n", 426, NULL},
    };
    check(rows, ARRAY_LEN(rows), none, none, ACCEPT);
}

/* Computed by Python's hashlib and base64; all of the alphabet is in the keys. */
Test(ws_handshake, accept)
{
    static const struct {
        const char *key, *accept;
    } rows[] = {
        {"AAAAAAAAAAAAAAAAAAAAAA==", "ICX+Yqv66kxgM0FcWaLWlFLwTAI="},
        {"ABCDEFGHIJKLMNOPQRSTUw==", "ngJoHAbFIKm57vaj6rm2qWNQ+vU="},
        {"VWXYZabcdefghijklmnopg==", "QsJ2XBiLdGo3YQBAX22zJ2uzcLQ="},
        {"qrstuvwxyz0123456789+w==", "YHPa37f5lTuusZ7x7OGIOCxE4Bg="},
        {"/////////////////////w==", "XXpj4jYzLM2yUE0C7TIgMwTQh2g="},
        {"/////////////////////+==",
            "3BVAQ6Z9FcOLtfBDpV3+0WEa6Ts="}, /* the bits that stand for nothing are not 0 */
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char fields[128];
        snprintf(fields, sizeof(fields), VERSION "Sec-WebSocket-Key: %s\r\n", rows[i].key);
        const struct row row = {fields, 0, NULL};
        check(&row, 1, none, none, rows[i].accept);
    }
}

#define GOOD KEY VERSION

Test(ws_handshake, origins)
{
    static const struct row rows[] = {
        {GOOD, 0, NULL},
        {GOOD "Origin: https://example.com\r\n", 0, NULL},
        {GOOD "oRIGIN: HTTPS://Example.COM\r\n", 0, NULL},
        {GOOD "Origin: http://localhost:8080\r\n", 0, NULL},
        {GOOD "Origin: https://example.com\r\nOrigin: http://localhost:8080\r\n", 0, NULL},
        {GOOD "Origin: https://example.com\r\nOrigin: https://evil.example\r\n", 403, NULL},
        {GOOD "Origin: https://evil.example\r\nOrigin: https://example.com\r\n", 403, NULL},
        {GOOD "Origin: https://example.com, https://example.com\r\n", 403, NULL},
        {GOOD "Origin: https://evil.example\r\n", 403, NULL},
        {GOOD "Origin: https://example.com.evil.example\r\n", 403, NULL},
        {GOOD "Origin: https://example.co\r\n", 403, NULL},
        {GOOD "Origin: http://example.com\r\n", 403, NULL},
        {GOOD "Origin: https://example.com/\r\n", 403, NULL},
        {GOOD "Origin: https://example.com:443\r\n", 403, NULL},
        {GOOD "Origin: http://localhost\r\n", 403, NULL},
        {GOOD "Origin: null\r\n", 403, NULL},
        {GOOD "Origin: *\r\n", 403, NULL},
        {GOOD "Origin:\r\n", 403, NULL},
        {VERSION "Origin: null\r\n", 400, NULL},
        {KEY "Origin: null\r\n", 426, NULL},
        {GOOD "Origin: null\r\nSec-WebSocket-Protocol: a b\r\n", 400, NULL},
    };
    char *const origins[] = {TEXT("https://example.com"), TEXT("http://LOCALHOST:8080"), NULL};
    check(rows, ARRAY_LEN(rows), origins, none, ACCEPT);

    static const struct row any[] = {
        {GOOD, 0, NULL},
        {GOOD "Origin: null\r\n", 0, NULL},
        {GOOD "Origin: https://a.example\r\nOrigin:\r\n", 0, NULL},
    };
    char *const star[] = {TEXT("https://example.com"), TEXT("*"), NULL};
    check(any, ARRAY_LEN(any), star, none, ACCEPT);
    check(any, ARRAY_LEN(any), none, none, ACCEPT);
}

#define PROTOCOL "Sec-WebSocket-Protocol: "

Test(ws_handshake, protocols)
{
    static const struct row rows[] = {
        {GOOD, 0, NULL},
        {GOOD PROTOCOL "jsonrpc\r\n", 0, "jsonrpc"},
        {GOOD PROTOCOL "old\r\n", 0, "old"},
        {GOOD PROTOCOL "other\r\n", 0, NULL},
        {GOOD PROTOCOL "old, jsonrpc\r\n", 0, "jsonrpc"}, /* the server's order counts */
        {GOOD PROTOCOL "jsonrpc, old\r\n", 0, "jsonrpc"},
        {GOOD PROTOCOL "other,old , more\r\n", 0, "old"},
        {GOOD PROTOCOL "old\r\n" PROTOCOL "jsonrpc\r\n", 0, "jsonrpc"},
        {GOOD PROTOCOL "a, b\r\nX: y\r\n" PROTOCOL "c\r\n" PROTOCOL "d, old\r\n", 0, "old"},
        {GOOD PROTOCOL "old, old\r\n", 0, "old"},
        {GOOD PROTOCOL ",, old ,\r\n", 0, "old"},
        {GOOD PROTOCOL "JSONRPC, OLD\r\n", 0, NULL},
        {GOOD PROTOCOL "json, jsonrpc2\r\n", 0, NULL},

        {GOOD PROTOCOL "\r\n", 400, NULL},
        {GOOD PROTOCOL ", ,\r\n", 400, NULL},
        {GOOD PROTOCOL "jsonrpc\r\n" PROTOCOL "\r\n", 400, NULL},
        {GOOD PROTOCOL "json rpc\r\n", 400, NULL},
        {GOOD PROTOCOL "jsonrpc, a/b\r\n", 400, NULL},
        {GOOD PROTOCOL "jsonrpc; old\r\n", 400, NULL},
        {GOOD PROTOCOL "\"jsonrpc\"\r\n", 400, NULL},
        {GOOD PROTOCOL "jsonrpc\r\n" PROTOCOL "\xc3\xa4\r\n", 400, NULL},
        {GOOD PROTOCOL "\xc3\xa4\r\n" PROTOCOL "jsonrpc\r\n", 400, NULL},
    };
    char *const protocols[] = {TEXT("jsonrpc"), TEXT("old"), NULL};
    check(rows, ARRAY_LEN(rows), none, protocols, ACCEPT);

    static const struct row unasked[] = {
        {GOOD PROTOCOL "jsonrpc\r\n", 0, NULL},
        {GOOD PROTOCOL "json rpc\r\n", 400, NULL},
    };
    check(unasked, ARRAY_LEN(unasked), none, none, ACCEPT);
}
