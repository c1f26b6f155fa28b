/* The value of a field: Content-Encoding of a request. */

#include <string.h>

#include "frontd/codec/content_coding.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct http_head head;
    char *copy = malloc(size + (size == 0)); /* ends where the input ends */
    CHECK(copy != NULL);
    if (size > 0)
        memcpy(copy, data, size);
    head.nfields = 1;
    head.fields[0] = (struct http_field){
        .name = SPAN("content-encoding"), .value = {copy, size}, .known = HTTP_F_CONTENT_ENCODING};
    CHECK(coding_of_body(&head) <= CODING_OTHER);
    free(copy);
    return 0;
}
