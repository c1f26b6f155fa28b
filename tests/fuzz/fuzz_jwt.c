/*
 * The input is a token. One that is taken is taken apart once more by other means: its parts are as
 * long as they say, its alg is where it says, and judging it reads nothing beyond it.
 */

#include <string.h>

#include "frontd/codec/jwt.h"
#include "proto/json_read.h"
#include "proto/jsonrpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_in(const struct jwt *jwt, struct span span)
{
    return span.n == 0 || (span.p >= jwt->text && span.p + span.n <= jwt->text + sizeof(jwt->text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char api[] = "api";
    static char *audiences[] = {api};
    const struct jwt_wanted wanted = {
        .issuer = "i", .audiences = audiences, .naudiences = 1, .leeway = 30};
    struct jwt *jwt = malloc(sizeof(*jwt));
    int64_t until = 0;
    CHECK(jwt != NULL);
    if (jwt_parse((struct span){(const char *)data, size}, jwt) == NULL) {
        const char *dot = memchr(data, '.', size);
        CHECK(size <= JWT_MAX && dot != NULL);
        CHECK(jwt->head.p == (const char *)data && jwt->head.n < size);
        CHECK(data[jwt->head.n] == '.' && jwt->head.n > (size_t)(dot - (const char *)data));
        CHECK(memchr(data + jwt->head.n + 1, '.', size - jwt->head.n - 1) == NULL);
        CHECK(is_in(jwt, jwt->alg) && is_in(jwt, jwt->kid) && is_in(jwt, jwt->claims));
        CHECK(jwt->claims.n == 0 || jsonrpc_validate(jwt->claims.p, jwt->claims.n) == 0);
        struct span exp = json_read_member(jwt->claims, "exp");
        CHECK(jwt->claims.p[0] != '{' || exp.n == jwt->exp.n);
        if (jwt_judge(jwt, &wanted, 1000, &until) == NULL)
            CHECK(until > 1000 && jwt->exp.n > 0 && jwt->iss.n > 0 && jwt->aud.n > 0);
    }
    free(jwt);
    return 0;
}
