/*
 * The input is what a collector answers. An answer that is complete was not complete before its
 * last byte, however it is cut; what follows its head by a known length is its body.
 */

#include <string.h>

#include "frontd/admin/http_answer.h"
#include "frontd/admin/otlp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct http_answer answer, whole;
    struct span bytes = {(const char *)data, size};
    otlp_rejected(bytes);
    int r = http_answer_read(bytes, &whole);
    bool complete = false;
    for (size_t n = 0; n <= size; n++) {
        char *copy = malloc(n + (n == 0));
        CHECK(copy != NULL);
        if (n > 0)
            memcpy(copy, data, n);
        int part = http_answer_read((struct span){copy, n}, &answer);
        CHECK(!complete || part == 1);
        complete = part == 1;
        if (complete) {
            CHECK(answer.status >= 200 && answer.status <= 999);
            CHECK(r == 1 && answer.status == whole.status && answer.body.n == whole.body.n);
            CHECK(answer.body.p >= copy && answer.body.p + answer.body.n <= copy + n);
        }
        free(copy);
    }
    CHECK(complete == (r == 1));
    return 0;
}
