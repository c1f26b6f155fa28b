#include "frontd/shard/tls/tls_names.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <strings.h>

#include "common/alloc.h"

enum { ROOM_MIN = 4 };

/* Adds one name. A wildcard is kept without its "*". */
static int add(struct tls_names *names, const char *text, size_t n, uint32_t index)
{
    if (n == 0 || memchr(text, '\0', n) != NULL)
        return 0; /* no name that a client could ask for */
    if (names->count == names->room) {
        uint32_t room = MAX(names->room * 2, (uint32_t)ROOM_MIN);
        struct tls_name *wider = mem_widen(names->items, names->count, room, sizeof(*wider));
        if (wider == NULL)
            return -ENOMEM;
        names->items = wider;
        names->room = room;
    }
    bool wildcard = n > 2 && text[0] == '*' && text[1] == '.';
    char *copy = mem_strndup(text + wildcard, n - wildcard);
    if (copy == NULL)
        return -ENOMEM;
    for (char *p = copy; *p != '\0'; p++)
        *p = (char)tolower((unsigned char)*p);
    names->items[names->count++] = (struct tls_name){.text = copy, .certificate = index};
    return 0;
}

int tls_names_add(struct tls_names *names, const X509 *certificate, uint32_t index)
{
    GENERAL_NAMES *found = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    int r = 0;
    for (int i = 0; r == 0 && i < sk_GENERAL_NAME_num(found); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(found, i);
        if (name->type != GEN_DNS)
            continue;
        const char *text = (const char *)ASN1_STRING_get0_data(name->d.dNSName);
        r = add(names, text, (size_t)ASN1_STRING_length(name->d.dNSName), index);
    }
    GENERAL_NAMES_free(found);
    return r;
}

uint32_t tls_names_find(const struct tls_names *names, const char *name)
{
    const char *rest = name == NULL ? NULL : strchr(name, '.');
    uint32_t by_wildcard = 0;
    bool found = false;
    for (uint32_t i = 0; name != NULL && i < names->count; i++) {
        const struct tls_name *item = &names->items[i];
        if (item->text[0] != '.') {
            if (strcasecmp(item->text, name) == 0)
                return item->certificate;
        } else if (!found && rest != NULL && rest != name && strcasecmp(item->text, rest) == 0) {
            by_wildcard = item->certificate;
            found = true;
        }
    }
    return by_wildcard;
}

void tls_names_deinit(struct tls_names *names)
{
    for (uint32_t i = 0; i < names->count; i++)
        mem_free(names->items[i].text);
    mem_free(names->items);
    *names = (struct tls_names){0};
}
