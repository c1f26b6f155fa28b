#include "frontd/supervisor/identity.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/random.h"
#include "common/siphash.h"

/* Keys the answer; the same in every version of this program. */
static const struct hash_key key = {0x66726f6e74642d69ULL, 0x64656e746974792dULL};

enum { ANSWER_LEN = 16 };

static uint64_t answer_to(const char *token, const char *claim, size_t n)
{
    uint64_t both[2] = {hash_bytes(&key, token, strlen(token)), hash_bytes(&key, claim, n)};
    return hash_bytes(&key, both, sizeof(both));
}

void identity_make_token(char token[IDENTITY_TOKEN_SIZE])
{
    random_hex(token, IDENTITY_TOKEN_SIZE / 2);
}

void identity_write(const char *token, char line[IDENTITY_LINE_MAX + 1])
{
    char claim[IDENTITY_LINE_MAX - ANSWER_LEN - 1];
    int n = snprintf(claim, sizeof(claim), "frontd " FRONTD_VERSION " process %ld state %d",
        (long)getpid(), STATE_VERSION);
    CHECK(n > 0 && (size_t)n < sizeof(claim));
    snprintf(line, IDENTITY_LINE_MAX + 1, "%s: %016llx", claim,
        (unsigned long long)answer_to(token, claim, (size_t)n));
}

/* Whether a number is in a list of them. */
static bool lists(const char *list, unsigned wanted)
{
    for (const char *p = list; *p != '\0'; p++) {
        char *end;
        unsigned long number = strtoul(p, &end, 10);
        if (end == p)
            return false;
        if (number == wanted)
            return true;
        if (*end != ',')
            return false;
        p = end;
    }
    return false;
}

enum identity identity_read(struct span line, const char *token, pid_t pid, unsigned state_version)
{
    static const char before_process[] = " process ";
    static const char before_versions[] = " state ";
    char text[IDENTITY_LINE_MAX + 1];
    char answer[ANSWER_LEN + 1];
    if (line.n < ANSWER_LEN + 2 || line.n > IDENTITY_LINE_MAX)
        return IDENTITY_UNKNOWN;
    memcpy(text, line.p, line.n);
    size_t claim_len = line.n - ANSWER_LEN - 2;
    snprintf(
        answer, sizeof(answer), "%016llx", (unsigned long long)answer_to(token, text, claim_len));
    if (strncmp(text, "frontd ", 7) != 0 || memcmp(text + claim_len, ": ", 2) != 0 ||
        memcmp(text + claim_len + 2, answer, ANSWER_LEN) != 0)
        return IDENTITY_UNKNOWN;
    text[claim_len] = '\0';
    const char *versions = strstr(text, before_versions);
    if (versions == NULL || !lists(versions + sizeof(before_versions) - 1, state_version))
        return IDENTITY_OTHER;
    const char *process = strstr(text, before_process);
    bool itself = process == NULL || /* it does not say */
                  strtol(process + sizeof(before_process) - 1, NULL, 10) == (long)pid;
    return itself ? IDENTITY_FRONTD : IDENTITY_CHILD;
}
