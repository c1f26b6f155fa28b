#include "frontd/shard/tls/tls_info.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/x509v3.h>

#include "common/alloc.h"
#include "proto/json_write.h"
#include "proto/jsonrpc.h"

/* Where it is used `infos` is the struct. */
#define HASH_FUNCTION(bytes, len, hash) ((hash) = (unsigned)hash_bytes(&infos->key, bytes, len))
#define HASH_NONFATAL_OOM               1
#define uthash_malloc(size)             mem_zalloc(size)
#define uthash_free(block, size)        mem_free(block)
#include <uthash.h>

struct tls_info {
    UT_hash_handle hh;
    uint32_t refs;
    uint32_t len;
    char text[];
};

void tls_infos_init(struct tls_infos *infos)
{
    *infos = (struct tls_infos){.key = hash_key_random()};
}

void tls_infos_deinit(struct tls_infos *infos)
{
    CHECK(infos->table == NULL);
}

/* "DNS:www.example"; nothing for kinds of names that have no usual text. */
static void add_san(struct json_writer *writer, const GENERAL_NAME *name)
{
    char address[INET6_ADDRSTRLEN];
    const char *kind = name->type == GEN_DNS     ? "DNS:"
                       : name->type == GEN_EMAIL ? "email:"
                       : name->type == GEN_URI   ? "URI:"
                                                 : "IP:";
    struct span value = {0};
    if (name->type == GEN_DNS || name->type == GEN_EMAIL || name->type == GEN_URI) {
        value.p = (const char *)ASN1_STRING_get0_data(name->d.ia5);
        value.n = (size_t)ASN1_STRING_length(name->d.ia5);
    } else if (name->type == GEN_IPADD) {
        int n = ASN1_STRING_length(name->d.ip);
        const void *bytes = ASN1_STRING_get0_data(name->d.ip);
        if ((n == 4 || n == 16) &&
            inet_ntop(n == 4 ? AF_INET : AF_INET6, bytes, address, sizeof(address)) != NULL)
            value = (struct span){address, strlen(address)};
    }
    if (value.n == 0)
        return;
    struct buf text = {0};
    if (buf_append(&text, kind, strlen(kind)) < 0 || buf_append(&text, value.p, value.n) < 0)
        writer->failed = true;
    else
        json_add_span(writer, NULL, (struct span){buf_data(&text), buf_len(&text)});
    buf_deinit(&text);
}

static void add_sans(struct json_writer *writer, const X509 *certificate)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    json_begin(writer, "sans", '[');
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++)
        add_san(writer, sk_GENERAL_NAME_value(names, i));
    json_end(writer, ']');
    GENERAL_NAMES_free(names);
}

/* RFC 4514, in UTF-8: what is most specific comes first. */
static void add_subject(struct json_writer *writer, const X509 *certificate)
{
    const unsigned long form = XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB;
    BIO *bio = BIO_new(BIO_s_mem());
    char *text;
    if (bio == NULL || X509_NAME_print_ex(bio, X509_get_subject_name(certificate), 0, form) < 0) {
        writer->failed = true;
    } else {
        long n = BIO_get_mem_data(bio, &text);
        json_add_span(writer, "subject", (struct span){text, (size_t)MAX(n, 0L)});
    }
    BIO_free(bio);
}

static void add_client(struct json_writer *writer, const X509 *certificate)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    const ASN1_INTEGER *serial = X509_get0_serialNumber(certificate);
    json_begin(writer, "client", '{');
    add_subject(writer, certificate);
    add_sans(writer, certificate);
    json_add_bytes(writer, "serial", ASN1_STRING_get0_data((const ASN1_STRING *)serial),
        (size_t)ASN1_STRING_length((const ASN1_STRING *)serial));
    if (X509_digest(certificate, EVP_sha256(), digest, &n) != 1)
        writer->failed = true;
    json_add_bytes(writer, "sha256", digest, n);
    json_end(writer, '}');
}

int tls_info_describe(const SSL *ssl, struct buf *ret_text)
{
    struct json_writer writer = {0};
    const unsigned char *alpn;
    unsigned alpn_len;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    const X509 *certificate = SSL_get0_peer_certificate(ssl);
    json_begin(&writer, NULL, '{');
    json_add_text(&writer, "version", SSL_get_version(ssl));
    json_add_text(&writer, "cipher", SSL_CIPHER_standard_name(SSL_get_current_cipher(ssl)));
    if (name != NULL)
        json_add_text(&writer, "sni", name);
    SSL_get0_alpn_selected(ssl, &alpn, &alpn_len);
    if (alpn_len > 0)
        json_add_span(&writer, "alpn", (struct span){(const char *)alpn, alpn_len});
    if (certificate != NULL)
        add_client(&writer, certificate);
    json_end(&writer, '}');
    if (writer.failed || buf_len(&writer.out) > TLS_INFO_MAX) {
        buf_deinit(&writer.out);
        return -ENOMEM;
    }
    *ret_text = writer.out;
    return 0;
}

bool tls_info_valid(struct span text)
{
    return text.n > 0 && text.n <= TLS_INFO_MAX && text.p[0] == '{' &&
           jsonrpc_validate(text.p, text.n) == 0;
}

struct tls_info *tls_info_get(struct tls_infos *infos, struct span text)
{
    struct tls_info *info = NULL;
    HASH_FIND(hh, infos->table, text.p, text.n, info);
    if (info != NULL) {
        info->refs++;
        return info;
    }
    info = mem_zalloc(sizeof(*info) + text.n);
    if (info == NULL)
        return NULL;
    info->refs = 1;
    info->len = (uint32_t)text.n;
    memcpy(info->text, text.p, text.n);
    HASH_ADD_KEYPTR(hh, infos->table, info->text, info->len, info);
    if (info->hh.tbl == NULL)
        return mem_free(info); /* no memory for the table */
    return info;
}

struct tls_info *tls_info_unref(struct tls_infos *infos, struct tls_info *info)
{
    if (info == NULL || --info->refs > 0)
        return NULL;
    HASH_DEL(infos->table, info);
    return mem_free(info);
}

struct span tls_info_text(const struct tls_info *info)
{
    return (struct span){info->text, info->len};
}
