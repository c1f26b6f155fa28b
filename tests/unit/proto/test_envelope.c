#include <criterion/criterion.h>
#include <string.h>

#include "proto/envelope.h"

static const char *const names[ENVELOPE_KEYS] = {
    "jsonrpc", "method", "id", "params", "result", "error"};

/* Scans {KEY:0} or, two keys given, {KEY:0,SECOND:1}; the keys without quotes. */
static struct envelope scan(const char *key, const char *second)
{
    char text[256];
    struct envelope envelope;
    int n = snprintf(text, sizeof(text), second == NULL ? "{\"%s\":0}" : "{\"%s\":0,\"%s\":1}", key,
        second == NULL ? "" : second);
    cr_assert(n > 0 && (size_t)n < sizeof(text));
    char *copy = malloc((size_t)n); /* exactly as large, so that ASan sees a read past it */
    cr_assert_not_null(copy);
    memcpy(copy, text, (size_t)n);
    cr_assert_eq(envelope_scan(copy, copy + n, 0, &envelope), copy + n, "%s", text);
    for (int i = 0; i < ENVELOPE_KEYS; i++) {
        struct span *value = &envelope.values[i];
        cr_assert(value->n <= 1);
        if (value->n == 1)
            value->p = *value->p == '0' ? "0" : "1";
    }
    free(copy);
    return envelope;
}

/* Which members are there in doubt, and which are there at all. */
static void expect(
    struct envelope envelope, int key, bool doubtful, const char *value, const char *what)
{
    for (int i = 0; i < ENVELOPE_KEYS; i++) {
        const bool it = i == key;
        cr_expect_eq(envelope.values[i].n, it && value != NULL, "%s", what);
        cr_expect_eq((envelope.doubtful & envelope_bit(i)) != 0, it && doubtful, "%s", what);
        cr_expect_eq(envelope_has(&envelope, i), it, "%s", what);
    }
    if (value != NULL)
        cr_expect_eq(envelope.values[key].p[0], value[0], "%s", what);
}

Test(envelope, names)
{
    for (int key = 0; key < ENVELOPE_KEYS; key++) {
        const char *name = names[key];
        const size_t n = strlen(name);
        char other[64];
        expect(scan(name, NULL), key, false, "0", name);
        expect(scan(name, name), key, true, "1", name);
        expect(scan("x", name), key, false, "1", name);
        /* each letter in the other case, and as an escape in either */
        for (size_t i = 0; i < n; i++) {
            snprintf(other, sizeof(other), "%s", name);
            other[i] ^= 0x20;
            expect(scan(other, NULL), key, true, NULL, other);
            expect(scan(other, name), key, true, "1", other);
            expect(scan(name, other), key, true, "0", other);
            snprintf(other, sizeof(other), "%.*s\\u%04x%s", (int)i, name, (unsigned)name[i],
                name + i + 1);
            expect(scan(other, NULL), key, false, "0", other);
            expect(scan(name, other), key, true, "1", other);
            snprintf(other, sizeof(other), "%.*s\\u%04X%s", (int)i, name, (unsigned)name[i] ^ 0x20U,
                name + i + 1);
            expect(scan(other, NULL), key, true, NULL, other);
            /* one letter less, and another one */
            snprintf(other, sizeof(other), "%.*s%s", (int)i, name, name + i + 1);
            expect(scan(other, NULL), -1, false, NULL, other);
            for (int c = 0x20; c < 0x7f; c++) {
                if (c == '"' || c == '\\' || (c | 0x20) == name[i])
                    continue;
                snprintf(other, sizeof(other), "%.*s%c%s", (int)i, name, c, name + i + 1);
                expect(scan(other, NULL), -1, false, NULL, other);
            }
        }
        /* behind a NUL nothing counts; before one all does */
        snprintf(other, sizeof(other), "%s\\u0000", name);
        expect(scan(other, NULL), key, true, NULL, other);
        snprintf(other, sizeof(other), "%s\\u0000and more than fits", name);
        expect(scan(name, other), key, true, "0", other);
        snprintf(other, sizeof(other), "\\u0000%s", name);
        expect(scan(other, NULL), -1, false, NULL, other);
        snprintf(other, sizeof(other), "%sx", name);
        expect(scan(other, NULL), -1, false, NULL, other);
        snprintf(other, sizeof(other), "%s\\u0020", name);
        expect(scan(other, NULL), -1, false, NULL, other);
    }
    expect(scan("", NULL), -1, false, NULL, "empty");
    expect(scan("param\xc5\xbf", NULL), ENVELOPE_PARAMS, true, NULL, "long s");
    expect(scan("J\\u017FONRPC", NULL), ENVELOPE_JSONRPC, true, NULL, "long s");
    expect(scan("\xc4\xb0\x44", NULL), ENVELOPE_ID, true, NULL, "capital i with a dot");
    expect(scan("\xc4\xb1\x64", "id"), ENVELOPE_ID, true, "1", "small i without one");
    expect(scan("m\xc3\xa9thod", NULL), -1, false, NULL, "another letter");
}

Test(envelope, further_in)
{
    struct envelope envelope;
    const struct span text = SPAN("{ \"id\" : {\"id\":1,\"ID\":2} , \"x\" : [{\"Method\":1}] } ");
    const char *end = envelope_scan(text.p, text.p + text.n, 0, &envelope);
    cr_assert_eq(end, text.p + text.n - 1);
    cr_expect_eq(envelope.doubtful, 0);
    cr_expect_eq(envelope.values[ENVELOPE_ID].n, strlen("{\"id\":1,\"ID\":2}"));
    cr_expect_not(envelope_has(&envelope, ENVELOPE_METHOD));
}

Test(envelope, not_valid)
{
    static const char *const texts[] = {"", "[", "{", "{\"id\"", "{\"id\":", "{\"id\":1",
        "{\"id\":1,", "{\"id\":1,}", "{\"id\":01}", "{id:1}", "{\"id\" 1}", "{\"id\":1 \"x\":2}"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct envelope envelope;
        cr_expect_null(
            envelope_scan(texts[i], texts[i] + strlen(texts[i]), 0, &envelope), "%s", texts[i]);
    }
}

static bool reserved(const char *method)
{
    const size_t n = strlen(method);
    char *copy = malloc(n + (n == 0));
    cr_assert_not_null(copy);
    memcpy(copy, method, n);
    bool is = envelope_is_reserved((struct span){copy, n});
    free(copy);
    return is;
}

Test(envelope, reserved)
{
    static const char *const own[] = {"frontd.", "frontd.connect", "Frontd.connect", "FRONTD.X",
        "\\u0066rontd.connect", "\\u0046rontd.connect", "frontd\\u002econnect", "frontd.\\u0000",
        "http.request", "HTTP.Request", "http.requesT", "\\u0048ttp.request", "http.reque\\u017ft",
        "http.reque\xc5\xbft", "http.reque\xef\xac\x86", "http.request\\u0000",
        "http.request\\u0000x"};
    static const char *const others[] = {"", "f", "frontd", "frontdx", "frontd\\u0000.connect",
        "xfrontd.connect", " frontd.connect", "\\u0020frontd.connect", "http.request2",
        "http.request.x", "http.reques", "http.requests", "https.request", "demo.echo", "health",
        "foo.bar"};
    for (size_t i = 0; i < ARRAY_LEN(own); i++)
        cr_expect(reserved(own[i]), "%s", own[i]);
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        cr_expect_not(reserved(others[i]), "%s", others[i]);
    cr_expect_not(envelope_is_reserved((struct span){NULL, 0}));
}
