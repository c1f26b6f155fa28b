#pragma once

/*
 * What workers are told of the TLS of a connection (`meta: [tls]`, protocol section 5): the text of
 * a JSON object. Most connections of a listener have the same, which is in memory once.
 */

#include <openssl/ssl.h>

#include "common/buf.h"
#include "common/siphash.h"

enum { TLS_INFO_MAX = 64 << 10 /* bytes of a text: client certificates are smaller than that */ };

struct tls_info;

/* All texts of a shard. */
struct tls_infos {
    struct tls_info *table;
    struct hash_key key; /* clients choose the name that they ask for */
};

void tls_infos_init(struct tls_infos *infos);

/* CHECKs that all references are back. */
void tls_infos_deinit(struct tls_infos *infos);

/*
 * Describes the handshake that `ssl` has made:
 * {"version":"TLSv1.3","cipher":"TLS_AES_128_GCM_SHA256","sni":"www.example","alpn":"http/1.1",
 * "client":{"subject":"CN=…","sans":["DNS:…"],"serial":"…","sha256":"…"}}; a member that would be
 * empty is left out. Returns 0 with *ret_text, the caller's, or -ENOMEM.
 */
int tls_info_describe(const SSL *ssl, struct buf *ret_text);

/* Whether a text that another process has sent may be given to workers: it is a JSON object. */
bool tls_info_valid(struct span text);

/* A reference to that text, to be given back with tls_info_unref(); NULL without memory. */
struct tls_info *tls_info_get(struct tls_infos *infos, struct span text);

/* Accepts NULL; returns NULL. */
struct tls_info *tls_info_unref(struct tls_infos *infos, struct tls_info *info);

/* The text; valid as long as the reference. */
struct span tls_info_text(const struct tls_info *info);
