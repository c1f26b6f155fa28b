#include <criterion/criterion.h>
#include <string.h>

#include "frontd/codec/jwt.h"

static struct jwt jwt;
static char token[3 * JWT_MAX];

static char *put(char *to, const char *text, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint32_t bits = 0;
    unsigned held = 0;
    for (size_t i = 0; i < n; i++) {
        bits = bits << 8 | (unsigned char)text[i];
        for (held += 8; held >= 6; held -= 6)
            *to++ = digits[bits >> (held - 6) & 63];
    }
    if (held > 0)
        *to++ = digits[bits << (6 - held) & 63];
    return to;
}

static const char *parse(const char *header, const char *claims)
{
    char *to = put(token, header, strlen(header));
    *to++ = '.';
    to = put(to, claims, strlen(claims));
    *to++ = '.';
    to = put(to, "sig", 3);
    return jwt_parse((struct span){token, (size_t)(to - token)}, &jwt);
}

static bool is(struct span span, const char *text)
{
    return span.n == strlen(text) && memcmp(span.p, text, span.n) == 0;
}

Test(jwt, parts)
{
    const char *wrong = parse("{\"typ\":\"JWT\",\"alg\":\"RS256\",\"kid\":\"a\\u0062\"}",
        " { \"sub\" : \"me\" , \"exp\":17,\"x\":{\"exp\":1},\"aud\":[\"a\"]} ");
    cr_assert_null(wrong, "%s", wrong);
    cr_expect(is(jwt.alg, "RS256"));
    cr_expect(is(jwt.kid, "a\\u0062"));
    cr_expect(is(jwt.sub, "\"me\""));
    cr_expect(is(jwt.exp, "17"));
    cr_expect(is(jwt.aud, "[\"a\"]"));
    cr_expect_eq(jwt.iss.n, 0);
    cr_expect_eq(jwt.signature_n, 3);
    cr_expect_eq(jwt.head.p, token);
    cr_expect_null(memchr(jwt.head.p + jwt.head.n + 1, '.', 3));
    cr_assert_null(parse("{\"alg\":\"\"}", "{}"));
    cr_expect_null(jwt.kid.p);
    cr_expect_eq(jwt.exp.n, 0);
}

Test(jwt, what_is_wrong)
{
    static const char alg[] = "{\"alg\":\"RS256\"}";
    static const struct {
        const char *header;
        const char *claims;
        const char *wrong;
    } rows[] = {
        {"", "{}", "no JSON object"},
        {"[]", "{}", "no JSON object"},
        {"{}", "{}", "no alg"},
        {"{\"alg\":5}", "{}", "no alg"},
        {"{\"alg\":null}", "{}", "no alg"},
        {"{\"alg\":\"RS\\u0032\"}", "{}", "no alg"},
        {"{\"alg\":\"RS256\",\"alg\":\"none\"}", "{}", "twice"},
        {"{\"al\\u0067\":\"RS256\"}", "{}", "escapes"},
        {"{\"alg\":\"RS256\",\"kid\":1}", "{}", "kid"},
        {"{\"alg\":\"RS256\",\"crit\":[\"b64\"],\"b64\":true}", "{}", "crit"},
        {"{\"alg\":\"RS256\",\"crit\":[]}", "{}", "crit"},
        {"{\"alg\":\"RS256\"} x", "{}", "no JSON object"},
        {"{\"alg\":\"RS256\",}", "{}", "no JSON object"},
        {"{\"alg\":\"RS256\"", "{}", "no JSON object"},
        {alg, "", "no JSON object"},
        {alg, "\"text\"", "no JSON object"},
        {alg, "{\"sub\":\"a\",\"sub\":\"a\"}", "twice"},
        {alg, "{\"s\\u0075b\":\"a\"}", "escapes"},
        {alg, "{\"sub\":\"\xff\"}", "no JSON object"},
        {alg, "{\"sub\":1 \"a\":2}", "no JSON object"},
        {alg, "{\"sub\":tru}", "no JSON object"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *wrong = parse(rows[i].header, rows[i].claims);
        cr_assert_not_null(wrong, "row %zu", i);
        cr_expect_not_null(strstr(wrong, rows[i].wrong), "row %zu: %s", i, wrong);
    }
}

Test(jwt, forms)
{
    static const char *const rows[] = {"", ".", "e30", "e30.e30", "..", "e30.e30.AA.AA",
        "e30=.e30.AA", "e3 0.e30.AA", "eyJhbGciOiJFUzI1NiJ9.e30.A", "eyJhbGciOiJFUzI1NiJ9.e30.AB"};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        cr_expect_not_null(jwt_parse((struct span){rows[i], strlen(rows[i])}, &jwt), "%s", rows[i]);
    cr_expect_null(jwt_parse(SPAN("eyJhbGciOiJFUzI1NiJ9.e30.AA"), &jwt));
    cr_expect_null(jwt_parse(SPAN("eyJhbGciOiJFUzI1NiJ9.e30."), &jwt), "which no key has signed");
}

Test(jwt, members)
{
    static char claims[4096];
    for (int n = JWT_MEMBERS_MAX; n <= JWT_MEMBERS_MAX + 1; n++) {
        int at = snprintf(claims, sizeof(claims), "{");
        for (int i = 0; i < n; i++)
            at += snprintf(
                claims + at, sizeof(claims) - (size_t)at, "%s\"%d\":0", i == 0 ? "" : ",", i);
        snprintf(claims + at, sizeof(claims) - (size_t)at, "}");
        cr_expect_eq(parse("{\"alg\":\"\"}", claims) == NULL, n == JWT_MEMBERS_MAX);
    }
}

Test(jwt, sizes)
{
    static const char begin[] = "eyJhbGciOiJFUzI1NiJ9.";
    static const char end[] = ".AA";
    const size_t room = JWT_MAX - (sizeof(begin) - 1) - (sizeof(end) - 1);
    /* {} and white space, in groups of three bytes */
    for (size_t more = 0; more <= 1; more++) {
        char *to = token + sprintf(token, "%s", begin);
        to += sprintf(to, "e30g");
        while ((size_t)(to - token) < sizeof(begin) - 1 + room / 4 * 4)
            to += sprintf(to, "ICAg");
        to += sprintf(to, "%s", end);
        while ((size_t)(to - token) < JWT_MAX + more)
            *to++ = 'A';
        const char *wrong = jwt_parse((struct span){token, (size_t)(to - token)}, &jwt);
        cr_expect_eq(wrong != NULL && strstr(wrong, "8 KiB") != NULL, more == 1, "%s", wrong);
    }
}

static char api[] = "api";
static char other[] = "other";
static char *audiences[] = {api, other};

static const char *judge(const char *claims, int64_t *ret_until)
{
    const struct jwt_wanted wanted = {
        .issuer = "https://i", .audiences = audiences, .naudiences = 2, .leeway = 30};
    const char *wrong = parse("{\"alg\":\"ES256\"}", claims);
    cr_assert_null(wrong, "%s: %s", claims, wrong);
    return jwt_judge(&jwt, &wanted, 1000, ret_until);
}

Test(jwt, claims)
{
#define OF "\"iss\":\"https://i\",\"aud\":\"api\""
    static const struct {
        const char *claims;
        const char *wrong; /* NULL: nothing */
        int64_t until;
    } rows[] = {
        {"{" OF ",\"exp\":1000}", NULL, 1030},
        {"{" OF ",\"exp\":971}", NULL, 1001},
        {"{" OF ",\"exp\":971.9}", NULL, 1001},
        {"{" OF ",\"exp\":970}", "expired", 0},
        {"{" OF ",\"exp\":-5}", "expired", 0},
        {"{" OF ",\"exp\":9223372036854775807}", NULL, INT64_MAX},
        {"{" OF ",\"exp\":9223372036854775808}", "no number", 0},
        {"{" OF ",\"exp\":1e9}", "no number", 0},
        {"{" OF ",\"exp\":1.5e3}", "no number", 0},
        {"{" OF ",\"exp\":\"2000\"}", "no number", 0},
        {"{" OF ",\"exp\":null}", "no number", 0},
        {"{" OF "}", "never ends", 0},
        {"{" OF ",\"exp\":2000,\"nbf\":1030,\"iat\":1030}", NULL, 2030},
        {"{" OF ",\"exp\":2000,\"nbf\":1031}", "not valid yet", 0},
        {"{" OF ",\"exp\":2000,\"iat\":1031}", "in the future", 0},
        {"{" OF ",\"exp\":2000,\"nbf\":true}", "no number", 0},
        {"{\"iss\":\"https:\\/\\/i\",\"aud\":[1,\"x\",\"other\"],\"exp\":2000}", NULL, 2030},
        {"{\"iss\":\"https://i\",\"aud\":[\"x\"],\"exp\":2000}", "audience", 0},
        {"{\"iss\":\"https://i\",\"aud\":[],\"exp\":2000}", "audience", 0},
        {"{\"iss\":\"https://i\",\"aud\":[[\"api\"]],\"exp\":2000}", "audience", 0},
        {"{\"iss\":\"https://i\",\"aud\":\"apis\",\"exp\":2000}", "audience", 0},
        {"{\"iss\":\"https://i\",\"exp\":2000}", "audience", 0},
        {"{\"aud\":\"api\",\"exp\":2000}", "issuer", 0},
        {"{\"iss\":\"https://i/\",\"aud\":\"api\",\"exp\":2000}", "issuer", 0},
        {"{\"iss\":[\"https://i\"],\"aud\":\"api\",\"exp\":2000}", "issuer", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int64_t until = 0;
        const char *wrong = judge(rows[i].claims, &until);
        if (rows[i].wrong == NULL)
            cr_expect_null(wrong, "%s: %s", rows[i].claims, wrong);
        else
            cr_expect(wrong != NULL && strstr(wrong, rows[i].wrong) != NULL, "%s: %s",
                rows[i].claims, wrong);
        cr_expect_eq(until, rows[i].until, "%s", rows[i].claims);
    }
}
