#include <errno.h>
#include <openssl/crypto.h>

#include "frontd/codec/tls_record_internal.h"

static void save_keys(
    const struct tls_record *record, const struct tls_keys *keys, struct pack *pack)
{
    if (record->v13)
        pack_raw(pack, keys->secret, tls_suite_secret_size(record->suite));
    pack_raw(pack, keys->key, tls_suite_key_size(record->suite));
    pack_raw(pack, keys->iv, sizeof(keys->iv));
    pack_u32(pack, keys->sequence);
}

void tls_record_save(const struct tls_record *record, struct pack *pack)
{
    CHECK(record->proven); /* else it is of a handshake, which stays where it is */
    pack_u8(pack, (uint8_t)record->suite);
    pack_u8(pack, record->v13);
    pack_u8(pack, record->client);
    pack_u8(pack, record->held);
    pack_u8(pack, record->read_ended);
    pack_u8(pack, record->write_ended);
    pack_u8(pack, record->failed);
    pack_u8(pack, (uint8_t)record->owes);
    pack_u8(pack, record->alert);
    pack_u8(pack, (uint8_t)record->barren);
    pack_u8(pack, (uint8_t)record->handshake_at);
    pack_u8(pack, (uint8_t)record->handshake_kind);
    pack_u16(pack, record->handshake_left);
    pack_u16(pack, record->fragment_max);
    save_keys(record, &record->read, pack);
    save_keys(record, &record->write, pack);
}

static void restore_keys(
    const struct tls_record *record, struct tls_keys *ret_keys, struct unpack *unpack)
{
    if (record->v13)
        unpack_raw(unpack, ret_keys->secret, tls_suite_secret_size(record->suite));
    unpack_raw(unpack, ret_keys->key, tls_suite_key_size(record->suite));
    unpack_raw(unpack, ret_keys->iv, sizeof(ret_keys->iv));
    ret_keys->sequence = unpack_u32(unpack);
}

/* A number of at most `most`. */
static uint8_t unpack_small(struct unpack *unpack, uint8_t most)
{
    const uint8_t value = unpack_u8(unpack);
    if (value > most)
        unpack->bad = true;
    return value > most ? 0 : value;
}

static void restore(struct tls_record *record, struct unpack *unpack)
{
    record->proven = true;
    record->suite = unpack_small(unpack, TLS_SUITES - 1) & 3;
    record->v13 = unpack_flag(unpack);
    record->client = unpack_flag(unpack);
    record->held = unpack_flag(unpack);
    record->read_ended = unpack_flag(unpack);
    record->write_ended = unpack_flag(unpack);
    record->failed = unpack_flag(unpack);
    record->owes = unpack_small(unpack, 15) & 15;
    record->alert = unpack_u8(unpack);
    record->barren = unpack_small(unpack, TLS_BARREN_MAX) & 63;
    record->handshake_at = unpack_small(unpack, TLS_HANDSHAKE_HEAD) & 7;
    record->handshake_kind = unpack_small(unpack, TLS_KIND_HELLO_REQUEST) & 3;
    record->handshake_left = unpack_u16(unpack);
    record->fragment_max = unpack_u16(unpack);
    restore_keys(record, &record->read, unpack);
    restore_keys(record, &record->write, unpack);
}

/* Whether what is owed can be owed by such a connection. */
static bool owes_fit(const struct tls_record *record)
{
    const unsigned owes = record->owes;
    if (record->alert != 0 && !record->failed)
        return false;
    if ((record->failed || record->write_ended) && owes != 0)
        return false;
    if (record->write_ended && record->alert != 0)
        return false;
    if (record->v13)
        return !(owes & TLS_OWES_NO_RENEGOTIATION) &&
               (!(owes & TLS_OWES_REQUEST) || (owes & TLS_OWES_KEY_UPDATE));
    return !(owes & (TLS_OWES_KEY_UPDATE | TLS_OWES_REQUEST));
}

/* Whether a handshake message can have been read as far as that. */
static bool handshake_fits(const struct tls_record *record)
{
    const unsigned at = record->handshake_at, kind = record->handshake_kind;
    const uint16_t left = record->handshake_left;
    if (at == 0)
        return kind == 0 && left == 0;
    if (record->v13 ? kind > TLS_KIND_TICKET : kind < TLS_KIND_CLIENT_HELLO)
        return false;
    if (kind != TLS_KIND_KEY_UPDATE &&
        record->client != (kind == TLS_KIND_TICKET || kind == TLS_KIND_HELLO_REQUEST))
        return false;
    if (at < TLS_HANDSHAKE_HEAD)
        return at == 3 ? (left & 0xff) == 0 : left == 0;
    if (kind == TLS_KIND_HELLO_REQUEST)
        return false; /* it ends with its head */
    return kind == TLS_KIND_KEY_UPDATE ? left == 1 : left > 0;
}

static bool sequences_fit(const struct tls_record *record)
{
    const uint32_t first = record->v13 ? 0 : 1; /* 1.2: after Finished */
    const uint32_t limit = tls_record_limit(record);
    const uint32_t read = record->read.sequence, write = record->write.sequence;
    const bool changing = tls_record_closing(record) || (record->owes & TLS_OWES_KEY_UPDATE);
    return read >= first && read <= TLS_RECORDS_HARD && write >= first &&
           (write < limit || (changing && write <= limit + 2)); /* a warning, and what closes */
}

int tls_record_restore(struct tls_record *ret_record, struct unpack *unpack, unsigned version)
{
    struct tls_record record = {0};
    if (version != TLS_RECORD_SAVED)
        return -EBADMSG;
    restore(&record, unpack);
    const bool fits = !unpack->bad && record.fragment_max >= TLS_FRAGMENT_MIN &&
                      record.fragment_max <= TLS_FRAGMENT_MAX && owes_fit(&record) &&
                      handshake_fits(&record) && sequences_fit(&record);
    if (fits)
        *ret_record = record;
    OPENSSL_cleanse(&record, sizeof(record));
    return fits ? 0 : -EBADMSG;
}
