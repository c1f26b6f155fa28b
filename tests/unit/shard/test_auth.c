#include <criterion/criterion.h>
#include <openssl/evp.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/ipc/tls_material.h"
#include "frontd/shard/request/auth.h"

enum { NKEYS = AUTH_TRIES + 1, NOW = 1000 };

static struct ctx ctx;
static struct auth auth;
static EVP_PKEY *keys[NKEYS];
static char set_text[2048];
static char me[] = "me";
static char api[] = "api";
static char sub[] = "sub";
static char scope[] = "scope";
static char header[] = "authorization";
static char query[] = "token";
static char *audiences[] = {api};
static char *claim_names[] = {sub, scope};
static struct conf_jwt jwt = {.issuer = me,
    .audiences = audiences,
    .naudiences = 1,
    .algorithms = 7,
    .header = header,
    .bearer = true,
    .query = query,
    .claims = claim_names,
    .nclaims = 2};
static struct conf conf = {.njwts = 1, .jwts = {&jwt}};
static size_t held;

static char *put(char *to, const void *bytes, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const unsigned char *from = bytes;
    uint32_t bits = 0;
    unsigned have = 0;
    for (size_t i = 0; i < n; i++) {
        bits = bits << 8 | from[i];
        for (have += 8; have >= 6; have -= 6)
            *to++ = digits[bits >> (have - 6) & 63];
    }
    if (have > 0)
        *to++ = digits[bits << (6 - have) & 63];
    *to = '\0';
    return to;
}

/* Keys of Ed25519 without kids. */
static void set_up(void)
{
    struct span text = {set_text, 0};
    const struct tls_material material = {.jwks = &text, .njwks = 1};
    char *to = set_text + sprintf(set_text, "{\"keys\":[");
    held = mem_in_use();
    for (size_t i = 0; i < NKEYS; i++) {
        unsigned char raw[32];
        size_t n = sizeof(raw);
        keys[i] = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
        cr_assert(EVP_PKEY_get_raw_public_key(keys[i], raw, &n) == 1);
        to += sprintf(to, "%s{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"", i == 0 ? "" : ",");
        to = put(to, raw, n);
        to += sprintf(to, "\"}");
    }
    to += sprintf(to, "]}");
    text.n = (size_t)(to - set_text);
    auth_init(&auth, &conf);
    cr_assert_eq(auth_use(&auth, &material), 0);
}

static void tear_down(void)
{
    auth_deinit(&auth);
    for (size_t i = 0; i < NKEYS; i++)
        EVP_PKEY_free(keys[i]);
    cr_expect_eq(mem_in_use(), held);
}

TestSuite(auth, .init = set_up, .fini = tear_down);

/* Writes a token with `sub` as a number. */
static void sign(char *out, EVP_PKEY *key, unsigned number, int exp)
{
    char claims[200];
    unsigned char signature[64];
    size_t n = sizeof(signature);
    static const char head[] = "{\"alg\":\"EdDSA\"}";
    int len = snprintf(claims, sizeof(claims),
        "{\"iss\":\"me\",\"aud\":\"api\",\"exp\":%d,\"sub\":%u,\"more\":1}", exp, number);
    char *to = put(out, head, sizeof(head) - 1);
    *to++ = '.';
    to = put(to, claims, (size_t)len);
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    cr_assert(EVP_DigestSignInit(md, NULL, NULL, NULL, key) == 1);
    cr_assert(EVP_DigestSign(md, signature, &n, (unsigned char *)out, (size_t)(to - out)) == 1);
    EVP_MD_CTX_free(md);
    *to++ = '.';
    put(to, signature, n);
}

static enum auth_verdict judge(const char *token, int64_t now, char *ret_claims)
{
    static char value[JWT_MAX + 64];
    struct claims *claims = NULL;
    const char *why;
    int n = snprintf(value, sizeof(value), "Bearer %s", token);
    struct http_head head = {.nfields = 1};
    head.fields[0] = (struct http_field){
        .name = SPAN("Authorization"), .value = {value, (size_t)n}};
    enum auth_verdict verdict = auth_judge(&auth, &ctx, &jwt, &head, false, now, &claims, &why);
    if (verdict != AUTH_LATER)
        auth.spent = 0; /* another turn */
    if (claims != NULL && ret_claims != NULL)
        sprintf(ret_claims, "%.*s", (int)claims->n, claims->text);
    claims_put(claims);
    return verdict;
}

Test(auth, a_token_is_verified_once)
{
    char token[1000];
    char told[200] = "";
    sign(token, keys[0], 7, NOW + 5);
    cr_assert_eq(judge(token, NOW, told), AUTH_PASS);
    cr_expect_str_eq(told, "{\"sub\":7}");
    cr_expect_eq(auth.verified, 1);
    cr_expect_eq(ctx.work, WORK_VERIFY);
    cr_expect_eq(judge(token, NOW + 4, told), AUTH_PASS);
    cr_expect_eq(auth.verified, 1);
    cr_expect_eq(judge(token, NOW + 5, told), AUTH_WRONG, "it has ended");
    cr_expect_eq(auth.verified, 1, "which is seen before its signature is looked at");
    cr_expect_eq(judge("", NOW, told), AUTH_NONE);
}

/* A token in a cookie, where Authorization has none: the first one of that name. */
Test(auth, in_a_cookie)
{
    static const struct {
        const char *fields; /* each ends in a line end; $: the token */
        enum auth_verdict verdict;
    } rows[] = {
        {"cookie: s=$\n", AUTH_PASS},
        {"Cookie: a=b; s=$ ;c=\n", AUTH_PASS},
        {"cookie: s=\"$\"\n", AUTH_PASS},
        {"cookie: a=1;\ts=$\n", AUTH_PASS},
        {"cookie: a=1\ncookie: s=$\n", AUTH_PASS},
        {"cookie: s=$; s=x\n", AUTH_PASS},
        {"cookie: s=x; s=$\n", AUTH_WRONG},
        {"cookie: s=; s=$\n", AUTH_NONE},
        {"cookie: S=$; ss=$; s\n", AUTH_NONE},
        {"cookie: s =$\n", AUTH_NONE},
        {"cookie: \n", AUTH_NONE},
        {"cookie: s=\"$\n", AUTH_WRONG},
        {"authorization: Basic x\ncookie: s=$\n", AUTH_PASS},
        {"authorization: Bearer x\ncookie: s=$\n", AUTH_WRONG},
    };
    char token[1000];
    char session[] = "s";
    sign(token, keys[0], 7, NOW + 5);
    jwt.cookie = session;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        static char text[4000];
        struct http_head head = {0};
        struct claims *claims = NULL;
        const char *why;
        char *to = text;
        for (const char *from = rows[i].fields; *from != '\0'; from++)
            to += sprintf(to, "%.*s", *from == '$' ? 999 : 1, *from == '$' ? token : from);
        for (char *p = text; *p != '\0';) {
            char *colon = strchr(p, ':');
            char *end = strchr(p, '\n');
            head.fields[head.nfields++] = (struct http_field){
                .name = {p, (size_t)(colon - p)}, .value = {colon + 2, (size_t)(end - colon) - 2}};
            p = end + 1;
        }
        cr_expect_eq(auth_judge(&auth, &ctx, &jwt, &head, false, NOW, &claims, &why),
            rows[i].verdict, "%s", rows[i].fields);
        claims_put(claims);
    }
    jwt.cookie = NULL;
}

Test(auth, one_that_is_wrong_is_not_remembered)
{
    char token[1000];
    EVP_PKEY *other = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    sign(token, other, 7, NOW + 5);
    cr_expect_eq(judge(token, NOW, NULL), AUTH_WRONG);
    cr_expect_eq(auth.verified, AUTH_TRIES);
    cr_expect_eq(judge(token, NOW, NULL), AUTH_WRONG);
    cr_expect_eq(auth.verified, 2 * AUTH_TRIES);
    EVP_PKEY_free(other);
}

Test(auth, as_many_keys_as_are_tried)
{
    char token[1000];
    sign(token, keys[AUTH_TRIES - 1], 1, NOW + 5);
    cr_expect_eq(judge(token, NOW, NULL), AUTH_PASS);
    sign(token, keys[AUTH_TRIES], 1, NOW + 5);
    cr_expect_eq(judge(token, NOW, NULL), AUTH_WRONG);
}

/* Of tokens that share a place in the cache the one that was used first goes. */
Test(auth, as_many_tokens_as_are_remembered)
{
    static char tokens[AUTH_WAYS + 1][1000];
    unsigned char first = 0;
    for (unsigned n = 0, number = 0; n <= AUTH_WAYS; number++) {
        unsigned char sum[EVP_MAX_MD_SIZE];
        sign(tokens[n], keys[0], number, NOW + 5);
        EVP_Digest(tokens[n], strlen(tokens[n]), sum, NULL, EVP_sha256(), NULL);
        if (n > 0 && sum[0] != first)
            continue;
        first = sum[0];
        ctx.loop.time = n;
        cr_assert_eq(judge(tokens[n++], NOW, NULL), AUTH_PASS);
    }
    cr_expect_eq(auth.verified, AUTH_WAYS + 1);
    for (unsigned n = 1; n <= AUTH_WAYS; n++)
        cr_expect_eq(judge(tokens[n], NOW, NULL), AUTH_PASS);
    cr_expect_eq(auth.verified, AUTH_WAYS + 1);
    cr_expect_eq(judge(tokens[0], NOW, NULL), AUTH_PASS);
    cr_expect_eq(auth.verified, AUTH_WAYS + 2);
}

static enum auth_verdict judge_in_turn(const char *token, uint64_t spent)
{
    auth.spent = spent;
    return judge(token, NOW, NULL);
}

/* What a turn may look at, at the limit and one past it. */
Test(auth, the_share_of_a_turn)
{
    enum { LAST = WORK_VERIFY_TURN - WORK_VERIFY };
    char known[1000], token[1000], ended[1000];
    struct list waits;
    list_init(&waits);
    sign(known, keys[0], 1, NOW + 5);
    sign(token, keys[0], 2, NOW + 5);
    sign(ended, keys[0], 3, NOW);
    cr_assert_eq(judge(known, NOW, NULL), AUTH_PASS);
    cr_expect_eq(judge_in_turn(token, WORK_VERIFY_TURN), AUTH_LATER);
    cr_expect_eq(auth.verified, 1);
    cr_expect_eq(judge_in_turn(known, WORK_VERIFY_TURN), AUTH_PASS, "it costs nothing");
    cr_expect_eq(judge_in_turn(ended, WORK_VERIFY_TURN), AUTH_WRONG, "nor does that");
    list_append(&auth.parked, &waits);
    cr_expect_eq(judge_in_turn(token, 0), AUTH_LATER, "another was there before");
    auth.in_order = true;
    cr_expect_eq(judge_in_turn(token, LAST), AUTH_PASS, "it is this one's turn");
    auth.in_order = false;
    list_remove(&waits);
    sign(token, keys[0], 4, NOW + 5);
    cr_expect_eq(judge_in_turn(token, LAST), AUTH_PASS);
    cr_expect_eq(auth.verified, 3);
}
