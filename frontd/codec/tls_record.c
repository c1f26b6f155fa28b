#include "frontd/codec/tls_record.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <string.h>

#include "frontd/codec/tls_record_internal.h"

static void configure(struct tls_record *record, const struct tls_record_config *config)
{
    CHECK(config->fragment_max >= TLS_FRAGMENT_MIN && config->fragment_max <= TLS_FRAGMENT_MAX);
    CHECK(config->suite < TLS_SUITES);
    *record = (struct tls_record){
        .suite = (unsigned)config->suite & 3,
        .client = config->client,
        .held = config->held,
        .fragment_max = config->fragment_max,
    };
}

int tls_record_init13(struct tls_record *ret_record, struct tls_crypto *crypto,
    const struct tls_record_config *config, const uint8_t *client_secret,
    const uint8_t *server_secret)
{
    const uint8_t *write = config->client ? client_secret : server_secret;
    const uint8_t *read = config->client ? server_secret : client_secret;
    configure(ret_record, config);
    ret_record->v13 = true;
    int rc = tls_keys_derive(&ret_record->read, crypto, config->suite, read);
    if (rc == 0)
        rc = tls_keys_derive(&ret_record->write, crypto, config->suite, write);
    if (rc < 0)
        OPENSSL_cleanse(ret_record, sizeof(*ret_record));
    return rc;
}

int tls_record_init12(struct tls_record *ret_record, struct tls_crypto *crypto,
    const struct tls_record_config *config, const struct tls_master *master)
{
    configure(ret_record, config);
    struct tls_keys *client = config->client ? &ret_record->write : &ret_record->read;
    struct tls_keys *server = config->client ? &ret_record->read : &ret_record->write;
    int rc = tls_keys_derive12(client, server, crypto, config->suite, master);
    if (rc < 0)
        OPENSSL_cleanse(ret_record, sizeof(*ret_record));
    else
        ret_record->read.sequence = 1; /* the peer's Finished was 0 */
    return rc;
}

void tls_record_addition(const struct tls_record *record, const struct tls_keys *keys,
    const uint8_t *header, size_t n, struct tls_addition *ret_addition)
{
    if (tls_record_explicit(record))
        tls_keys_nonce_added(keys, ret_addition->nonce);
    else
        tls_keys_nonce_xored(keys, ret_addition->nonce);
    uint8_t *aad = ret_addition->aad;
    if (record->v13) { /* RFC 8446 section 5.2: the header */
        memcpy(aad, header, TLS_HEADER_SIZE);
        ret_addition->aad_n = TLS_HEADER_SIZE;
        return;
    }
    /* RFC 5246 section 6.2.3.3: the sequence number, the header with the length of the content */
    memset(aad, 0, 4);
    for (size_t i = 0; i < 4; i++)
        aad[4 + i] = (uint8_t)(keys->sequence >> (24 - 8 * i));
    memcpy(aad + 8, header, 3);
    aad[11] = (uint8_t)(n >> 8);
    aad[12] = (uint8_t)n;
    ret_addition->aad_n = 13;
}

bool tls_record_owes(const struct tls_record *record)
{
    return record->owes != 0 || record->alert != 0;
}

void tls_record_close(struct tls_record *record)
{
    if (!tls_record_closing(record))
        record->owes |= TLS_OWES_CLOSE;
}

void tls_record_stop(struct tls_record *record, uint8_t alert)
{
    record->failed = true;
    record->owes = 0;
    record->alert = record->write_ended ? 0 : alert; /* nothing comes after close_notify */
    record->barren = 0;
    record->handshake_at = 0;
    record->handshake_kind = 0;
    record->handshake_left = 0;
}

void tls_record_fail(struct tls_record *record, enum tls_alert alert)
{
    if (!record->failed)
        tls_record_stop(record, (uint8_t)alert);
}

bool tls_record_ended(const struct tls_record *record)
{
    return record->read_ended;
}

bool tls_record_worn(const struct tls_record *record)
{
    if (record->v13)
        return false;
    const uint32_t worn = record->suite == TLS_CHACHA20 ? TLS_RECORDS_WORN : TLS_RECORDS_SOFT;
    return record->read.sequence >= worn || record->write.sequence >= worn;
}

void tls_record_wipe(struct tls_record *record, struct tls_crypto *crypto)
{
    tls_keys_wipe(&record->read, crypto);
    tls_keys_wipe(&record->write, crypto);
    OPENSSL_cleanse(record, sizeof(*record));
}
