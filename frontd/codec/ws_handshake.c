/*
 * SHA1_Init() and the like are deprecated since OpenSSL 3.0 in favour of functions that look for
 * an implementation first, which allocates, and may fail or crash where there is no memory. These
 * only compute.
 */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "frontd/codec/ws_handshake.h"

#include <openssl/evp.h>
#include <openssl/sha.h>

#include "frontd/codec/http1_scan.h"

enum {
    KEY_SIZE = 24, /* 16 bytes in base64 */
};

/* RFC 6455 section 1.3 */
static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

static bool lists_token(const struct http_head *head, enum http_known known, struct span token)
{
    for (size_t i = 0; i < head->nfields; i++) {
        struct span list = head->fields[i].value, element;
        if (head->fields[i].known != known)
            continue;
        while (next_element(&list, &element))
            if (same_name(element, token))
                return true;
    }
    return false;
}

/* RFC 9110 section 7.8: Upgrade means nothing without Connection: upgrade. */
bool ws_wanted(const struct http_head *head)
{
    if (head->websocket)
        return true;
    return head->method == HTTP_GET && head->may_upgrade &&
           lists_token(head, HTTP_F_UPGRADE, SPAN("websocket")) &&
           lists_token(head, HTTP_F_CONNECTION, SPAN("upgrade"));
}

/*
 * The next field of that name from *at on, which is set to the field after it; NULL where there is
 * none.
 */
static const struct http_field *next_field(
    const struct http_head *head, struct span name, size_t *at)
{
    while (*at < head->nfields) {
        const struct http_field *field = &head->fields[(*at)++];
        if (same_name(field->name, name))
            return field;
    }
    return NULL;
}

/* The one field of that name; NULL where there is none, or more than one. */
static const struct http_field *only_field(const struct http_head *head, struct span name)
{
    size_t at = 0;
    const struct http_field *field = next_field(head, name, &at);
    return next_field(head, name, &at) == NULL ? field : NULL;
}

static bool is_base64(char c)
{
    return HTTP1_IS_ALNUM(c) || c == '+' || c == '/';
}

/*
 * RFC 6455 section 4.2.1: base64 of 16 bytes. Decoding is not necessary; the four bits that stand
 * for nothing may be other than 0 (RFC 4648 section 3.5 leaves it open).
 */
static bool key_valid(struct span key)
{
    if (key.n != KEY_SIZE || key.p[KEY_SIZE - 2] != '=' || key.p[KEY_SIZE - 1] != '=')
        return false;
    for (size_t i = 0; i < KEY_SIZE - 2; i++)
        if (!is_base64(key.p[i]))
            return false;
    return true;
}

static bool origin_allowed(struct span origin, char *const *origins, size_t norigins)
{
    for (size_t i = 0; i < norigins; i++) {
        const struct span allowed = {origins[i], strlen(origins[i])};
        if (same_name(allowed, SPAN("*")) || same_name(allowed, origin))
            return true;
    }
    return false;
}

static bool origins_allowed(const struct http_head *head, char *const *origins, size_t norigins)
{
    const struct http_field *field;
    if (norigins == 0)
        return true;
    for (size_t at = 0; (field = next_field(head, SPAN("origin"), &at)) != NULL;)
        if (!origin_allowed(field->value, origins, norigins))
            return false;
    return true;
}

static bool same_text(struct span a, const char *b)
{
    return a.n == strlen(b) && memcmp(a.p, b, a.n) == 0;
}

/* One field Sec-WebSocket-Protocol: at least one token (RFC 6455 section 11.3.4). */
static bool look_at_protocols(struct span list, char *const *protocols, size_t *best)
{
    struct span element;
    bool any = false;
    while (next_element(&list, &element)) {
        const char *end = element.p + element.n;
        if (skip_class(element.p, end, HTTP1_TOKEN) != end)
            return false;
        for (size_t i = 0; i < *best; i++)
            if (same_text(element, protocols[i]))
                *best = i;
        any = true;
    }
    return any;
}

/* The first of the server's protocols that the fields list; -1: none. False: malformed. */
static bool choose_protocol(
    const struct http_head *head, char *const *protocols, size_t nprotocols, int *ret_protocol)
{
    const struct http_field *field;
    size_t best = nprotocols;
    for (size_t at = 0; (field = next_field(head, SPAN("sec-websocket-protocol"), &at)) != NULL;)
        if (!look_at_protocols(field->value, protocols, &best))
            return false;
    *ret_protocol = best < nprotocols ? (int)best : -1;
    return true;
}

/* RFC 6455 section 4.2.2, item 5.4 */
static bool compute_accept(struct span key, char ret_accept[static WS_ACCEPT_SIZE])
{
    unsigned char digest[SHA_DIGEST_LENGTH];
    SHA_CTX sha;
    if (!SHA1_Init(&sha) || !SHA1_Update(&sha, key.p, KEY_SIZE) ||
        !SHA1_Update(&sha, guid, sizeof(guid) - 1) || !SHA1_Final(digest, &sha))
        return false;
    const int n = EVP_EncodeBlock((unsigned char *)ret_accept, digest, sizeof(digest));
    CHECK(n == WS_ACCEPT_SIZE - 1);
    return true;
}

int ws_handshake(const struct http_head *head, char *const *origins, size_t norigins,
    char *const *protocols, size_t nprotocols, char ret_accept[static WS_ACCEPT_SIZE],
    int *ret_protocol)
{
    /* Checked first, since another version may have other rules for the rest (section 4.4). */
    const struct http_field *version = only_field(head, SPAN("sec-websocket-version"));
    if (version == NULL || !same_text(version->value, "13"))
        return 426;
    const struct http_field *key = only_field(head, SPAN("sec-websocket-key"));
    if (!head->websocket && (key == NULL || !key_valid(key->value)))
        return 400;
    int protocol;
    if (!choose_protocol(head, protocols, nprotocols, &protocol))
        return 400;
    if (!origins_allowed(head, origins, norigins))
        return 403;
    ret_accept[0] = '\0'; /* of an extended CONNECT: RFC 8441 section 5.1 */
    if (!head->websocket && !compute_accept(key->value, ret_accept))
        return 500;
    *ret_protocol = protocol;
    return 0;
}
