#include "frontd/admin/bearer.h"

#include <string.h>
#include <strings.h>

static bool is_same(struct span given, struct span token)
{
    size_t differs = given.n ^ token.n;
    for (size_t i = 0; i < given.n; i++)
        differs |= (size_t)(unsigned char)(given.p[i] ^ token.p[i % token.n]);
    return differs == 0;
}

bool bearer_fits(const struct http_head *head, struct span token)
{
    static const char scheme[] = "Bearer ";
    static const size_t n = sizeof(scheme) - 1;
    struct span given = {0};
    unsigned count = 0;
    for (size_t i = 0; i < head->nfields; i++) {
        const struct http_field *field = &head->fields[i];
        if (field->name.n == strlen("authorization") &&
            strncasecmp(field->name.p, "authorization", field->name.n) == 0) {
            count++;
            given = field->value;
        }
    }
    if (count != 1 || token.n == 0 || given.n <= n || strncasecmp(given.p, scheme, n) != 0)
        return false;
    return is_same((struct span){given.p + n, given.n - n}, token);
}
