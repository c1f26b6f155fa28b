#include <criterion/criterion.h>
#include <string.h>

#include "frontd/codec/authority.h"

Test(authority, hosts_and_ports)
{
    static const struct {
        const char *text;
        int port; /* -1: it is no authority */
    } rows[] = {
        {"h", 0},
        {"h:", 0},
        {"h:0", 0},
        {"h:80", 80},
        {"h:0080", 80},
        {"h:65535", 65535},
        {"192.0.2.7:1", 1},
        {"[::1]", 0},
        {"[::ffff:192.0.2.7]:443", 443},
        {"a%2Db.example.", 0},
        {"", -1},
        {":80", -1},
        {"h:65536", -1},
        {"h:4294967376", -1},
        {"h:-1", -1},
        {"h:8a", -1},
        {"h:80:80", -1},
        {"user@h", -1},
        {"a,b", -1},
        {"a b", -1},
        {"a%2", -1},
        {"a%zz", -1},
        {"[]", -1},
        {"[::1", -1},
        {"[::1]a", -1},
        {"[fe80::1%25eth0]", -1},
        {"[v1.a]", -1},
        {"[192.0.2.7]", -1},
        {"::1", -1},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        /* of exactly that size, so that a sanitizer sees what is read behind it */
        const size_t n = strlen(rows[i].text);
        char *text = malloc(n + (n == 0));
        unsigned port = 77;
        cr_assert_not_null(text);
        memcpy(text, rows[i].text, n);
        const bool ok = authority_parse((struct span){text, n}, &port);
        cr_expect_eq(ok, rows[i].port >= 0, "%s", rows[i].text);
        cr_expect(!ok || port == (unsigned)rows[i].port, "%s: %u", rows[i].text, port);
        free(text);
    }
}
