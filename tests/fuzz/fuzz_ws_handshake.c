/*
 * The input is the head of a request. What is made of it is compared with a careless reading: the
 * fields of a name are joined by commas, as RFC 9110 section 5.3 says they may be, and the text is
 * searched with the functions of the C library.
 */

#include <string.h>
#include <strings.h>

#include "frontd/codec/http1_head.h"
#include "frontd/codec/ws_handshake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct http1_limits limits = {.head_bytes = 65536, .fields = HTTP_FIELDS_MAX};

#define TOKEN  "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#define BASE64 "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

static struct http1_head head;

/* The values of all fields of that name; NULL where there is none. */
static char *joined(const char *name)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);
    bool any = false;
    CHECK(file != NULL);
    for (size_t i = 0; i < head.http.nfields; i++) {
        const struct http_field *field = &head.http.fields[i];
        if (field->name.n != strlen(name) || strncasecmp(field->name.p, name, field->name.n) != 0)
            continue;
        fprintf(file, "%s%.*s", any ? "," : "", (int)field->value.n, field->value.p);
        any = true;
    }
    fclose(file);
    if (any)
        return text;
    free(text);
    return NULL;
}

/* The next element of a list that is not empty, or NULL; strtok_r() skips the empty ones. */
static char *element(char **list)
{
    for (;;) {
        char *text = strtok_r(NULL, ",", list);
        if (text == NULL)
            return NULL;
        text += strspn(text, " \t");
        size_t n = strlen(text);
        while (n > 0 && (text[n - 1] == ' ' || text[n - 1] == '\t'))
            text[--n] = '\0';
        if (n > 0)
            return text;
    }
}

static bool lists(const char *name, const char *token)
{
    char *text = joined(name), *list = text, *next;
    bool found = false;
    while (text != NULL && !found && (next = element(&list)) != NULL)
        found = strcasecmp(next, token) == 0;
    free(text);
    return found;
}

/* strndup() is taken by ASan's strict string checks to read on to a NUL. */
static char *copy_text(struct span text)
{
    char *copy = malloc(text.n + 1);
    CHECK(copy != NULL);
    memcpy(copy, text.p, text.n);
    copy[text.n] = '\0';
    return copy;
}

/* The fields one by one, since an empty one among others is refused. */
static bool protocols_valid(void)
{
    for (size_t i = 0; i < head.http.nfields; i++) {
        const struct http_field *field = &head.http.fields[i];
        if (field->name.n != 22 || strncasecmp(field->name.p, "sec-websocket-protocol", 22) != 0)
            continue;
        char *text = copy_text(field->value), *list = text, *next;
        CHECK(text != NULL);
        bool any = false, right = true;
        while ((next = element(&list)) != NULL) {
            any = true;
            right = right && next[strspn(next, TOKEN)] == '\0';
        }
        free(text);
        if (!any || !right)
            return false;
    }
    return true;
}

static bool origins_valid(char *const *origins, size_t norigins)
{
    for (size_t i = 0; norigins > 0 && i < head.http.nfields; i++) {
        const struct http_field *field = &head.http.fields[i];
        if (field->name.n != 6 || strncasecmp(field->name.p, "origin", 6) != 0)
            continue;
        char *text = copy_text(field->value);
        CHECK(text != NULL);
        bool any = false;
        for (size_t o = 0; o < norigins; o++)
            any = any || strcmp(origins[o], "*") == 0 || strcasecmp(origins[o], text) == 0;
        free(text);
        if (!any)
            return false;
    }
    return true;
}

static int expected(char *const *origins, size_t norigins)
{
    char *version = joined("sec-websocket-version"), *key = joined("sec-websocket-key");
    int result = 0;
    if (version == NULL || strcmp(version, "13") != 0)
        result = 426;
    else if (key == NULL || strspn(key, BASE64) != 22 || strcmp(key + 22, "==") != 0)
        result = 400;
    else if (!protocols_valid())
        result = 400;
    else if (!origins_valid(origins, norigins))
        result = 403;
    free(version);
    free(key);
    return result;
}

/* The lists of all fields together: which of the server's protocols is in it first. */
static int expected_protocol(char *const *protocols, size_t nprotocols)
{
    for (size_t i = 0; i < nprotocols; i++) {
        char *text = joined("sec-websocket-protocol"), *list = text, *next;
        bool found = false;
        while (text != NULL && (next = element(&list)) != NULL)
            found = found || strcmp(next, protocols[i]) == 0;
        free(text);
        if (found)
            return (int)i;
    }
    return -1;
}

static void check(char *const *origins, size_t norigins, char *const *protocols, size_t nprotocols)
{
    char *accept = malloc(WS_ACCEPT_SIZE);
    CHECK(accept != NULL);
    accept[0] = '\0';
    int protocol = -7;
    const int r = ws_handshake(
        &head.http, origins, norigins, protocols, nprotocols, accept, &protocol);
    CHECK(r == expected(origins, norigins));
    if (r == 0) {
        CHECK(strspn(accept, BASE64) == 27 && strcmp(accept + 27, "=") == 0);
        CHECK(protocol == expected_protocol(protocols, nprotocols));
    } else {
        CHECK(accept[0] == '\0' && protocol == -7);
    }
    free(accept);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* A copy that ends where the head ends, so that ASan sees a read past it. */
    size_t used;
    if (http1_head_parse((const char *)data, size, &limits, &head, &used) != 0)
        return 0;
    char *copy = malloc(used);
    CHECK(copy != NULL);
    memcpy(copy, data, used);
    CHECK(http1_head_parse(copy, used, &limits, &head, &used) == 0);

    const bool wanted = lists("upgrade", "websocket") && lists("connection", "upgrade") &&
                        head.http.method == HTTP_GET && head.minor != 0;
    CHECK(ws_wanted(&head.http) == wanted);

    char first[] = "https://example.com", second[] = "http://localhost:8080", star[] = "*";
    char *const some[] = {first, second}, *const any[] = {first, star};
    char a[] = "jsonrpc", b[] = "old";
    char *const protocols[] = {a, b};
    check(NULL, 0, NULL, 0);
    check(some, 2, protocols, 2);
    check(any, 2, protocols, 1);
    free(copy);
    return 0;
}
