#include "frontd/shard/tls/seal_log.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <string.h>
#include <unistd.h>

#include "frontd/codec/tls_crypto.h"

#if SEAL_LOG

enum { KEY_ID_SIZE = 8 };

struct entry {
    uint8_t key_id[KEY_ID_SIZE];
    uint8_t nonce[TLS_NONCE_SIZE];
    uint32_t pid;
};
_Static_assert(sizeof(struct entry) == 24, "tests/system/lib/seallog.py");

static int file = -1;

/* Before the record is sealed: there may be an entry too many, but never one too few. */
static void note(
    void *arg, const uint8_t key[static TLS_KEY_MAX], const uint8_t nonce[static TLS_NONCE_SIZE])
{
    struct entry entry = {.pid = (uint32_t)getpid()};
    uint8_t digest[EVP_MAX_MD_SIZE];
    (void)arg;
    CHECK(EVP_Digest(key, TLS_KEY_MAX, digest, NULL, EVP_sha256(), NULL) == 1);
    memcpy(entry.key_id, digest, sizeof(entry.key_id));
    memcpy(entry.nonce, nonce, sizeof(entry.nonce));
    CHECK(write(file, &entry, sizeof(entry)) == (ssize_t)sizeof(entry));
}

void seal_log_open(void)
{
    const char *path = getenv("FRONTD_SEAL_LOG");
    if (path == NULL)
        return;
    file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    CHECK(file >= 0);
}

void seal_log_watch(struct tls_crypto *crypto)
{
    if (file >= 0)
        tls_crypto_watch(crypto, note, NULL);
}

#else

void seal_log_open(void)
{
}

void seal_log_watch(struct tls_crypto *crypto)
{
    (void)crypto;
}

#endif
