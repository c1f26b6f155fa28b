#include "frontd/supervisor/workers/fingerprint.h"

#include <string.h>
#include <sys/stat.h>

#include "common/siphash.h"

/* Not secret: fingerprints are compared with those that the program before us has taken. */
static const struct hash_key key = {0x66726f6e7464776fULL, 0x726b65727374616dULL};

static uint64_t mix(uint64_t so_far, const void *bytes, size_t n)
{
    uint64_t both[2] = {so_far, hash_bytes(&key, bytes, n)};
    return hash_bytes(&key, both, sizeof(both));
}

static uint64_t mix_file(uint64_t so_far, const char *path)
{
    struct stat st;
    if (path == NULL || stat(path, &st) < 0 || !S_ISREG(st.st_mode))
        return so_far;
    uint64_t facts[] = {st.st_dev, st.st_ino, (uint64_t)st.st_size, (uint64_t)st.st_mtim.tv_sec,
        (uint64_t)st.st_mtim.tv_nsec};
    return mix(so_far, facts, sizeof(facts));
}

struct fingerprint fingerprint_take(
    const char *path, char *const *command, size_t n, const char *user)
{
    struct fingerprint fingerprint = {0};
    fingerprint.command = mix(fingerprint.command, user, user == NULL ? 0 : strlen(user));
    fingerprint.files = mix_file(fingerprint.files, path);
    for (size_t i = 0; i < n; i++) {
        fingerprint.command = mix(fingerprint.command, command[i], strlen(command[i]));
        const char *value = strchr(command[i], '=');
        if (i > 0) /* the program's own name need not be its path */
            fingerprint.files = mix_file(fingerprint.files, command[i]);
        if (i > 0 && value != NULL)
            fingerprint.files = mix_file(fingerprint.files, value + 1);
    }
    return fingerprint;
}
