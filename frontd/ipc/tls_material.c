#include "frontd/ipc/tls_material.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/buf.h"
#include "common/pack.h"

enum {
    MAGIC = 0x4d6c7354, /* "TslM" */
    VERSION = 2,
    LISTENER_MIN = 12, /* bytes that a listener and a certificate take at the least */
    CERTIFICATE_MIN = 8,
    POOL_MIN = 16,
    JWKS_MIN = 4,
    SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE,
};

/* Numbers are gathered and written before each text; the texts are written as they lie there. */
struct writer {
    int fd;
    struct buf head;
    size_t size;
    int r;
};

static void write_all(struct writer *writer, const char *bytes, size_t n)
{
    if (writer->r == 0 && n > TLS_MATERIAL_MAX - writer->size)
        writer->r = -E2BIG;
    writer->size += n;
    while (writer->r == 0 && n > 0) {
        ssize_t done = write(writer->fd, bytes, n);
        if (done < 0 && errno != EINTR)
            writer->r = -errno;
        else if (done > 0) {
            bytes += done;
            n -= (size_t)done;
        }
    }
}

static void put_number(struct writer *writer, uint32_t number)
{
    struct pack pack = {.out = &writer->head};
    pack_u32(&pack, number);
    if (pack.failed && writer->r == 0)
        writer->r = -ENOMEM;
}

static void flush(struct writer *writer)
{
    if (writer->r == 0)
        write_all(writer, buf_data(&writer->head), buf_len(&writer->head));
    buf_consume(&writer->head, buf_len(&writer->head));
}

static void put_text(struct writer *writer, struct span text)
{
    if (text.n > TLS_MATERIAL_MAX && writer->r == 0)
        writer->r = -E2BIG;
    put_number(writer, (uint32_t)text.n);
    flush(writer);
    write_all(writer, text.p, text.n);
}

static void put_certificate(
    struct writer *writer, const struct tls_material_certificate *certificate)
{
    put_text(writer, certificate->cert);
    put_text(writer, certificate->key);
}

static void put_listener(struct writer *writer, const struct tls_material_listener *listener)
{
    put_number(writer, listener->listener);
    put_text(writer, listener->client_ca);
    put_number(writer, listener->ncertificates);
    for (uint32_t i = 0; i < listener->ncertificates; i++)
        put_certificate(writer, &listener->certificates[i]);
}

static void put_all(struct writer *writer, const struct tls_material *material)
{
    put_number(writer, MAGIC);
    put_number(writer, VERSION);
    put_number(writer, material->nlisteners);
    for (uint32_t i = 0; i < material->nlisteners && writer->r == 0; i++)
        put_listener(writer, &material->listeners[i]);
    put_number(writer, material->npools);
    for (uint32_t i = 0; i < material->npools && writer->r == 0; i++) {
        put_number(writer, material->pools[i].pool);
        put_text(writer, material->pools[i].ca);
        put_certificate(writer, &material->pools[i].own);
    }
    put_number(writer, material->njwks);
    for (uint32_t i = 0; i < material->njwks && writer->r == 0; i++)
        put_text(writer, material->jwks[i]);
    flush(writer);
}

int tls_material_write(const struct tls_material *material, int *ret_fd)
{
    struct writer writer = {.fd = memfd_create("frontd-tls", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    if (writer.fd < 0)
        return -errno;
    put_all(&writer, material);
    if (writer.r == 0 && fcntl(writer.fd, F_ADD_SEALS, SEALS | F_SEAL_SEAL) < 0)
        writer.r = -errno;
    buf_deinit(&writer.head);
    if (writer.r == 0)
        *ret_fd = writer.fd;
    else
        close(writer.fd);
    return writer.r;
}

static void read_certificate(struct unpack *unpack, struct tls_material_certificate *certificate)
{
    certificate->cert = unpack_bytes(unpack);
    certificate->key = unpack_bytes(unpack);
}

static int read_pools(struct unpack *unpack, struct tls_material *material)
{
    uint32_t n = unpack_u32(unpack);
    if (unpack->bad || n > unpack->left.n / POOL_MIN)
        return -EBADMSG;
    material->pools = mem_zalloc(MAX(n, 1U) * sizeof(*material->pools));
    if (material->pools == NULL)
        return -ENOMEM;
    material->npools = n;
    for (uint32_t i = 0; i < n; i++) {
        material->pools[i].pool = unpack_u32(unpack);
        material->pools[i].ca = unpack_bytes(unpack);
        read_certificate(unpack, &material->pools[i].own);
    }
    return unpack->bad ? -EBADMSG : 0;
}

static int read_jwks(struct unpack *unpack, struct tls_material *material)
{
    uint32_t n = unpack_u32(unpack);
    if (unpack->bad || n > unpack->left.n / JWKS_MIN)
        return -EBADMSG;
    material->jwks = mem_zalloc(MAX(n, 1U) * sizeof(*material->jwks));
    if (material->jwks == NULL)
        return -ENOMEM;
    material->njwks = n;
    for (uint32_t i = 0; i < n; i++)
        material->jwks[i] = unpack_bytes(unpack);
    return unpack->bad ? -EBADMSG : 0;
}

static int read_listener(struct unpack *unpack, struct tls_material_listener *listener)
{
    listener->listener = unpack_u32(unpack);
    listener->client_ca = unpack_bytes(unpack);
    uint32_t n = unpack_u32(unpack);
    if (unpack->bad || n > unpack->left.n / CERTIFICATE_MIN)
        return -EBADMSG;
    listener->certificates = mem_zalloc(MAX(n, 1U) * sizeof(*listener->certificates));
    if (listener->certificates == NULL)
        return -ENOMEM;
    listener->ncertificates = n;
    for (uint32_t i = 0; i < n; i++)
        read_certificate(unpack, &listener->certificates[i]);
    return unpack->bad ? -EBADMSG : 0;
}

static int read_all(struct tls_material *material)
{
    struct unpack unpack = {.left = {material->map, material->size}};
    uint32_t magic = unpack_u32(&unpack);
    uint32_t version = unpack_u32(&unpack);
    uint32_t n = unpack_u32(&unpack);
    if (magic != MAGIC || version != VERSION || unpack.bad || n > unpack.left.n / LISTENER_MIN)
        return -EBADMSG;
    material->listeners = mem_zalloc(MAX(n, 1U) * sizeof(*material->listeners));
    if (material->listeners == NULL)
        return -ENOMEM;
    int r = 0;
    for (; r == 0 && material->nlisteners < n; material->nlisteners++)
        r = read_listener(&unpack, &material->listeners[material->nlisteners]);
    if (r == 0)
        r = read_pools(&unpack, material);
    if (r == 0)
        r = read_jwks(&unpack, material);
    return r == 0 ? unpack_end(&unpack) : r;
}

int tls_material_map(int fd, struct tls_material *ret_material)
{
    struct tls_material material = {0};
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & SEALS) != SEALS || fstat(fd, &st) < 0 || st.st_size <= 0 ||
        st.st_size > TLS_MATERIAL_MAX)
        return -EINVAL;
    material.size = (size_t)st.st_size;
    material.map = mmap(NULL, material.size, PROT_READ, MAP_SHARED, fd, 0);
    if (material.map == MAP_FAILED)
        return -errno;
    int r = madvise(material.map, material.size, MADV_DONTDUMP) < 0 ? -errno : 0;
    if (r == 0)
        r = read_all(&material);
    if (r == 0)
        *ret_material = material;
    else
        tls_material_unmap(&material);
    return r;
}

void tls_material_unmap(struct tls_material *material)
{
    for (uint32_t i = 0; i < material->nlisteners; i++)
        mem_free(material->listeners[i].certificates);
    mem_free(material->listeners);
    mem_free(material->pools);
    mem_free(material->jwks);
    if (material->map != NULL)
        munmap(material->map, material->size);
    *material = (struct tls_material){0};
}

const struct tls_material_listener *tls_material_find(
    const struct tls_material *material, uint32_t listener)
{
    for (uint32_t i = 0; i < material->nlisteners; i++) {
        if (material->listeners[i].listener == listener)
            return &material->listeners[i];
    }
    return NULL;
}

static bool fits(const struct tls_material_listener *given, uint32_t index, const struct conf *conf)
{
    const struct conf_tls *tls = conf->listeners[index].tls;
    bool asks = tls->client_auth != CONF_CLIENT_AUTH_NONE;
    bool all = given->listener == index && given->ncertificates == tls->ncertificates &&
               asks == (given->client_ca.n > 0);
    for (uint32_t i = 0; all && i < given->ncertificates; i++)
        all = given->certificates[i].cert.n > 0 && given->certificates[i].key.n > 0;
    return all;
}

const struct tls_material_pool *tls_material_find_pool(
    const struct tls_material *material, uint32_t pool)
{
    for (uint32_t i = 0; i < material->npools; i++) {
        if (material->pools[i].pool == pool)
            return &material->pools[i];
    }
    return NULL;
}

static bool fits_pool(
    const struct tls_material_pool *given, uint32_t index, const struct conf_pool_tls *tls)
{
    bool shows = tls->own.cert.path != NULL;
    return given->pool == index && given->ca.n > 0 && shows == (given->own.cert.n > 0) &&
           shows == (given->own.key.n > 0);
}

static bool fits_pools(const struct tls_material *material, const struct conf *conf)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < conf->npools; i++) {
        if (conf->pools[i].tls == NULL)
            continue;
        if (at == material->npools || !fits_pool(&material->pools[at++], i, conf->pools[i].tls))
            return false;
    }
    return at == material->npools;
}

static bool fits_jwks(const struct tls_material *material, const struct conf *conf)
{
    for (uint32_t i = 0; i < material->njwks; i++) {
        if (material->jwks[i].n == 0)
            return false;
    }
    return material->njwks == conf->njwts;
}

bool tls_material_fits(const struct tls_material *material, const struct conf *conf)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < conf->nlisteners; i++) {
        if (conf->listeners[i].tls == NULL)
            continue;
        if (at == material->nlisteners || !fits(&material->listeners[at++], i, conf))
            return false;
    }
    return at == material->nlisteners && fits_pools(material, conf) && fits_jwks(material, conf);
}
