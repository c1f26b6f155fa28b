#include <criterion/criterion.h>
#include <string.h>

#include "frontd/codec/jwt.h"
#include "frontd/config/jwks.h"

#define N                                                                                          \
    "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4" \
    "d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5re" \
    "xMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxX" \
    "FvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"
#define RSA "\"kty\":\"RSA\",\"n\":\"" N "\",\"e\":\"AQAB\""
#define X   "\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\""
#define Y   "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\""
#define EC  "\"kty\":\"EC\",\"crv\":\"P-256\"," X "," Y
#define ED                                                                                         \
    "\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\""

/* RFC 7515 appendices A.2 and A.3; RFC 8037 appendix A.4, whose payload is no JSON. */
#define CLAIMS                                                                                     \
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVl" \
    "fQ"
#define RS256                                                                                      \
    "eyJhbGciOiJSUzI1NiJ9." CLAIMS                                                                 \
    ".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp" \
    "5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHl" \
    "b1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9Q" \
    "OYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
#define ES256                                                                                      \
    "eyJhbGciOiJFUzI1NiJ9." CLAIMS                                                                 \
    ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
#define EDDSA                                                                                      \
    "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"                                     \
    ".hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"

static struct jwks set;
static char error[JWK_ERROR_SIZE];

static int read_set(const char *text)
{
    error[0] = '\0';
    return jwks_read((struct span){text, strlen(text)}, &set, error);
}

Test(jwks, a_set)
{
    cr_assert_eq(
        read_set("{\"keys\":[{" RSA ",\"kid\":\"r\",\"alg\":\"RS256\",\"use\":\"sig\"},{" EC
                 ",\"key_ops\":[\"verify\"]},{" ED "}],\"more\":1}"),
        0, "%s", error);
    cr_assert_eq(set.nkeys, 3);
    cr_expect_eq(set.keys[0].alg, JWK_RS256);
    cr_expect(set.keys[0].kid.n == 1 && set.keys[0].kid.p[0] == 'r');
    cr_expect_eq(set.keys[1].alg, JWK_ES256);
    cr_expect_null(set.keys[1].kid.p);
    cr_expect_eq(set.keys[2].alg, JWK_EDDSA);
    jwks_deinit(&set);
    jwks_deinit(&set);
}

Test(jwks, what_is_passed_over)
{
    static const char *const rows[] = {
        "\"kty\":\"XYZ\"",
        "\"kty\":\"EC\",\"crv\":\"P-384\"",
        "\"kty\":\"OKP\",\"crv\":\"Ed448\"",
        "\"kty\":\"OKP\",\"crv\":\"X25519\"",
        RSA ",\"use\":\"enc\"",
        RSA ",\"alg\":\"PS256\"",
        RSA ",\"alg\":\"none\"",
        RSA ",\"key_ops\":[\"encrypt\"]",
        EC ",\"alg\":\"RS256\"",
        "",
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char text[2000];
        snprintf(text, sizeof(text), "{\"keys\":[{%s},{" ED "}]}", rows[i]);
        cr_assert_eq(read_set(text), 0, "%s: %s", rows[i], error);
        cr_expect_eq(set.nkeys, 1, "%s", rows[i]);
        jwks_deinit(&set);
        snprintf(text, sizeof(text), "{\"keys\":[{%s}]}", rows[i]);
        cr_expect_lt(read_set(text), 0);
        cr_expect_not_null(strstr(error, "no key in it"), "%s", error);
    }
}

Test(jwks, what_is_wrong)
{
    static const struct {
        const char *text;
        const char *error;
    } rows[] = {
        {"", "no JSON object"},
        {"[]", "no JSON object"},
        {"{\"keys\":{}}", "no JSON object"},
        {"{\"keys\":[]} x", "no JSON object"},
        {"{\"keys\":[]}", "no key in it"},
        {"{\"keys\":[5]}", "keys[0]: it is no object"},
        {"{\"keys\":[{" ED ",\"d\":\"x\"}]}", "keys[0]: it has a secret (d)"},
        {"{\"keys\":[{\"kty\":\"oct\",\"k\":\"x\"}]}", "it has a secret (k)"},
        {"{\"keys\":[{" ED ",\"kid\":\"a\"},{" EC ",\"kid\":\"a\"}]}", "keys[1]: another key"},
        {"{\"keys\":[{" ED ",\"kid\":5}]}", "kid is no text"},
        {"{\"keys\":[{" ED ",\"kid\":\"\\u0061\"}]}", "kid has escapes"},
        {"{\"keys\":[{\"kty\":\"RSA\",\"n\":\"" N "\"}]}", "e is no odd number"},
        {"{\"keys\":[{\"kty\":\"RSA\",\"n\":\"" N "\",\"e\":\"AQ\"}]}", "e is no odd number"},
        {"{\"keys\":[{\"kty\":\"RSA\",\"n\":\"" N "\",\"e\":\"AQAA\"}]}", "e is no odd number"},
        {"{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}", "2048 to 8192 bits"},
        {"{\"keys\":[{\"kty\":\"RSA\",\"n\":\"a+b\",\"e\":\"AQAB\"}]}", "n is no number"},
        {"{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\"," X "}]}", "32 bytes each"},
        {"{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\"," X ",\"y\":\"AA\"}]}", "32 bytes each"},
        {"{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\"," X
         ",\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a1\"}]}",
            "32 bytes each"}, /* bits beyond the last byte */
        {"{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\"," X
         ",\"y\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\"}]}",
            "no point of P-256"},
        {"{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AAAA\"}]}", "x is 32 bytes"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        cr_assert_lt(read_set(rows[i].text), 0, "%s", rows[i].text);
        cr_expect_not_null(strstr(error, rows[i].error), "%s: %s", rows[i].text, error);
        cr_expect_eq(set.nkeys, 0);
    }
}

/* RSA moduli need not be right here: an odd number with so many bits. */
static int read_rsa(unsigned bits)
{
    static char text[4096];
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    unsigned char number[1100] = {0};
    size_t n = (bits + 7) / 8;
    number[0] = (unsigned char)(1U << ((bits - 1) % 8));
    number[n - 1] |= 1;
    int at = snprintf(text, sizeof(text), "{\"keys\":[{\"kty\":\"RSA\",\"e\":\"AQAB\",\"n\":\"");
    for (size_t bit = 0; bit < n * 8; bit += 6) {
        unsigned two = (unsigned)(number[bit / 8] << 8 | number[bit / 8 + 1]);
        text[at++] = digits[two >> (10 - bit % 8) & 63];
    }
    snprintf(text + at, sizeof(text) - (size_t)at, "\"}]}");
    return read_set(text);
}

Test(jwks, sizes_of_rsa)
{
    cr_expect_lt(read_rsa(2047), 0);
    cr_assert_eq(read_rsa(2048), 0, "%s", error);
    jwks_deinit(&set);
    cr_assert_eq(read_rsa(8192), 0, "%s", error);
    jwks_deinit(&set);
    cr_expect_lt(read_rsa(8193), 0);
}

Test(jwks, as_many_keys_as_allowed)
{
    static char text[JWKS_KEYS_MAX * 300];
    for (unsigned n = JWKS_KEYS_MAX; n <= JWKS_KEYS_MAX + 1; n++) {
        int at = snprintf(text, sizeof(text), "{\"keys\":[");
        for (unsigned i = 0; i < n; i++)
            at += snprintf(text + at, sizeof(text) - (size_t)at, "%s{" ED "}", i == 0 ? "" : ",");
        snprintf(text + at, sizeof(text) - (size_t)at, "]}");
        cr_expect_eq(read_set(text) == 0, n == JWKS_KEYS_MAX, "%s", error);
        jwks_deinit(&set);
    }
}

static void verify(enum jwk_alg alg, const char *key, const char *token)
{
    char text[2000];
    unsigned char signature[JWT_SIGNATURE_MAX + 1];
    struct jwt jwt;
    snprintf(text, sizeof(text), "{\"keys\":[{%s}]}", key);
    cr_assert_eq(read_set(text), 0, "%s", error);
    jwt_parse((struct span){token, strlen(token)}, &jwt);
    size_t n = jwt.signature_n;
    memcpy(signature, jwt.signature, n);
    cr_assert_eq(set.keys[0].alg, alg);
    cr_expect(jwk_verify(&set.keys[0], jwt.head, signature, n), "%s", key);
    struct span less = {jwt.head.p, jwt.head.n - 1};
    cr_expect_not(jwk_verify(&set.keys[0], less, signature, n));
    cr_expect_not(jwk_verify(&set.keys[0], jwt.head, signature, n - 1));
    cr_expect_not(jwk_verify(&set.keys[0], jwt.head, signature, n + 1));
    cr_expect_not(jwk_verify(&set.keys[0], jwt.head, signature, 0));
    for (size_t i = 0; i < n; i += 7) {
        signature[i] ^= 1;
        cr_expect_not(jwk_verify(&set.keys[0], jwt.head, signature, n), "byte %zu", i);
        signature[i] ^= 1;
    }
    memset(signature, 0, sizeof(signature)); /* of ES256: r and s are 0 (CVE-2022-21449) */
    cr_expect_not(jwk_verify(&set.keys[0], jwt.head, signature, n));
    jwks_deinit(&set);
}

Test(jwks, examples_of_the_rfcs)
{
    verify(JWK_RS256, RSA, RS256);
    verify(JWK_ES256, EC, ES256);
    verify(JWK_EDDSA, ED, EDDSA);
}
