/*
 * What a TLS record costs: tls_records [ROUNDS]. Prints ns of CPU for sealing and opening one, the
 * least of several runs, where the AEAD contexts are kept, and where so many connections take turns
 * that each record has to give a context its key; and ns for a KeyUpdate.
 */

#include <string.h>
#include <time.h>

#include "frontd/codec/tls_record.h"

enum { RUNS = 20, CONNECTIONS = 4 * TLS_CONTEXTS };

/* Both ends of connections, with a tls_crypto each, as they would be in two processes. */
static struct tls_crypto *crypto[2];
static struct tls_record sealing[CONNECTIONS], opening[CONNECTIONS];

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void connect_all(enum tls_suite suite)
{
    struct tls_record_config config = {.suite = suite, .fragment_max = TLS_FRAGMENT_MAX};
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        uint8_t secrets[2][TLS_SECRET_MAX] = {{(uint8_t)i, (uint8_t)(i / 256)}, {1}};
        memcpy(secrets[1] + 1, secrets[0], 2);
        config.client = false;
        CHECK(tls_record_init13(&sealing[i], crypto[0], &config, secrets[0], secrets[1]) == 0);
        CHECK(tls_record_prove(&sealing[i], crypto[0], (struct span){0}) == 0);
        config.client = true;
        CHECK(tls_record_init13(&opening[i], crypto[1], &config, secrets[0], secrets[1]) == 0);
    }
}

/* ns for one record of `n` bytes, where `connections` of them take turns. */
static double records(size_t n, unsigned connections, unsigned long rounds)
{
    static uint8_t data[TLS_FRAGMENT_MAX], wire[TLS_RECORD_MAX], plain[TLS_FRAGMENT_MAX + 1];
    const struct iovec iov = {data, n};
    double least = 0;
    for (int run = 0; run < RUNS; run++) {
        const uint64_t begin = now_ns();
        for (unsigned long i = 0; i < rounds; i++) {
            const unsigned c = (unsigned)(i % connections);
            const struct tls_sealed sealed = tls_record_seal(
                &sealing[c], crypto[0], &iov, 1, 0, wire, sizeof(wire));
            const struct tls_opened opened = tls_record_open(
                &opening[c], crypto[1], wire, sealed.bytes, plain, sizeof(plain));
            CHECK(opened.data == n);
        }
        const double took = (double)(now_ns() - begin) / (double)rounds;
        least = run == 0 ? took : MIN(least, took);
    }
    return least;
}

static double key_updates(enum tls_suite suite, unsigned long rounds)
{
    double least = 0;
    for (int run = 0; run < RUNS; run++) {
        const uint64_t begin = now_ns();
        for (unsigned long i = 0; i < rounds; i++)
            CHECK(tls_keys_update(&sealing[0].read, crypto[0], suite) == 0);
        const double took = (double)(now_ns() - begin) / (double)rounds;
        least = run == 0 ? took : MIN(least, took);
    }
    return least;
}

int main(int argc, char **argv)
{
    static const char *const names[TLS_SUITES] = {"AES-128-GCM", "AES-256-GCM", "CHACHA20"};
    static const size_t sizes[] = {100, 1000, TLS_FRAGMENT_MAX};
    const unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 20000;
    for (int i = 0; i < 2; i++) {
        crypto[i] = tls_crypto_new();
        CHECK(crypto[i] != NULL);
    }
    for (unsigned suite = 0; suite < TLS_SUITES; suite++) {
        connect_all(suite);
        for (size_t s = 0; s < ARRAY_LEN(sizes); s++) {
            const unsigned long n = rounds * 100 / (sizes[s] + 100) + CONNECTIONS;
            const double kept = records(sizes[s], 1, n);
            printf("%-12s %5zu bytes: kept %7.0f ns, re-keyed %7.0f ns\n", names[suite], sizes[s],
                kept, records(sizes[s], CONNECTIONS, n));
        }
        printf("%-12s KeyUpdate: %7.0f ns\n", names[suite], key_updates(suite, rounds / 100 + 1));
    }
    return 0;
}
