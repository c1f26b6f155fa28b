#include "frontd/codec/jwt.h"

#include <string.h>

#include "common/base64url.h"
#include "proto/json_read.h"
#include "proto/json_scan.h"

/* A member that is looked for. */
struct wanted_member {
    const char *name;
    struct span *ret_value;
};

static bool same(struct span a, struct span b)
{
    return a.n == b.n && memcmp(a.p, b.p, a.n) == 0;
}

static bool is_twice(const struct json_member *members, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (same(members[i].key, members[n].key))
            return true;
    }
    return false;
}

static void pick(const struct json_member *member, const struct wanted_member *wanted, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (same(member->key, (struct span){wanted[i].name, strlen(wanted[i].name)}))
            *wanted[i].ret_value = member->value;
    }
}

/* Reads a text that is one object. Returns NULL, or what is wrong with it. */
static const char *read_object(struct span text, const struct wanted_member *wanted, size_t n)
{
    struct json_member members[JWT_MEMBERS_MAX];
    const char *end = text.p + text.n;
    const char *p = json_scan_white(text.p, end);
    size_t count = 0;
    if (p == end || *p != '{')
        return "a part of the token is no JSON object";
    p = json_scan_white(p + 1, end);
    bool more = p < end && *p != '}';
    while (more) {
        if (count == JWT_MEMBERS_MAX)
            return "a part of the token has more than 64 members";
        p = json_scan_member(p, end, 1, &members[count]);
        if (p == NULL)
            return "a part of the token is no JSON object";
        if (memchr(members[count].key.p, '\\', members[count].key.n) != NULL)
            return "the name of a member has escapes";
        if (is_twice(members, count))
            return "a member is there twice";
        pick(&members[count++], wanted, n);
        p = json_scan_white(p, end);
        more = p < end && *p == ',';
        if (more)
            p = json_scan_white(p + 1, end);
    }
    if (p == end || *p != '}' || json_scan_white(p + 1, end) != end)
        return "a part of the token is no JSON object";
    return NULL;
}

static struct span inside(struct span string)
{
    return (struct span){string.p + 1, string.n - 2};
}

static const char *read_header(struct span text, struct jwt *jwt)
{
    struct span alg = {0};
    struct span kid = {0};
    struct span crit = {0};
    const struct wanted_member wanted[] = {{"alg", &alg}, {"kid", &kid}, {"crit", &crit}};
    const char *wrong = read_object(text, wanted, ARRAY_LEN(wanted));
    if (wrong != NULL)
        return wrong;
    if (crit.n > 0)
        return "it has crit, and no extension is understood";
    if (!json_is_string(alg) || memchr(alg.p, '\\', alg.n) != NULL)
        return "it has no alg that is a text";
    if (kid.n > 0 && !json_is_string(kid))
        return "its kid is no text";
    jwt->alg = inside(alg);
    jwt->kid = kid.n > 0 ? inside(kid) : (struct span){0};
    return NULL;
}

static const char *read_claims(struct span text, struct jwt *jwt)
{
    const struct wanted_member wanted[] = {{"sub", &jwt->sub}, {"iss", &jwt->iss},
        {"aud", &jwt->aud}, {"exp", &jwt->exp}, {"nbf", &jwt->nbf}, {"iat", &jwt->iat}};
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
        *wanted[i].ret_value = (struct span){0};
    jwt->claims = text;
    return read_object(text, wanted, ARRAY_LEN(wanted));
}

/* Decodes a part of the token to where there is room. */
static bool decode(struct span part, struct jwt *jwt, size_t *at, struct span *ret_text)
{
    size_t n;
    if (!base64url_decode(part, jwt->text + *at, sizeof(jwt->text) - *at, &n))
        return false;
    *ret_text = (struct span){jwt->text + *at, n};
    *at += n;
    return true;
}

const char *jwt_parse(struct span token, struct jwt *ret_jwt)
{
    struct span header;
    struct span claims;
    size_t at = 0;
    if (token.n > JWT_MAX)
        return "the token has more than 8 KiB";
    const char *end = token.p + token.n;
    const char *first = token.n == 0 ? NULL : memchr(token.p, '.', token.n);
    const char *second = first == NULL ? NULL : memchr(first + 1, '.', (size_t)(end - first - 1));
    if (second == NULL)
        return "the token is not of three parts";
    struct span signature = {second + 1, (size_t)(end - second - 1)};
    ret_jwt->head = (struct span){token.p, (size_t)(second - token.p)};
    if (!decode((struct span){token.p, (size_t)(first - token.p)}, ret_jwt, &at, &header) ||
        !decode((struct span){first + 1, (size_t)(second - first - 1)}, ret_jwt, &at, &claims) ||
        !base64url_decode(signature, ret_jwt->signature, JWT_SIGNATURE_MAX, &ret_jwt->signature_n))
        return "a part of the token is no base64url";
    const char *wrong = read_header(header, ret_jwt);
    return wrong == NULL ? read_claims(claims, ret_jwt) : wrong;
}

/* A NumericDate (RFC 7519 section 2), of which parts of a second are left out. */
static bool read_time(struct span value, int64_t *ret_time)
{
    const char *dot = value.n == 0 ? NULL : memchr(value.p, '.', value.n);
    if (dot != NULL) {
        for (const char *p = dot + 1; p < value.p + value.n; p++) {
            if (*p < '0' || *p > '9')
                return false;
        }
        value.n = (size_t)(dot - value.p);
    }
    return json_read_integer(value, ret_time) == 0;
}

static bool is_text(struct span value, const char *text)
{
    return json_is_string(value) &&
           json_scan_equals(inside(value), (struct span){text, strlen(text)});
}

static bool is_audience(struct span value, const struct jwt_wanted *wanted)
{
    for (uint32_t i = 0; i < wanted->naudiences; i++) {
        if (is_text(value, wanted->audiences[i]))
            return true;
    }
    return false;
}

/* RFC 7519 section 4.1.3: `aud` is a text or an array of texts. */
static bool is_for_us(struct span aud, const struct jwt_wanted *wanted)
{
    struct span value;
    bool found = is_audience(aud, wanted);
    for (size_t at = 0; !found && json_read_next(aud, &at, &value);)
        found = is_audience(value, wanted);
    return found;
}

const char *jwt_judge(
    const struct jwt *jwt, const struct jwt_wanted *wanted, int64_t now, int64_t *ret_until)
{
    int64_t exp;
    int64_t from;
    int64_t until;
    if (!is_text(jwt->iss, wanted->issuer))
        return "it is of another issuer (iss)";
    if (!is_for_us(jwt->aud, wanted))
        return "it is for another audience (aud)";
    if (jwt->exp.n == 0)
        return "it never ends (exp)";
    if (!read_time(jwt->exp, &exp) || (jwt->nbf.n > 0 && !read_time(jwt->nbf, &from)) ||
        (jwt->iat.n > 0 && !read_time(jwt->iat, &from)))
        return "a time in it is no number of seconds (exp, nbf, iat)";
    if (__builtin_add_overflow(exp, wanted->leeway, &until))
        until = INT64_MAX;
    if (now >= until)
        return "it has expired (exp)";
    if (jwt->nbf.n > 0 && read_time(jwt->nbf, &from) && from > now + wanted->leeway)
        return "it is not valid yet (nbf)";
    if (jwt->iat.n > 0 && read_time(jwt->iat, &from) && from > now + wanted->leeway)
        return "it was issued in the future (iat)";
    *ret_until = until;
    return NULL;
}
