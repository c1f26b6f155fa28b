#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/config/jwk_alg.h"
#include "frontd/ipc/tls_material.h"
#include "frontd/supervisor/tls/load.h"
#include "tests/unit/support/descriptors.h"
#include "tests/unit/support/make_pem.h"
#include "tests/unit/support/said.h"

enum { DAY = 24 * 3600, TEXT = 8192 };

static const time_t NOW = 1800000000;
static char folder[64];
static char paths[6][128]; /* a.pem, a.key, b.pem, b.key, ca.pem, nothing */
static char texts[6][TEXT];
static struct conf_certificate pairs[2];
static struct conf_tls web_tls;
static struct conf_tls raw_tls;
static struct conf_listener listeners[3];
static struct conf conf;
static char names[3][8] = {"web", "plain", "raw"};
static char error[1024];

static void write_file(size_t i, mode_t mode)
{
    int fd = open(paths[i], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    size_t n = strlen(texts[i]);
    cr_assert(fd >= 0 && write(fd, texts[i], n) == (ssize_t)n && fchmod(fd, mode) == 0);
    close(fd);
}

static void make_pair(size_t i, const char *name, int days)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    struct make_pem make = {.name = name,
        .san = "DNS:a.test",
        .key = key,
        .from = NOW - DAY,
        .until = NOW + (time_t)days * DAY};
    X509 *x509 = make_pem_certificate(&make);
    make_pem_put_certificate(texts[i], TEXT, x509);
    make_pem_put_key(texts[i + 1], TEXT, key);
    write_file(i, 0644);
    write_file(i + 1, 0640);
    X509_free(x509);
    EVP_PKEY_free(key);
}

/* Listener 0 has two certificates and client_ca, 1 is plain, 2 has the second one. */
static void set_up(void)
{
    static const char *const files[] = {"a.pem", "a.key", "b.pem", "b.key", "ca.pem", "nothing"};
    snprintf(folder, sizeof(folder), "/tmp/test_tls_load-XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        snprintf(paths[i], sizeof(paths[i]), "%s/%s", folder, files[i]);
    make_pair(0, "a", 90);
    make_pair(2, "b", 30);
    strcpy(texts[4], texts[0]);
    write_file(4, 0644);
    for (size_t i = 0; i < 2; i++)
        pairs[i] = (struct conf_certificate){
            .cert = {paths[2 * i], (unsigned)(10 * i + 7)}, .key = {paths[2 * i + 1], 8}};
    web_tls = (struct conf_tls){.certificates = pairs,
        .ncertificates = 2,
        .client_auth = CONF_CLIENT_AUTH_REQUIRED,
        .client_ca = {paths[4], 9}};
    raw_tls = (struct conf_tls){.certificates = &pairs[1], .ncertificates = 1};
    listeners[0] = (struct conf_listener){.name = names[0], .tls = &web_tls};
    listeners[1] = (struct conf_listener){.name = names[1]};
    listeners[2] = (struct conf_listener){.name = names[2], .tls = &raw_tls};
    conf = (struct conf){.listeners = listeners, .nlisteners = 3};
}

static void tear_down(void)
{
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        unlink(paths[i]);
    rmdir(folder);
}

TestSuite(tls_load, .init = set_up, .fini = tear_down);

static void on_odd(void *data, const char *text)
{
    (void)data;
    say("%s\n", text);
}

static const struct conf_findings findings = {.odd = on_odd};

/* Reads all; *ret_fd: -1 on failure. */
static int load(int *ret_fd)
{
    size_t before = mem_in_use();
    size_t open_before = open_count();
    error[0] = '\0';
    *ret_fd = -1;
    int r = tls_load("c.yaml", &conf, NOW, &findings, ret_fd, NULL, error, sizeof(error));
    cr_expect_eq(mem_in_use(), before);
    cr_expect_eq(open_count(), open_before + (*ret_fd >= 0));
    return r;
}

/* What is said of a file, with "FOLDER" for the folder. */
static void expect_text(const char *is, const char *wanted)
{
    char text[1024] = "";
    size_t n = 0;
    for (const char *p = is; *p != '\0' && n + 8 < sizeof(text);) {
        bool here = strncmp(p, folder, strlen(folder)) == 0;
        n += (size_t)snprintf(text + n, sizeof(text) - n, here ? "FOLDER" : "%c", *p);
        p += here ? strlen(folder) : 1;
    }
    cr_expect_str_eq(text, wanted);
}

static void expect_warned(const char *wanted)
{
    expect_text(said, wanted);
    said[0] = '\0';
}

static void expect_refused(int wanted, const char *message)
{
    int fd;
    cr_expect_eq(load(&fd), wanted);
    cr_expect_eq(fd, -1);
    expect_text(error, message);
}

static bool is(struct span span, const char *text)
{
    return span.n == strlen(text) && memcmp(span.p, text, span.n) == 0;
}

Test(tls_load, what_shards_get)
{
    struct tls_material material;
    int fd;
    cr_assert_eq(load(&fd), 0, "%s", error);
    expect_warned("");
    cr_assert_eq(tls_material_map(fd, &material), 0);
    cr_expect(tls_material_fits(&material, &conf));
    const struct tls_material_listener *web = tls_material_find(&material, 0);
    const struct tls_material_listener *raw = tls_material_find(&material, 2);
    cr_expect(is(web->certificates[0].cert, texts[0]));
    cr_expect(is(web->certificates[0].key, texts[1]));
    cr_expect(is(web->certificates[1].cert, texts[2]));
    cr_expect(is(web->certificates[1].key, texts[3]));
    cr_expect(is(web->client_ca, texts[4]));
    cr_expect(is(raw->certificates[0].key, texts[3]));
    cr_expect_eq(raw->client_ca.n, 0);
    tls_material_unmap(&material);
    close(fd);
}

Test(tls_load, the_first_to_expire)
{
    struct tls_load_sum sum;
    cr_assert_eq(tls_load("c.yaml", &conf, NOW, &findings, NULL, &sum, error, sizeof(error)), 0);
    cr_expect_eq(sum.certificates, 3);
    cr_expect_str_eq(sum.first, paths[2]);
    cr_expect_eq(sum.until, NOW + (time_t)30 * DAY);
}

Test(tls_load, where_nothing_has_tls)
{
    int fd;
    cr_expect(tls_load_is_needed(&conf));
    listeners[0].tls = listeners[2].tls = NULL;
    cr_expect_not(tls_load_is_needed(&conf));
    cr_assert_eq(load(&fd), 0);
    cr_expect_eq(fd, -1);
}

Test(tls_load, what_is_wrong)
{
    pairs[1].key.path = paths[1];
    expect_refused(-EINVAL, "c.yaml:8: listeners[0].tls.certificates[1].key: FOLDER/a.key of "
                            "listener web: the key does not belong to the certificate");
    pairs[1].key.path = paths[5];
    expect_refused(-ENOENT, "c.yaml:8: listeners[0].tls.certificates[1].key: FOLDER/nothing of "
                            "listener web: cannot read it: No such file or directory");
    pairs[1].key.path = folder;
    expect_refused(-EISDIR, "c.yaml:8: listeners[0].tls.certificates[1].key: FOLDER of "
                            "listener web: cannot read it: not a plain file");
    pairs[1].key.path = paths[3];
    pairs[1].cert.path = paths[3];
    expect_refused(-EINVAL, "c.yaml:17: listeners[0].tls.certificates[1].cert: FOLDER/b.key of "
                            "listener web: no certificate in PEM is in it");
    pairs[1].cert.path = paths[2];
    web_tls.client_ca.path = paths[1];
    expect_refused(-EINVAL, "c.yaml:9: listeners[0].tls.client_ca: FOLDER/a.key of "
                            "listener web: no certificate in PEM is in it");
    web_tls.client_auth = CONF_CLIENT_AUTH_NONE; /* which has no use for it */
    int fd;
    cr_expect_eq(load(&fd), 0);
    close(fd);
}

Test(tls_load, one_that_is_as_large_as_allowed_and_one_that_is_larger)
{
    static char large[TLS_KEY_FILE_MAX];
    int fd;
    size_t n = strlen(texts[1]);
    memset(large, '\n', sizeof(large));
    int key = open(paths[1], O_WRONLY | O_APPEND | O_CLOEXEC);
    cr_assert_eq(write(key, large, sizeof(large) - n), (ssize_t)(sizeof(large) - n));
    cr_expect_eq(load(&fd), 0, "%s", error);
    close(fd);
    cr_assert_eq(write(key, "\n", 1), 1);
    close(key);
    expect_refused(-EFBIG, "c.yaml:8: listeners[0].tls.certificates[0].key: FOLDER/a.key of "
                           "listener web: cannot read it: the file is too large");
}

/* Of the first key or the first certificate, which a file is; of a key that listener 0 alone has.
 */
static void expect_mode(size_t file, mode_t mode, const char *wanted)
{
    int fd;
    cr_assert_eq(chmod(paths[file], mode), 0);
    cr_expect_eq(load(&fd), 0, "%s", error);
    close(fd);
    expect_warned(wanted);
}

#define KEY "c.yaml:8: listeners[0].tls.certificates[0].key: FOLDER/a.key of listener web: "

Test(tls_load, modes)
{
    expect_mode(1, 0600, "");
    expect_mode(1, 0640, "");
    expect_mode(1, 0440, "");
    expect_mode(1, 0644,
        KEY "a key with mode 0644: others than its owner and its group may read "
            "it; 0640 is as much as it needs\n");
    expect_mode(1, 0604,
        KEY "a key with mode 0604: others than its owner and its group may read "
            "it; 0640 is as much as it needs\n");
    expect_mode(1, 0660,
        KEY "a key with mode 0660: others than its owner and its group may change "
            "it; 0640 is as much as it needs\n");
    expect_mode(1, 0600, "");
    expect_mode(0, 0666,
        "c.yaml:7: listeners[0].tls.certificates[0].cert: FOLDER/a.pem of listener web: its mode "
        "is 0666: anyone may change it\n");
    expect_mode(0, 0644, "");
    expect_mode(4, 0646,
        "c.yaml:9: listeners[0].tls.client_ca: FOLDER/ca.pem of listener web: its "
        "mode is 0646: anyone may change it\n");
}

Test(tls_load, a_key_of_another_user)
{
    int fd;
    if (geteuid() != 0)
        cr_skip_test("only root can give a file away");
    cr_assert_eq(chown(paths[1], 4711, 0), 0);
    cr_expect_eq(load(&fd), 0);
    close(fd);
    expect_warned(KEY "a key that belongs to user 4711, not to the one who runs frontd\n");
}

Test(tls_load, dates_are_warned_of)
{
    int fd;
    texts[0][0] = texts[1][0] = '\0';
    make_pair(0, "old", -1);
    cr_expect_eq(load(&fd), 0);
    close(fd);
    expect_warned("c.yaml:7: listeners[0].tls.certificates[0].cert: FOLDER/a.pem of listener web: "
                  "the certificate has expired on 2027-01-14\n");
}

Test(tls_load, what_this_user_may_not_read)
{
    int fd;
    if (geteuid() != 0)
        cr_skip_test("only root can become another user here");
    cr_assert_eq(chmod(folder, 0755), 0);
    cr_assert(chmod(paths[1], 0600) == 0 && chmod(paths[3], 0600) == 0);
    cr_assert_eq(seteuid(65534), 0);
    int r = tls_load("c.yaml", &conf, NOW, &findings, NULL, NULL, error, sizeof(error));
    cr_expect_eq(r, 0, "%s", error);
    expect_warned(KEY "it cannot be looked at: Permission denied\n"
                      "c.yaml:8: listeners[0].tls.certificates[1].key: FOLDER/b.key of listener "
                      "web: it cannot be looked at: Permission denied\n"
                      "c.yaml:8: listeners[2].tls.certificates[0].key: FOLDER/b.key of listener "
                      "raw: it cannot be looked at: Permission denied\n");
    expect_refused(-EACCES, KEY "cannot read it: Permission denied");
    cr_assert_eq(seteuid(0), 0);
    cr_expect_eq(load(&fd), 0);
    close(fd);
}

Test(tls_load, without_memory)
{
    int fd = -1;
    long n = 0;
    int r = -ENOMEM;
    for (; r < 0 && n < 1000; n++) {
        mem_fail_after(n);
        r = load(&fd);
        mem_fail_after(-1);
        cr_assert(r == 0 || r == -ENOMEM);
        cr_assert(r == 0 || strstr(error, "emory") != NULL, "%s", error);
    }
    cr_assert_gt(n, 3);
    close(fd);
}

/* As soon as there are keys in its memory, and not before. */
Test(tls_load, the_process_leaves_no_dump)
{
    int fd;
    cr_assert_eq(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), 1);
    conf.nlisteners = 0;
    cr_assert_eq(load(&fd), 0);
    cr_expect_eq(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), 1);
    conf.nlisteners = 3;
    cr_assert_eq(load(&fd), 0);
    cr_expect_eq(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), 0);
    close(fd);
}

/* RFC 8037 appendix A.2. */
#define ED25519                                                                                    \
    "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":"                                       \
    "\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}"

Test(tls_load, keys_of_tokens)
{
    static char key[] = "listeners[0].auth.jwt";
    struct conf_jwt jwt = {.jwks = {paths[5], 12}, .key = key, .algorithms = 1U << JWK_EDDSA};
    struct tls_material material;
    int fd;
    conf = (struct conf){.listeners = listeners, .nlisteners = 2, .njwts = 1, .jwts = {&jwt}};
    listeners[0].tls = NULL;
    cr_expect(tls_load_is_needed(&conf));
    expect_refused(-EINVAL,
        "c.yaml:12: listeners[0].auth.jwt.jwks: FOLDER/nothing: cannot read it: No such file or "
        "directory");
    strcpy(texts[5], ED25519);
    write_file(5, 0644);
    cr_assert_eq(load(&fd), 0, "%s", error);
    expect_warned("");
    cr_assert_eq(tls_material_map(fd, &material), 0);
    cr_expect(tls_material_fits(&material, &conf));
    cr_expect(is(material.jwks[0], ED25519));
    tls_material_unmap(&material);
    close(fd);
    write_file(5, 0646);
    cr_assert_eq(load(&fd), 0, "%s", error);
    close(fd);
    expect_warned(
        "c.yaml:12: listeners[0].auth.jwt.jwks: FOLDER/nothing: anyone may change it, and "
        "let themselves in\n");
    jwt.algorithms = 1U << JWK_RS256;
    expect_refused(-EINVAL,
        "c.yaml:12: listeners[0].auth.jwt.jwks: FOLDER/nothing: no key in it is "
        "for one of `algorithms`");
    said[0] = '\0';
    strcpy(texts[5], "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AA\"}]}");
    write_file(5, 0644);
    expect_refused(-EINVAL,
        "c.yaml:12: listeners[0].auth.jwt.jwks: FOLDER/nothing: keys[0]: it has "
        "a secret (k): only public keys have a place here");
}
