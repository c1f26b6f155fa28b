#include <criterion/criterion.h>
#include <string.h>

#include "frontd/codec/tls_record.h"

/* The trace of RFC 8448 section 3: secrets, keys, and the records of application data. */

static const uint8_t client_secret[] =
    "\x9e\x40\x64\x6c\xe7\x9a\x7f\x9d\xc0\x5a\xf8\x88\x9b\xce\x65\x52"
    "\x87\x5a\xfa\x0b\x06\xdf\x00\x87\xf7\x92\xeb\xb7\xc1\x75\x04\xa5";
static const uint8_t server_secret[] =
    "\xa1\x1a\xf9\xf0\x55\x31\xf8\x56\xad\x47\x11\x6b\x45\xa9\x50\x32"
    "\x82\x04\xb4\xf4\x4b\xfb\x6b\x3a\x4b\x4f\x1f\x3f\xcb\x63\x16\x43";
static const uint8_t client_key[] =
    "\x17\x42\x2d\xda\x59\x6e\xd5\xd9\xac\xd8\x90\xe3\xc6\x3f\x50\x51";
static const uint8_t client_iv[] = "\x5b\x78\x92\x3d\xee\x08\x57\x90\x33\xe5\x23\xd9";
static const uint8_t server_key[] =
    "\x9f\x02\x28\x3b\x6c\x9c\x07\xef\xc2\x6b\xb9\xf2\xac\x92\xe3\x56";
static const uint8_t server_iv[] = "\xcf\x78\x2b\x88\xdd\x83\x54\x9a\xad\xf1\xe9\x84";
static const uint8_t ticket_record[] =
    "\x17\x03\x03\x00\xde\x3a\x6b\x8f\x90\x41\x4a\x97\xd6\x95\x9c\x34\x87\x68\x0d\xe5\x13\x4a\x2b"
    "\x24\x0e\x6c\xff\xac\x11\x6e\x95\xd4\x1d\x6a\xf8\xf6\xb5\x80\xdc\xf3\xd1\x1d\x63\xc7\x58\xdb"
    "\x28\x9a\x01\x59\x40\x25\x2f\x55\x71\x3e\x06\x1d\xc1\x3e\x07\x88\x91\xa3\x8e\xfb\xcf\x57\x53"
    "\xad\x8e\xf1\x70\xad\x3c\x73\x53\xd1\x6d\x9d\xa7\x73\xb9\xca\x7f\x2b\x9f\xa1\xb6\xc0\xd4\xa3"
    "\xd0\x3f\x75\xe0\x9c\x30\xba\x1e\x62\x97\x2a\xc4\x6f\x75\xf7\xb9\x81\xbe\x63\x43\x9b\x29\x99"
    "\xce\x13\x06\x46\x15\x13\x98\x91\xd5\xe4\xc5\xb4\x06\xf1\x6e\x3f\xc1\x81\xa7\x7c\xa4\x75\x84"
    "\x00\x25\xdb\x2f\x0a\x77\xf8\x1b\x5a\xb0\x5b\x94\xc0\x13\x46\x75\x5f\x69\x23\x2c\x86\x51\x9d"
    "\x86\xcb\xee\xac\x87\xaa\xc3\x47\xd1\x43\xf9\x60\x5d\x64\xf6\x50\xdb\x4d\x02\x3e\x70\xe9\x52"
    "\xca\x49\xfe\x51\x37\x12\x1c\x74\xbc\x26\x97\x68\x7e\x24\x87\x46\xd6\xdf\x35\x30\x05\xf3\xbc"
    "\xe1\x86\x96\x12\x9c\x81\x53\x55\x6b\x3b\x6c\x67\x79\xb3\x7b\xf1\x59\x85\x68\x4f";
static const uint8_t client_record[] =
    "\x17\x03\x03\x00\x43\xa2\x3f\x70\x54\xb6\x2c\x94\xd0\xaf\xfa\xfe\x82\x28\xba\x55\xcb\xef\xac"
    "\xea\x42\xf9\x14\xaa\x66\xbc\xab\x3f\x2b\x98\x19\xa8\xa5\xb4\x6b\x39\x5b\xd5\x4a\x9a\x20\x44"
    "\x1e\x2b\x62\x97\x4e\x1f\x5a\x62\x92\xa2\x97\x70\x14\xbd\x1e\x3d\xea\xe6\x3a\xee\xbb\x21\x69"
    "\x49\x15\xe4";
static const uint8_t server_record[] =
    "\x17\x03\x03\x00\x43\x2e\x93\x7e\x11\xef\x4a\xc7\x40\xe5\x38\xad\x36\x00\x5f\xc4\xa4\x69\x32"
    "\xfc\x32\x25\xd0\x5f\x82\xaa\x1b\x36\xe3\x0e\xfa\xf9\x7d\x90\xe6\xdf\xfc\x60\x2d\xcb\x50\x1a"
    "\x59\xa8\xfc\xc4\x9c\x4b\xf2\xe5\xf0\xa2\x1c\x00\x47\xc2\xab\xf3\x32\x54\x0d\xd0\x32\xe1\x67"
    "\xc2\x95\x5d";
/* close_notify of both */
static const uint8_t client_close[] =
    "\x17\x03\x03\x00\x13\xc9\x87\x27\x60\x65\x56\x66\xb7\x4d\x7f\xf1\x15\x3e\xfd\x6d\xb6\xd0\xb0"
    "\xe3";
static const uint8_t server_close[] =
    "\x17\x03\x03\x00\x13\xb5\x8f\xd6\x71\x66\xeb\xf5\x99\xd2\x47\x20\xcf\xbe\x7e\xfa\x7a\x88\x64"
    "\xa9";

#define N(literal) (sizeof(literal) - 1)

static void make(struct tls_record *record, struct tls_crypto *crypto, bool client)
{
    const struct tls_record_config config = {
        .suite = TLS_AES_128_GCM, .client = client, .fragment_max = TLS_FRAGMENT_MAX};
    cr_assert_eq(tls_record_init13(record, crypto, &config, client_secret, server_secret), 0);
}

static void opens(struct tls_record *record, struct tls_crypto *crypto, const uint8_t *bytes,
    size_t n, const uint8_t *data, size_t data_n)
{
    uint8_t in[300];
    memcpy(in, bytes, n);
    struct tls_opened opened = tls_record_open(record, crypto, in, n, in, n);
    cr_assert_eq(opened.event, TLS_EVENT_MORE);
    cr_assert_eq(opened.used, n);
    cr_assert_eq(opened.data, data_n);
    if (data_n > 0)
        cr_assert_arr_eq(in, data, data_n);
}

static void seals(struct tls_record *record, struct tls_crypto *crypto, const uint8_t *data,
    size_t data_n, const uint8_t *bytes, size_t n)
{
    uint8_t out[300];
    const struct iovec iov = {(void *)data, data_n};
    struct tls_sealed sealed = tls_record_seal(
        record, crypto, &iov, data_n > 0, 0, out, sizeof(out));
    cr_assert_eq(sealed.bytes, n);
    cr_assert_eq(sealed.data, data_n);
    cr_assert_arr_eq(out, bytes, n);
}

Test(tls_vectors, rfc8448)
{
    struct tls_crypto *crypto = tls_crypto_new();
    struct tls_record server, client;
    uint8_t data[50];
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)i;
    make(&server, crypto, false);
    make(&client, crypto, true);
    cr_assert_arr_eq(server.write.key, server_key, 16);
    cr_assert_arr_eq(server.write.iv, server_iv, 12);
    cr_assert_arr_eq(server.read.key, client_key, 16);
    cr_assert_arr_eq(server.read.iv, client_iv, 12);
    cr_assert_arr_eq(&client.write, &server.read, sizeof(client.write));

    /* The server's NewSessionTicket was its first record. */
    const struct span ticket = {(const char *)ticket_record, N(ticket_record)};
    cr_assert_eq(tls_record_prove(&server, crypto, ticket), 0);
    cr_assert_eq(server.write.sequence, 1);
    cr_assert_eq(tls_record_prove(&client, crypto, (struct span){0}), 0);
    opens(&client, crypto, ticket_record, N(ticket_record), NULL, 0);

    seals(&client, crypto, data, sizeof(data), client_record, N(client_record));
    opens(&server, crypto, client_record, N(client_record), data, sizeof(data));
    seals(&server, crypto, data, sizeof(data), server_record, N(server_record));
    opens(&client, crypto, server_record, N(server_record), data, sizeof(data));

    tls_record_close(&client);
    seals(&client, crypto, NULL, 0, client_close, N(client_close));
    tls_record_close(&server);
    seals(&server, crypto, NULL, 0, server_close, N(server_close));
    uint8_t in[64];
    memcpy(in, server_close, N(server_close));
    struct tls_opened opened = tls_record_open(
        &client, crypto, in, N(server_close), in, N(server_close));
    cr_assert_eq(opened.event, TLS_EVENT_END);
    tls_record_wipe(&server, crypto);
    tls_record_wipe(&client, crypto);
    tls_crypto_free(crypto);
}

/* RFC 8446 section 5.3, RFC 7905 section 2; RFC 5288 section 3, where the peer reads it. */
Test(tls_vectors, nonces)
{
    struct tls_keys keys = {.iv = "\x01\x02\x03\x04\xff\xff\xff\xff\xff\xff\xff\xf0"};
    uint8_t nonce[TLS_NONCE_SIZE];
    static const struct {
        uint32_t sequence;
        const char *xored, *added;
    } cases[] = {
        {0, "\1\2\3\4\xff\xff\xff\xff\xff\xff\xff\xf0", "\1\2\3\4\xff\xff\xff\xff\xff\xff\xff\xf0"},
        {0x0f, "\1\2\3\4\xff\xff\xff\xff\xff\xff\xff\xff",
            "\1\2\3\4\xff\xff\xff\xff\xff\xff\xff\xff"},
        {0x10, "\1\2\3\4\xff\xff\xff\xff\xff\xff\xff\xe0", "\1\2\3\4\0\0\0\0\0\0\0\0"},
        {0x01020304, "\1\2\3\4\xff\xff\xff\xff\xfe\xfd\xfc\xf4",
            "\1\2\3\4\0\0\0\0\x01\x02\x02\xf4"},
        {0xfffffffe, "\1\2\3\4\xff\xff\xff\xff\0\0\0\x0e", "\1\2\3\4\0\0\0\0\xff\xff\xff\xee"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        keys.sequence = cases[i].sequence;
        tls_keys_nonce_xored(&keys, nonce);
        cr_assert_arr_eq(nonce, cases[i].xored, TLS_NONCE_SIZE, "case %zu", i);
        tls_keys_nonce_added(&keys, nonce);
        cr_assert_arr_eq(nonce, cases[i].added, TLS_NONCE_SIZE, "case %zu", i);
    }
}

/* The same derivation with SHA-384, and KeyUpdate, are compared with OpenSSL's in test_tls_openssl.
 */
Test(tls_vectors, suites)
{
    enum tls_suite suite;
    static const uint16_t known[] = {
        0x1301, 0x1302, 0x1303, 0xc02b, 0xc02c, 0xcca9, 0xc02f, 0xc030, 0xcca8};
    static const enum tls_suite suites[] = {TLS_AES_128_GCM, TLS_AES_256_GCM, TLS_CHACHA20};
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        cr_assert(tls_suite_find(known[i], &suite));
        cr_assert_eq(suite, suites[i % 3], "%x", known[i]);
    }
    /* CCM, static RSA, DHE, CBC */
    static const uint16_t others[] = {0x1304, 0x1305, 0x009c, 0x009e, 0xc009, 0xc0ac, 0, 0xffff};
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        cr_assert(!tls_suite_find(others[i], &suite), "%x", others[i]);
}

Test(tls_vectors, alert_names)
{
    cr_assert_str_eq(tls_alert_name(0), "close_notify");
    cr_assert_str_eq(tls_alert_name(TLS_ALERT_BAD_RECORD_MAC), "bad_record_mac");
    cr_assert_str_eq(tls_alert_name(120), "no_application_protocol");
    cr_assert_str_eq(tls_alert_name(121), "unknown");
    cr_assert_str_eq(tls_alert_name(255), "unknown");
}
