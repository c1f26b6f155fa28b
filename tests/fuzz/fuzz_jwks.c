/* The input is a set of keys. Those that are taken verify nothing that they have not signed. */

#include "frontd/config/jwks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct jwks set;
    char error[JWK_ERROR_SIZE];
    unsigned char signature[256] = {1};
    if (jwks_read((struct span){(const char *)data, size}, &set, error) < 0) {
        CHECK(set.nkeys == 0);
        return 0;
    }
    CHECK(set.nkeys > 0 && set.nkeys <= JWKS_KEYS_MAX);
    for (uint32_t i = 0; i < set.nkeys; i++) {
        CHECK(set.keys[i].public != NULL);
        CHECK(!jwk_verify(&set.keys[i], SPAN("head"), signature, 64));
    }
    jwks_deinit(&set);
    return 0;
}
