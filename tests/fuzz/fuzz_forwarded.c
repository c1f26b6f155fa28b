/*
 * The input is the head of a request. What is made of it is compared with a second opinion, which
 * joins the fields of a name and reads them from the end with the functions of the C library; of
 * Forwarded only where there are no quotes, since it cannot read these from the end.
 */

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "frontd/codec/forwarded.h"
#include "frontd/codec/http1_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct http1_limits limits = {.head_bytes = 65536, .fields = HTTP_FIELDS_MAX};

#define DIGITS "0123456789"
#define TOKEN  "!#$%&'*+-.^_`|~" DIGITS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

static struct http1_head head;
static struct peer_network trusted[2]; /* 10.0.0.0/8 and ::1 */

/* The values of all fields of that name, joined by commas. */
static char *joined(const char *name)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);
    CHECK(file != NULL);
    for (size_t i = 0; i < head.http.nfields; i++) {
        const struct http_field *field = &head.http.fields[i];
        if (field->name.n == strlen(name) && strncasecmp(field->name.p, name, field->name.n) == 0)
            fprintf(file, ",%.*s", (int)field->value.n, field->value.p);
    }
    fclose(file);
    CHECK(text != NULL);
    return text;
}

static char *trim(char *text)
{
    text += strspn(text, " \t");
    for (size_t n = strlen(text); n > 0 && strchr(" \t", text[n - 1]) != NULL;)
        text[--n] = '\0';
    return text;
}

/* Cuts the last element that is not empty off the list. NULL: none is left. */
static char *last_element(char *list)
{
    char *comma;
    while ((comma = strrchr(list, ',')) != NULL) {
        *comma = '\0';
        char *element = trim(comma + 1);
        if (*element != '\0')
            return element;
    }
    return NULL;
}

/* An address with its port, or without. */
static bool read_node(char *text, int *family, unsigned char address[16], unsigned long *port)
{
    char *rest = NULL;
    *port = 0;
    if (*text == '[') {
        rest = strchr(text, ']');
        if (rest == NULL)
            return false;
        *rest++ = '\0';
        text++;
        if (strchr(text, ':') == NULL)
            return false;
        if (*rest == '\0')
            rest = NULL;
        else if (*rest++ != ':')
            return false;
    } else if (strchr(text, ':') != NULL && strchr(text, ':') == strrchr(text, ':')) {
        rest = strchr(text, ':');
        *rest++ = '\0';
    }
    if (rest != NULL && *rest != '_') {
        if (*rest == '\0' || strspn(rest, DIGITS) != strlen(rest) || strlen(rest) > 5)
            return false;
        *port = strtoul(rest, NULL, 10);
    }
    *family = strchr(text, ':') == NULL ? AF_INET : AF_INET6;
    return *port <= 65535 && inet_pton(*family, text, address) == 1;
}

static void unmap(int *family, unsigned char address[16])
{
    if (*family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED((struct in6_addr *)(void *)address))
        return;
    *family = AF_INET;
    memmove(address, address + 12, 4);
}

/* The value of `for`, or NULL; text: an element of Forwarded without quotes. */
static char *node_of(char *text, bool *ret_wrong)
{
    char *found = NULL, *rest = text, *pair;
    bool twice = false;
    while ((pair = strsep(&rest, ";")) != NULL) {
        pair = trim(pair);
        if (*pair == '\0')
            continue;
        size_t n = strspn(pair, TOKEN);
        if (n == 0 || pair[n] != '=' || pair[n + 1] == '\0' ||
            pair[n + 1 + strspn(pair + n + 1, TOKEN "[]:")] != '\0') {
            *ret_wrong = true;
            return NULL;
        }
        if (n != 3 || strncasecmp(pair, "for", 3) != 0)
            continue;
        twice = found != NULL;
        found = pair + 4;
        if (twice)
            break;
    }
    while (twice && (pair = strsep(&rest, ";")) != NULL) { /* it may be wrong besides */
        pair = trim(pair);
        size_t n = strspn(pair, TOKEN);
        *ret_wrong |= *pair != '\0' && (n == 0 || pair[n] != '=' || pair[n + 1] == '\0' ||
                                           pair[n + 1 + strspn(pair + n + 1, TOKEN "[]:")] != '\0');
    }
    return twice ? NULL : found;
}

/* Whether an element of the list is wrong, which hides what follows it in its field. */
static bool any_wrong(const char *list)
{
    char *copy = strdup(list), *element;
    bool wrong = false;
    CHECK(copy != NULL);
    while ((element = last_element(copy)) != NULL)
        node_of(element, &wrong);
    free(copy);
    return wrong;
}

static void check(char *list, bool rfc, bool found, const struct peer *peer)
{
    unsigned char address[16] = {0}, next[16];
    int family = 0, next_family;
    unsigned long port = 0, next_port;
    char *element;
    bool wrong = false;
    for (unsigned i = 0; i < FORWARDED_HOPS_MAX && (element = last_element(list)) != NULL; i++) {
        if (rfc)
            element = node_of(element, &wrong);
        if (element == NULL || strlen(element) > 64 ||
            !read_node(element, &next_family, next, &next_port))
            break;
        family = next_family;
        port = next_port;
        memcpy(address, next, sizeof(address));
        unmap(&family, address);
        if (!(family == AF_INET && address[0] == 10) &&
            !(family == AF_INET6 && IN6_IS_ADDR_LOOPBACK((struct in6_addr *)(void *)address)))
            break;
    }
    CHECK(found == (family != 0));
    if (found)
        CHECK(peer->family == family && peer->port == port &&
              memcmp(peer->bytes, address, family == AF_INET ? 4 : 16) == 0);
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
    CHECK(peer_network_parse("10.0.0.0/8", &trusted[0]) == NULL);
    CHECK(peer_network_parse("::1", &trusted[1]) == NULL);

    struct peer peer = {.family = 0};
    char *list = joined("x-forwarded-for");
    bool found = forwarded_x_find(&head.http, trusted, 2, &peer);
    check(list, false, found, &peer);
    free(list);

    list = joined("forwarded");
    found = forwarded_find(&head.http, trusted, 2, &peer);
    if (strchr(list, '"') == NULL && !any_wrong(list))
        check(list, true, found, &peer);
    free(list);
    free(copy);
    return 0;
}
