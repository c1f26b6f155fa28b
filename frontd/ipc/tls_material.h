#pragma once

/*
 * Certificates and private keys on their way from the supervisor, which alone may read their
 * files, to a shard: a sealed memfd with the texts as they are in the files (CTL_TLS). The
 * supervisor keeps the memfd for shards that are started later.
 *
 * In the memfd, as common/pack.h writes it: magic (u32), version (u8), number of listeners (u32);
 * for each listener its index in the config (u32), the text of client_ca (bytes), the number of
 * its certificates (u32), and for each of those the texts of cert and key (bytes); then the number
 * of pools (u32), and for each its index (u32) and the texts of ca, cert and key (bytes); then the
 * number of `auth.jwt` (u32), and for each the text of its jwks (bytes), which is no secret.
 */

#include "common/base.h"
#include "frontd/config/config.h"

enum {
    TLS_CERT_FILE_MAX = 256 << 10,    /* bytes of a file: a chain of a dozen large certificates */
    TLS_KEY_FILE_MAX = 64 << 10,      /* bytes of a file; a key of RSA 16384 has 13 KiB */
    TLS_CLIENT_CA_FILE_MAX = 4 << 20, /* bytes of a file; all the roots of the Web have 220 KiB */
    TLS_MATERIAL_MAX = 64 << 20,      /* bytes of the memfd */
};

/* Texts in PEM, as they are in the files; borrowed, and not terminated. */
struct tls_material_certificate {
    struct span cert; /* the server's certificate, then those that lead to its root */
    struct span key;
};

struct tls_material_listener {
    uint32_t listener; /* its index in the config */
    uint32_t ncertificates;
    struct tls_material_certificate *certificates; /* in the order of the config */
    struct span client_ca;                         /* empty: there is none */
};

/* Of a pool with workers that are dialled over TLS. */
struct tls_material_pool {
    uint32_t pool; /* its index in the config */
    struct span ca;
    struct tls_material_certificate own; /* empty: none is shown to workers */
};

struct tls_material {
    struct tls_material_listener *listeners; /* those that have tls, in the order of the config */
    uint32_t nlisteners;
    struct tls_material_pool *pools; /* those that have tls, in the order of the config */
    uint32_t npools;
    struct span *jwks; /* of conf.jwts, in their order; JSON */
    uint32_t njwks;
    void *map; /* what all spans point into; the module's own */
    size_t size;
};

/*
 * Writes texts to a new memfd, and seals it: nothing can change it any more. No copy of a key is
 * left in this process. material: but for map and size. Returns 0 with *ret_fd, a close-on-exec
 * descriptor of the caller's; -E2BIG where all of it exceeds TLS_MATERIAL_MAX; or another -errno.
 */
int tls_material_write(const struct tls_material *material, int *ret_fd);

/*
 * Maps what tls_material_write() wrote, left out of core dumps. fd: borrowed, not needed
 * afterwards. Returns 0 with *ret_material (tls_material_unmap()), or -errno: -EINVAL where the
 * memfd is not sealed, -EBADMSG where its content is anything else.
 */
int tls_material_map(int fd, struct tls_material *ret_material);

/*
 * All spans end with it. Accepts a zeroed one. The pages themselves are the memfd's: they go when
 * the last process has closed it.
 */
void tls_material_unmap(struct tls_material *material);

/* What a listener has; NULL: nothing. listener: its index in the config. */
const struct tls_material_listener *tls_material_find(
    const struct tls_material *material, uint32_t listener);

/* The same of a pool. */
const struct tls_material_pool *tls_material_find_pool(
    const struct tls_material *material, uint32_t pool);

/* Whether the material has what each listener, pool and auth of the config needs, and no more. */
bool tls_material_fits(const struct tls_material *material, const struct conf *conf);
