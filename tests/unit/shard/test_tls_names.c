#include "frontd/shard/tls/tls_names.h"

#include <criterion/criterion.h>

#include "common/alloc.h"
#include "tests/unit/support/pki.h"

/* Names of certificates, and which one is found. */
Test(tls_names, exact_first_then_wildcards)
{
    static const char *const sans[] = {
        "DNS:first.test",
        "DNS:*.a.test,email:x@a.test,IP:192.0.2.1",
        "DNS:B.a.test,DNS:*.a.test,DNS:a.test",
        "DNS:*.*.odd.test,DNS:x*.part.test,DNS:*",
    };
    static const struct {
        const char *name;
        uint32_t certificate;
    } rows[] = {
        {NULL, 0},
        {"", 0},
        {".", 0},
        {".a.test", 0}, /* no label for the wildcard to stand for */
        {"first.test", 0},
        {"FIRST.TEST", 0},
        {"b.a.test", 2},
        {"B.A.Test", 2},
        {"c.a.test", 1}, /* of several the first */
        {"a.test", 2},
        {"c.b.a.test", 0}, /* one label only */
        {"192.0.2.1", 0},
        {"*.a.test", 1}, /* no client asks so, and it fits */
        {"x1.part.test", 0},
        {"y.z.odd.test", 0},
        {"test", 0},
    };
    struct tls_names names = {0};
    for (uint32_t i = 0; i < ARRAY_LEN(sans); i++) {
        struct pki_certificate made = pki_make_valid(PKI_EC, "x", sans[i], NULL);
        cr_assert_eq(tls_names_add(&names, made.x509, i), 0);
        pki_free(&made);
    }
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        cr_expect_eq(tls_names_find(&names, rows[i].name), rows[i].certificate, "%s", rows[i].name);
    tls_names_deinit(&names);
    cr_expect_eq(tls_names_find(&names, "first.test"), 0u, "none");
}

Test(tls_names, without_memory)
{
    struct pki_certificate made = pki_make_valid(
        PKI_EC, "x", "DNS:a,DNS:b,DNS:c,DNS:d,DNS:e", NULL);
    size_t before = mem_in_use();
    bool fine = false;
    for (long nth = 0; !fine; nth++) {
        struct tls_names names = {0};
        mem_fail_after(nth);
        fine = tls_names_add(&names, made.x509, 0) == 0;
        mem_fail_after(-1);
        cr_expect(!fine || names.count == 5);
        tls_names_deinit(&names);
        cr_expect_eq(mem_in_use(), before);
    }
    pki_free(&made);
}
