#include "tests/unit/support/tls_peer.h"

#include <string.h>

struct tls_pair_config tls_pair_nth(unsigned i)
{
    return (struct tls_pair_config){
        .v13 = i % 2 == 0,
        .record = {.suite = i / 2 % TLS_SUITES,
            .client = i / 2 / TLS_SUITES == 1,
            .fragment_max = TLS_FRAGMENT_MAX},
    };
}

static void init_peer(struct tls_pair *pair, const struct tls_pair_config *config)
{
    pair->peer = (struct tls_peer){
        .crypto = pair->crypto,
        .read = pair->record.write,
        .write = pair->record.read,
        .suite = config->record.suite,
        .v13 = config->v13,
        .version = 3,
    };
}

/* What OpenSSL would have sent last, with the keys of this side. */
static void prove12(struct tls_pair *pair)
{
    static const uint8_t change[] = {20, 3, 3, 0, 1, 1};
    uint8_t sent[sizeof(change) + 64];
    uint8_t finished[16] = {20, 0, 0, 12};
    struct tls_peer self = pair->peer;
    self.write = pair->record.write;
    if (self.suite != TLS_CHACHA20)
        memset(self.write.iv + 4, 0xff, 8); /* the explicit nonce overflows soon */
    memcpy(sent, change, sizeof(change));
    const size_t n = tls_peer_seal(&self, 22, finished, sizeof(finished), 0, sent + sizeof(change));
    CHECK(tls_record_prove(
              &pair->record, pair->crypto, (struct span){(char *)sent, sizeof(change) + n}) == 0);
    pair->peer.read = pair->record.write;
}

void tls_pair_init(struct tls_pair *pair, struct tls_crypto *crypto,
    const struct tls_pair_config *config, uint8_t seed)
{
    uint8_t client[TLS_SECRET_MAX], server[TLS_SECRET_MAX];
    pair->crypto = crypto;
    memset(client, seed, sizeof(client));
    memset(server, seed ^ 0x80, sizeof(server));
    if (config->v13) {
        CHECK(tls_record_init13(&pair->record, crypto, &config->record, client, server) == 0);
        CHECK(tls_record_prove(&pair->record, crypto, (struct span){0}) == 0);
        init_peer(pair, config);
    } else {
        const struct tls_master master = {client, server, server};
        CHECK(tls_record_init12(&pair->record, crypto, &config->record, &master) == 0);
        init_peer(pair, config);
        prove12(pair);
    }
}

void tls_pair_deinit(struct tls_pair *pair)
{
    tls_record_wipe(&pair->record, pair->crypto);
    tls_keys_wipe(&pair->peer.read, pair->crypto);
    tls_keys_wipe(&pair->peer.write, pair->crypto);
}

static bool is_explicit(const struct tls_peer *peer)
{
    return !peer->v13 && peer->suite != TLS_CHACHA20;
}

/* The additional data of a record (RFC 5246 section 6.2.3.3, RFC 8446 section 5.2). */
static size_t put_aad(
    const struct tls_peer *peer, uint32_t sequence, const uint8_t *header, size_t n, uint8_t *out)
{
    if (peer->v13) {
        memcpy(out, header, 5);
        return 5;
    }
    const uint8_t aad[] = {0, 0, 0, 0, (uint8_t)(sequence >> 24), (uint8_t)(sequence >> 16),
        (uint8_t)(sequence >> 8), (uint8_t)sequence, header[0], header[1], header[2],
        (uint8_t)(n >> 8), (uint8_t)n};
    memcpy(out, aad, sizeof(aad));
    return sizeof(aad);
}

size_t tls_peer_seal_raw(
    struct tls_peer *peer, uint8_t outer_type, const void *inner, size_t n, uint8_t *out)
{
    const size_t before = is_explicit(peer) ? 8 : 0;
    const size_t body = before + n + TLS_TAG_SIZE;
    CHECK(5 + body <= TLS_PEER_ROOM);
    const uint8_t header[] = {outer_type, 3, peer->version, (uint8_t)(body >> 8), (uint8_t)body};
    memcpy(out, header, 5);
    uint8_t nonce[TLS_NONCE_SIZE], aad[13];
    if (is_explicit(peer))
        tls_keys_nonce_added(&peer->write, nonce);
    else
        tls_keys_nonce_xored(&peer->write, nonce);
    memcpy(out + 5, nonce + 4, before);
    if (n > 0)
        memcpy(out + 5 + before, inner, n);
    const struct tls_sealing sealing = {.suite = peer->suite,
        .key = peer->write.key,
        .nonce = nonce,
        .aad = aad,
        .aad_n = put_aad(peer, peer->write.sequence, header, n, aad)};
    CHECK(tls_crypto_seal(peer->crypto, &sealing, out + 5 + before, n) == 0);
    peer->write.sequence++;
    return 5 + body;
}

size_t tls_peer_seal(struct tls_peer *peer, uint8_t type, const void *content, size_t n,
    size_t padding, uint8_t *out)
{
    if (!peer->v13)
        return tls_peer_seal_raw(peer, type, content, n, out);
    uint8_t inner[TLS_PEER_ROOM];
    CHECK(n + 1 + padding <= sizeof(inner));
    if (n > 0)
        memcpy(inner, content, n);
    inner[n] = type;
    memset(inner + n + 1, 0, padding);
    return tls_peer_seal_raw(peer, 23, inner, n + 1 + padding, out);
}

size_t tls_peer_open(
    struct tls_peer *peer, uint8_t *in, size_t n, uint8_t *ret_type, struct span *ret_content)
{
    const size_t before = is_explicit(peer) ? 8 : 0;
    if (n < 5 + before + TLS_TAG_SIZE)
        return 0;
    const size_t body = (size_t)in[3] << 8 | in[4];
    if (n < 5 + body || body < before + TLS_TAG_SIZE)
        return 0;
    size_t inner = body - before - TLS_TAG_SIZE;
    uint8_t nonce[TLS_NONCE_SIZE], aad[13];
    if (is_explicit(peer))
        tls_keys_nonce_added(&peer->read, nonce); /* it has to be the next one */
    else
        tls_keys_nonce_xored(&peer->read, nonce);
    const struct tls_sealing sealing = {.suite = peer->suite,
        .key = peer->read.key,
        .nonce = nonce,
        .aad = aad,
        .aad_n = put_aad(peer, peer->read.sequence, in, inner, aad)};
    uint8_t *content = in + 5 + before;
    if (in[1] != 3 || in[2] != 3 || (before > 0 && memcmp(nonce + 4, in + 5, 8) != 0) ||
        tls_crypto_open(peer->crypto, &sealing, content, inner, content) < 0)
        return 0;
    peer->read.sequence++;
    *ret_type = in[0];
    if (peer->v13) {
        if (in[0] != 23 || inner == 0)
            return 0;
        *ret_type = content[--inner];
    }
    *ret_content = (struct span){(char *)content, inner};
    return 5 + body;
}

void tls_peer_update(struct tls_peer *peer, struct tls_keys *keys)
{
    CHECK(tls_keys_update(keys, peer->crypto, peer->suite) == 0);
}
