#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/ipc/tls_material.h"
#include "tests/unit/support/descriptors.h"
#include "tests/unit/support/dumps.h"

#define TEXT(literal)                                                                              \
    {                                                                                              \
        literal, sizeof(literal) - 1                                                               \
    }

static struct tls_material_certificate web[] = {
    {TEXT("cert a"), TEXT("key a")},
    {TEXT("cert b"), TEXT("the key of b")},
};
static struct tls_material_certificate raw[] = {{TEXT("c"), TEXT("k")}};
static struct tls_material_listener listeners[] = {
    {.listener = 1, .ncertificates = 2, .certificates = web, .client_ca = TEXT("authority")},
    {.listener = 3, .ncertificates = 1, .certificates = raw},
};

static struct tls_material_pool pools[] = {
    {.pool = 0, .ca = TEXT("ca of workers")},
    {.pool = 2, .ca = TEXT("ca"), .own = {TEXT("cert of the front"), TEXT("its key")}},
};
static struct span jwks[] = {TEXT("a set"), TEXT("another")};
static const struct tls_material given = {
    .listeners = listeners, .nlisteners = 2, .pools = pools, .npools = 2, .jwks = jwks, .njwks = 2};

static bool is(struct span span, const char *text)
{
    return span.n == strlen(text) && memcmp(span.p, text, span.n) == 0;
}

Test(tls_material, arrives_as_it_was_written)
{
    struct tls_material material;
    size_t open_before = open_count();
    size_t before = mem_in_use();
    int fd;
    cr_assert_eq(tls_material_write(&given, &fd), 0);
    cr_assert_eq(tls_material_map(fd, &material), 0);
    close(fd);
    cr_assert_eq(material.nlisteners, 2);
    const struct tls_material_listener *one = tls_material_find(&material, 1);
    const struct tls_material_listener *other = tls_material_find(&material, 3);
    cr_assert(one != NULL && other != NULL);
    cr_expect_null(tls_material_find(&material, 0));
    cr_expect_null(tls_material_find(&material, 2));
    cr_assert_eq(one->ncertificates, 2);
    cr_expect(is(one->client_ca, "authority"));
    cr_expect(is(one->certificates[0].cert, "cert a"));
    cr_expect(is(one->certificates[0].key, "key a"));
    cr_expect(is(one->certificates[1].cert, "cert b"));
    cr_expect(is(one->certificates[1].key, "the key of b"));
    cr_assert_eq(other->ncertificates, 1);
    cr_expect_eq(other->client_ca.n, 0);
    cr_expect(is(other->certificates[0].key, "k"));
    cr_assert_eq(material.npools, 2);
    const struct tls_material_pool *pool = tls_material_find_pool(&material, 2);
    cr_assert(pool != NULL && tls_material_find_pool(&material, 1) == NULL);
    cr_expect(is(pool->ca, "ca") && is(pool->own.cert, "cert of the front"));
    cr_expect(is(pool->own.key, "its key"));
    pool = tls_material_find_pool(&material, 0);
    cr_expect(pool != NULL && is(pool->ca, "ca of workers") && pool->own.cert.n == 0);
    cr_assert_eq(material.njwks, 2);
    cr_expect(is(material.jwks[0], "a set") && is(material.jwks[1], "another"));
    tls_material_unmap(&material);
    tls_material_unmap(&material);
    cr_expect_eq(open_count(), open_before);
    cr_expect_eq(mem_in_use(), before);
}

Test(tls_material, nothing_can_change_it_and_no_dump_has_it)
{
    struct tls_material material;
    int fd;
    cr_assert_eq(tls_material_write(&given, &fd), 0);
    cr_expect_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
    cr_expect_eq(pwrite(fd, "x", 1, 0), -1);
    cr_expect_eq(ftruncate(fd, 0), -1);
    cr_expect_eq(ftruncate(fd, 1 << 20), -1);
    cr_expect_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), -1);
    cr_expect_eq(mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
    cr_assert_eq(tls_material_map(fd, &material), 0);
    cr_expect(is_left_out_of_dumps(material.map));
    cr_expect_not(is_left_out_of_dumps(&web));
    tls_material_unmap(&material);
    close(fd);
}

Test(tls_material, more_than_is_allowed)
{
    int fd = -1;
    static char text[TLS_MATERIAL_MAX / 4];
    struct tls_material_certificate all[4];
    size_t numbers = 12 + 12 + 4 * 8 + 4 + 4;
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        all[i] = (struct tls_material_certificate){.cert = {text, sizeof(text)}};
    struct tls_material_listener one = {.ncertificates = 4, .certificates = all};
    const struct tls_material large = {.listeners = &one, .nlisteners = 1};
    all[3].cert.n -= numbers;
    cr_assert_eq(tls_material_write(&large, &fd), 0);
    struct tls_material material;
    cr_expect_eq(tls_material_map(fd, &material), 0);
    cr_expect_eq(material.size, TLS_MATERIAL_MAX);
    tls_material_unmap(&material);
    close(fd);
    size_t open_before = open_count();
    all[3].cert.n++;
    cr_expect_eq(tls_material_write(&large, &fd), -E2BIG);
    all[0].cert.n = (size_t)UINT32_MAX + 10;
    cr_expect_eq(tls_material_write(&large, &fd), -E2BIG);
    cr_expect_eq(open_count(), open_before);
}

/* What is mapped of these bytes, in a memfd with these seals. */
static int map(const char *bytes, size_t n, int seals)
{
    struct tls_material material;
    size_t before = mem_in_use();
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    cr_assert_eq(write(fd, bytes, n), (ssize_t)n);
    cr_assert_eq(fcntl(fd, F_ADD_SEALS, seals), 0);
    int r = tls_material_map(fd, &material);
    if (r == 0)
        tls_material_unmap(&material);
    close(fd);
    cr_expect_eq(mem_in_use(), before);
    return r;
}

enum { ALL_SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE };

Test(tls_material, what_is_no_material)
{
    char bytes[512];
    struct tls_material material;
    int fd;
    cr_assert_eq(tls_material_write(&given, &fd), 0);
    ssize_t n = pread(fd, bytes, sizeof(bytes) - 1, 0);
    close(fd);
    cr_assert_gt(n, 0);
    cr_expect_eq(map(bytes, (size_t)n, ALL_SEALS), 0);
    for (size_t i = 1; i < (size_t)n; i++)
        cr_expect_eq(map(bytes, i, ALL_SEALS), -EBADMSG, "%zu bytes of it", i);
    cr_expect_eq(map(bytes, 0, ALL_SEALS), -EINVAL);
    bytes[n] = 'x';
    cr_expect_eq(map(bytes, (size_t)n + 1, ALL_SEALS), -EBADMSG, "a byte more");
    cr_expect_eq(map(bytes, (size_t)n, F_SEAL_SHRINK | F_SEAL_GROW), -EINVAL);
    cr_expect_eq(map(bytes, (size_t)n, F_SEAL_SHRINK | F_SEAL_WRITE), -EINVAL);
    cr_expect_eq(map(bytes, (size_t)n, F_SEAL_GROW | F_SEAL_WRITE), -EINVAL);
    bytes[4]++; /* the version */
    cr_expect_eq(map(bytes, (size_t)n, ALL_SEALS), -EBADMSG);
    fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    cr_expect_eq(tls_material_map(fd, &material), -EINVAL);
    close(fd);
}

Test(tls_material, numbers_that_nothing_follows)
{
    char bytes[512] = "";
    int fd;
    cr_assert_eq(tls_material_write(&given, &fd), 0);
    ssize_t n = pread(fd, bytes, sizeof(bytes), 0);
    close(fd);
    for (size_t at = 8; at + 4 <= (size_t)n; at++) {
        char other[512];
        memcpy(other, bytes, sizeof(other));
        memset(other + at, 0xff, 4);
        int r = map(other, (size_t)n, ALL_SEALS);
        cr_expect(r == 0 || r == -EBADMSG, "at %zu: %d", at, r); /* 0: in a text or an index */
    }
}

Test(tls_material, without_memory)
{
    struct tls_material material;
    size_t open_before = open_count();
    size_t before = mem_in_use();
    int fd = -1;
    long n = 0;
    int r = -ENOMEM;
    for (; r < 0 && n < 100; n++) {
        mem_fail_after(n);
        r = tls_material_write(&given, &fd);
        mem_fail_after(-1);
        cr_assert(r == 0 || r == -ENOMEM);
    }
    cr_assert_gt(n, 1);
    r = -ENOMEM;
    for (n = 0; r < 0 && n < 100; n++) {
        mem_fail_after(n);
        r = tls_material_map(fd, &material);
        mem_fail_after(-1);
        cr_assert(r == 0 || r == -ENOMEM);
    }
    cr_assert_gt(n, 1);
    tls_material_unmap(&material);
    close(fd);
    cr_expect_eq(open_count(), open_before);
    cr_expect_eq(mem_in_use(), before);
}

/* Whether these listeners are what a config with tls on listeners 1 and 3 needs. */
static bool fits(struct tls_material_listener *of, uint32_t n, enum conf_client_auth auth)
{
    const struct tls_material some = {.listeners = of, .nlisteners = n};
    struct conf_tls tls_web = {.ncertificates = 2, .client_auth = auth};
    struct conf_tls tls_raw = {.ncertificates = 1};
    struct conf_listener of_conf[4] = {{0}};
    struct conf conf = {.listeners = of_conf, .nlisteners = 4};
    struct tls_material material;
    of_conf[1].tls = &tls_web;
    of_conf[3].tls = &tls_raw;
    int fd;
    cr_assert_eq(tls_material_write(&some, &fd), 0);
    cr_assert_eq(tls_material_map(fd, &material), 0);
    bool all = tls_material_fits(&material, &conf);
    tls_material_unmap(&material);
    close(fd);
    return all;
}

Test(tls_material, what_a_config_needs)
{
    struct tls_material_listener some[3];
    cr_expect(fits(listeners, 2, CONF_CLIENT_AUTH_REQUIRED));
    cr_expect(fits(listeners, 2, CONF_CLIENT_AUTH_OPTIONAL));
    cr_expect_not(fits(listeners, 2, CONF_CLIENT_AUTH_NONE), "nothing asks for the authority");
    cr_expect_not(fits(listeners, 1, CONF_CLIENT_AUTH_REQUIRED), "one is missing");
    cr_expect_not(fits(listeners, 0, CONF_CLIENT_AUTH_REQUIRED));
    memcpy(some, listeners, sizeof(listeners));
    some[2] = (struct tls_material_listener){.listener = 2};
    cr_expect_not(fits(some, 3, CONF_CLIENT_AUTH_REQUIRED), "one too many");
    some[1].listener = 2;
    cr_expect_not(fits(some, 2, CONF_CLIENT_AUTH_REQUIRED), "of another one");
    memcpy(some, listeners, sizeof(listeners));
    some[0].ncertificates = 1;
    cr_expect_not(fits(some, 2, CONF_CLIENT_AUTH_REQUIRED), "a certificate is missing");
    some[0].ncertificates = 2;
    some[0].client_ca = (struct span){0};
    cr_expect_not(fits(some, 2, CONF_CLIENT_AUTH_REQUIRED), "the authority is missing");
    struct tls_material_certificate empty = {.cert = SPAN("c")};
    some[0].client_ca = listeners[0].client_ca;
    some[1].certificates = &empty;
    cr_expect_not(fits(some, 2, CONF_CLIENT_AUTH_REQUIRED), "the key is empty");
}

/* Whether these pools are what a config needs whose second pool has tls. */
static bool fits_pools(struct tls_material_pool *of, uint32_t n, bool shows)
{
    static char path[] = "/cert";
    const struct tls_material some = {.pools = of, .npools = n};
    struct conf_pool_tls tls = {.own.cert.path = shows ? path : NULL};
    struct conf_pool of_conf[2] = {{0}, {.tls = &tls}};
    struct conf conf = {.pools = of_conf, .npools = 2};
    struct tls_material material;
    int fd;
    cr_assert_eq(tls_material_write(&some, &fd), 0);
    cr_assert_eq(tls_material_map(fd, &material), 0);
    bool all = tls_material_fits(&material, &conf);
    tls_material_unmap(&material);
    close(fd);
    return all;
}

Test(tls_material, what_pools_of_a_config_need)
{
    struct tls_material_pool some[2] = {
        {.pool = 1, .ca = TEXT("ca")},
        {.pool = 1, .ca = TEXT("ca"), .own = {TEXT("c"), TEXT("k")}},
    };
    cr_expect(fits_pools(&some[0], 1, false));
    cr_expect(fits_pools(&some[1], 1, true));
    cr_expect_not(fits_pools(some, 0, false), "it is missing");
    cr_expect_not(fits_pools(some, 2, false), "one too many");
    cr_expect_not(fits_pools(&some[0], 1, true), "the certificate is missing");
    cr_expect_not(fits_pools(&some[1], 1, false), "no certificate is asked for");
    some[0].pool = 0;
    cr_expect_not(fits_pools(&some[0], 1, false), "of another one");
    some[1].own.key = (struct span){0};
    cr_expect_not(fits_pools(&some[1], 1, true), "the key is empty");
}

static bool fits_jwks(struct span *of, uint32_t n, uint32_t wanted)
{
    const struct tls_material some = {.jwks = of, .njwks = n};
    struct conf conf = {.njwts = wanted};
    struct tls_material material;
    int fd;
    cr_assert_eq(tls_material_write(&some, &fd), 0);
    cr_assert_eq(tls_material_map(fd, &material), 0);
    bool all = tls_material_fits(&material, &conf);
    tls_material_unmap(&material);
    close(fd);
    return all;
}

Test(tls_material, what_auth_of_a_config_needs)
{
    struct span empty[2] = {jwks[0], {0}};
    cr_expect(fits_jwks(jwks, 2, 2));
    cr_expect(fits_jwks(jwks, 0, 0));
    cr_expect_not(fits_jwks(jwks, 1, 2), "one is missing");
    cr_expect_not(fits_jwks(jwks, 2, 1), "one too many");
    cr_expect_not(fits_jwks(empty, 2, 2), "one is empty");
}
