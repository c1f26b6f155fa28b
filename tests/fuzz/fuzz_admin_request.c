/* The input is the head of a request to the admin address; what it asks for is decided. */

#include <string.h>

#include "frontd/admin/resource.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct http1_head head;

static void decide(struct span token, bool local)
{
    const struct resource found = resource_of(&head, token, local);
    CHECK((found.status == 200) == (found.kind != RESOURCE_NONE));
    CHECK((found.status == 200) == (found.text == NULL));
    CHECK(found.name.n <= RESOURCE_NAME_MAX);
    if (found.status == 200)
        CHECK(head.http.method == HTTP_GET || head.http.method == HTTP_HEAD);
    if (found.name.n > 0) {
        const char *end = head.text.p + head.text.n;
        CHECK(found.name.p >= head.text.p && found.name.p + found.name.n <= end);
    }
    if (found.kind == RESOURCE_METRICS)
        CHECK(found.form != ACCEPT_NONE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct http1_limits limits = {.head_bytes = 8192, .fields = 64};
    size_t used;
    char *copy = malloc(size + (size == 0)); /* it ends where the input ends */
    CHECK(copy != NULL);
    if (size > 0)
        memcpy(copy, data, size);
    if (http1_head_parse(copy, size, &limits, &head, &used) == 0) {
        decide((struct span){0}, true);
        decide((struct span){0}, false);
        decide(SPAN("secret"), true);
    }
    free(copy);
    return 0;
}
