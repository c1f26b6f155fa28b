#include "frontd/supervisor/tls/load.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/config/jwks.h"
#include "frontd/ipc/tls_material.h"
#include "frontd/supervisor/tls/pem_check.h"
#include "frontd/supervisor/tls/secret_file.h"
#include "frontd/system/privileges.h"

/* The files of one certificate. */
struct pair {
    struct secret_file cert;
    struct secret_file key;
};

/* What is read for one listener. */
struct batch {
    const struct conf_tls *tls;
    struct pair *pairs; /* ncertificates of them */
    struct secret_file client_ca;
};

/* What is read for one pool. */
struct pool_batch {
    const struct conf_pool_tls *tls;
    struct secret_file ca;
    struct pair own;
};

/* Where a message points. */
struct place {
    const char *kind; /* "listener" or "pool" */
    unsigned index;
    char key[48];     /* "certificates[0].cert" */
    const char *name; /* of the listener or pool */
    const struct conf_tls_file *file;
};

struct loader {
    const char *conf_name;
    const struct conf *conf;
    const struct conf_findings *findings;
    time_t now;
    bool only_looks;
    struct tls_load_sum sum;
    struct batch *batches;    /* a row for each listener of the config */
    struct pool_batch *pools; /* a row for each pool */
    struct secret_file *jwks; /* a row for each of conf->jwts */
    struct place place;       /* of what is being checked */
    char *error;
    size_t error_size;
};

/* "FILE:LINE: KEY: FILE of listener NAME: what", or of a pool */
static void write_message(const struct loader *loader, const char *what, char *out, size_t size)
{
    const struct place *place = &loader->place;
    snprintf(out, size, "%s:%u: %ss[%u].tls.%s: %s of %s %s: %s", loader->conf_name,
        place->file->line, place->kind, place->index, place->key, place->file->path, place->kind,
        place->name, what);
}

static int complain(struct loader *loader, const char *what, int r)
{
    write_message(loader, what, loader->error, loader->error_size);
    return r;
}

static void on_odd(void *data, const char *what)
{
    struct loader *loader = data;
    char text[5120];
    if (loader->findings == NULL || loader->findings->odd == NULL)
        return;
    write_message(loader, what, text, sizeof(text));
    loader->findings->odd(loader->findings->data, text);
}

__attribute__((format(printf, 2, 3))) static void warn(
    struct loader *loader, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    on_odd(loader, text);
}

/* Only its owner, who is root or runs frontd, and at most a group may read a key. */
static void check_key_mode(struct loader *loader, const struct stat *st)
{
    unsigned mode = (unsigned)st->st_mode & 07777;
    if (mode & (S_IWGRP | S_IRWXO))
        warn(loader,
            "a key with mode %04o: others than its owner and its group may %s it; 0640 is "
            "as much as it needs",
            mode, mode & (S_IWGRP | S_IWOTH) ? "change" : "read");
    if (st->st_uid != 0 && st->st_uid != geteuid())
        warn(loader, "a key that belongs to user %u, not to the one who runs frontd",
            (unsigned)st->st_uid);
}

static void check_mode(struct loader *loader, const struct stat *st)
{
    if (st->st_mode & S_IWOTH)
        warn(loader, "its mode is %04o: anyone may change it", (unsigned)st->st_mode & 07777);
}

/* Reads a file; one that may not be read is left empty where that is no error. */
static int read_file(struct loader *loader, size_t max, bool is_key, struct secret_file *file)
{
    char text[128];
    int r = secret_file_read(loader->place.file->path, max, file);
    if (r == -EACCES && loader->only_looks) {
        warn(loader, "it cannot be looked at: %s", secret_file_explain(r));
        return 0;
    }
    if (r < 0) {
        snprintf(text, sizeof(text), "cannot read it: %s", secret_file_explain(r));
        return complain(loader, text, r);
    }
    if (is_key)
        check_key_mode(loader, &file->st);
    else
        check_mode(loader, &file->st);
    return 0;
}

static void set_place(struct loader *loader, const char *key, const struct conf_tls_file *file)
{
    snprintf(loader->place.key, sizeof(loader->place.key), "%s", key);
    loader->place.file = file;
}

static struct span text_of(const struct secret_file *file)
{
    return (struct span){file->text, file->n};
}

/*
 * Reads a certificate and its key. where: the part of their paths in the config before "cert" and
 * "key". findings: of what is odd about them.
 */
static int load_pair(struct loader *loader, const char *where, const struct conf_certificate *conf,
    const struct conf_findings *findings, struct pair *pair)
{
    char cert[40];
    char key[40];
    snprintf(cert, sizeof(cert), "%scert", where);
    snprintf(key, sizeof(key), "%skey", where);
    set_place(loader, key, &conf->key);
    int r = read_file(loader, TLS_KEY_FILE_MAX, true, &pair->key);
    if (r < 0)
        return r;
    set_place(loader, cert, &conf->cert);
    r = read_file(loader, TLS_CERT_FILE_MAX, false, &pair->cert);
    if (r < 0 || pair->cert.text == NULL || pair->key.text == NULL)
        return r;
    time_t until = 0;
    enum pem_part part;
    const char *wrong = pem_check_pair(
        text_of(&pair->cert), text_of(&pair->key), loader->now, findings, &until, &part);
    if (wrong != NULL && part == PEM_KEY)
        set_place(loader, key, &conf->key);
    if (wrong != NULL)
        return complain(loader, wrong, -EINVAL);
    if (loader->sum.certificates++ == 0 || until < loader->sum.until) {
        loader->sum.until = until;
        loader->sum.first = conf->cert.path;
    }
    return 0;
}

static int load_authorities(struct loader *loader, const char *key,
    const struct conf_tls_file *conf, struct secret_file *file)
{
    const struct conf_findings odd = {.odd = on_odd, .data = loader};
    set_place(loader, key, conf);
    int r = read_file(loader, TLS_CLIENT_CA_FILE_MAX, false, file);
    if (r < 0 || file->text == NULL)
        return r;
    const char *wrong = pem_check_authorities(text_of(file), loader->now, &odd);
    return wrong == NULL ? 0 : complain(loader, wrong, -EINVAL);
}

static int no_memory(struct loader *loader)
{
    snprintf(loader->error, loader->error_size, "%s:1: config: no memory", loader->conf_name);
    return -ENOMEM;
}

static int load_listener(struct loader *loader, unsigned index)
{
    const struct conf_findings odd = {.odd = on_odd, .data = loader};
    struct batch *batch = &loader->batches[index];
    const struct conf_tls *tls = loader->conf->listeners[index].tls;
    loader->place.kind = "listener";
    loader->place.index = index;
    loader->place.name = loader->conf->listeners[index].name;
    batch->pairs = mem_zalloc(tls->ncertificates * sizeof(*batch->pairs));
    if (batch->pairs == NULL)
        return no_memory(loader);
    batch->tls = tls;
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < tls->ncertificates; i++) {
        char where[32];
        snprintf(where, sizeof(where), "certificates[%u].", i);
        r = load_pair(loader, where, &tls->certificates[i], &odd, &batch->pairs[i]);
    }
    if (r == 0 && tls->client_auth != CONF_CLIENT_AUTH_NONE)
        r = load_authorities(loader, "client_ca", &tls->client_ca, &batch->client_ca);
    return r;
}

/* A certificate that is shown to workers is a client's: it needs no names, and dates are theirs. */
static int load_pool(struct loader *loader, unsigned index)
{
    static const struct conf_findings none;
    struct pool_batch *batch = &loader->pools[index];
    const struct conf_pool_tls *tls = loader->conf->pools[index].tls;
    loader->place.kind = "pool";
    loader->place.index = index;
    loader->place.name = loader->conf->pools[index].name;
    batch->tls = tls;
    int r = load_authorities(loader, "ca", &tls->ca, &batch->ca);
    if (r < 0 || tls->own.cert.path == NULL)
        return r;
    return load_pair(loader, "", &tls->own, &none, &batch->own);
}

/* "FILE:LINE: KEY: FILE: what" */
static int complain_of_jwks(struct loader *loader, const struct conf_jwt *jwt, const char *what)
{
    snprintf(loader->error, loader->error_size, "%s:%u: %s.jwks: %s: %s", loader->conf_name,
        jwt->jwks.line, jwt->key, jwt->jwks.path, what);
    return -EINVAL;
}

static void warn_of_jwks(struct loader *loader, const struct conf_jwt *jwt, const char *what)
{
    char text[5120];
    if (loader->findings == NULL || loader->findings->odd == NULL)
        return;
    snprintf(text, sizeof(text), "%s:%u: %s.jwks: %s: %s", loader->conf_name, jwt->jwks.line,
        jwt->key, jwt->jwks.path, what);
    loader->findings->odd(loader->findings->data, text);
}

/* Whether a key of the set is for an algorithm that is taken. */
static bool has_use(const struct jwks *set, unsigned algorithms)
{
    for (uint32_t i = 0; i < set->nkeys; i++) {
        if (algorithms & 1U << set->keys[i].alg)
            return true;
    }
    return false;
}

/* Reads the keys by which tokens are verified. The file has no secrets. */
static int load_jwks(struct loader *loader, uint32_t index)
{
    const struct conf_jwt *jwt = loader->conf->jwts[index];
    struct secret_file *file = &loader->jwks[index];
    struct jwks set;
    char what[JWK_ERROR_SIZE];
    int r = secret_file_read(jwt->jwks.path, JWKS_FILE_MAX, file);
    if (r == -EACCES && loader->only_looks) {
        warn_of_jwks(loader, jwt, "it cannot be looked at: Permission denied");
        return 0;
    }
    if (r < 0) {
        snprintf(what, sizeof(what), "cannot read it: %s", secret_file_explain(r));
        return complain_of_jwks(loader, jwt, what);
    }
    if (file->st.st_mode & S_IWOTH)
        warn_of_jwks(loader, jwt, "anyone may change it, and let themselves in");
    if (jwks_read(text_of(file), &set, what) < 0)
        return complain_of_jwks(loader, jwt, what);
    bool useful = has_use(&set, jwt->algorithms);
    jwks_deinit(&set);
    return useful ? 0 : complain_of_jwks(loader, jwt, "no key in it is for one of `algorithms`");
}

static void free_pair(struct pair *pair)
{
    secret_file_free(&pair->cert);
    secret_file_free(&pair->key);
}

static void free_batch(struct batch *batch)
{
    for (uint32_t i = 0; batch->tls != NULL && i < batch->tls->ncertificates; i++)
        free_pair(&batch->pairs[i]);
    secret_file_free(&batch->client_ca);
    mem_free(batch->pairs);
}

static void free_all(struct loader *loader)
{
    for (uint32_t i = 0; loader->batches != NULL && i < loader->conf->nlisteners; i++)
        free_batch(&loader->batches[i]);
    for (uint32_t i = 0; loader->pools != NULL && i < loader->conf->npools; i++) {
        secret_file_free(&loader->pools[i].ca);
        free_pair(&loader->pools[i].own);
    }
    for (uint32_t i = 0; loader->jwks != NULL && i < loader->conf->njwts; i++)
        secret_file_free(&loader->jwks[i]);
    mem_free(loader->batches);
    mem_free(loader->pools);
    mem_free(loader->jwks);
}

static struct tls_material_certificate texts_of(const struct pair *pair)
{
    return (struct tls_material_certificate){text_of(&pair->cert), text_of(&pair->key)};
}

static int fill(const struct batch *batch, uint32_t index, struct tls_material_listener *out)
{
    uint32_t n = batch->tls->ncertificates;
    out->certificates = mem_zalloc(n * sizeof(*out->certificates));
    if (out->certificates == NULL)
        return -ENOMEM;
    out->listener = index;
    out->ncertificates = n;
    out->client_ca = text_of(&batch->client_ca);
    for (uint32_t i = 0; i < n; i++)
        out->certificates[i] = texts_of(&batch->pairs[i]);
    return 0;
}

/* Writes all that has been read to a memfd. */
static int make(struct loader *loader, int *ret_fd)
{
    const struct conf *conf = loader->conf;
    struct tls_material all = {
        .listeners = mem_zalloc(conf->nlisteners * sizeof(*all.listeners)),
        .pools = mem_zalloc(conf->npools * sizeof(*all.pools)),
        .jwks = mem_zalloc(MAX(conf->njwts, 1U) * sizeof(*all.jwks)),
    };
    int r = all.listeners == NULL || all.pools == NULL || all.jwks == NULL ? -ENOMEM : 0;
    for (uint32_t i = 0; r == 0 && i < conf->nlisteners; i++) {
        if (loader->batches[i].tls != NULL)
            r = fill(&loader->batches[i], i, &all.listeners[all.nlisteners++]);
    }
    for (uint32_t i = 0; r == 0 && i < conf->npools; i++) {
        const struct pool_batch *batch = &loader->pools[i];
        if (batch->tls != NULL)
            all.pools[all.npools++] = (struct tls_material_pool){
                i, text_of(&batch->ca), texts_of(&batch->own)};
    }
    for (uint32_t i = 0; r == 0 && i < conf->njwts; i++)
        all.jwks[all.njwks++] = text_of(&loader->jwks[i]);
    if (r == 0)
        r = tls_material_write(&all, ret_fd);
    for (uint32_t i = 0; i < all.nlisteners; i++)
        mem_free(all.listeners[i].certificates);
    mem_free(all.listeners);
    mem_free(all.pools);
    mem_free(all.jwks);
    if (r < 0)
        snprintf(loader->error, loader->error_size,
            "%s:1: listeners: cannot pass certificates on to shards: %s", loader->conf_name,
            r == -E2BIG ? "they have more than 64 MiB together" : strerror(-r));
    return r;
}

static bool has_secrets(const struct conf *conf)
{
    for (uint32_t i = 0; i < conf->nlisteners; i++) {
        if (conf->listeners[i].tls != NULL)
            return true;
    }
    for (uint32_t i = 0; i < conf->npools; i++) {
        if (conf->pools[i].tls != NULL)
            return true;
    }
    return false;
}

bool tls_load_is_needed(const struct conf *conf)
{
    return conf->njwts > 0 || has_secrets(conf);
}

int tls_load(const char *conf_name, const struct conf *conf, time_t now,
    const struct conf_findings *findings, int *ret_fd, struct tls_load_sum *ret_sum, char *error,
    size_t error_size)
{
    struct loader loader = {.conf_name = conf_name,
        .conf = conf,
        .findings = findings,
        .now = now,
        .only_looks = ret_fd == NULL,
        .error = error,
        .error_size = error_size};
    int fd = -1;
    int r = 0;
    if (tls_load_is_needed(conf)) {
        loader.batches = mem_zalloc(conf->nlisteners * sizeof(*loader.batches));
        loader.pools = mem_zalloc(conf->npools * sizeof(*loader.pools));
        loader.jwks = mem_zalloc(MAX(conf->njwts, 1U) * sizeof(*loader.jwks));
        r = loader.batches == NULL || loader.pools == NULL || loader.jwks == NULL
                ? no_memory(&loader)
                : 0;
        if (has_secrets(conf))
            CHECK(privileges_hide() == 0); /* before there is a key in its memory */
        for (uint32_t i = 0; r == 0 && i < conf->nlisteners; i++) {
            if (conf->listeners[i].tls != NULL)
                r = load_listener(&loader, i);
        }
        for (uint32_t i = 0; r == 0 && i < conf->npools; i++) {
            if (conf->pools[i].tls != NULL)
                r = load_pool(&loader, i);
        }
        for (uint32_t i = 0; r == 0 && i < conf->njwts; i++)
            r = load_jwks(&loader, i);
        if (r == 0 && ret_fd != NULL)
            r = make(&loader, &fd);
        free_all(&loader);
    }
    if (r == 0 && ret_fd != NULL)
        *ret_fd = fd;
    if (r == 0 && ret_sum != NULL)
        *ret_sum = loader.sum;
    return r;
}
