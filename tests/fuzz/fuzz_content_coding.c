/* The value of a field of a request: Content-Encoding, and Accept-Encoding. */

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

    /* What is liked best of two is accepted by itself, and an order only chooses among equals. */
    static const uint8_t offered[] = {CODING_BR, CODING_GZIP, CODING_BR};
    head.fields[0].name = SPAN("accept-encoding");
    const enum content_coding best = coding_accepted(&head, offered, 2);
    const enum content_coding other = coding_accepted(&head, offered + 1, 2);
    CHECK(best == CODING_IDENTITY || best == CODING_BR || best == CODING_GZIP);
    CHECK((best == CODING_IDENTITY) == (other == CODING_IDENTITY));
    for (int i = 0; i < 2; i++) {
        const enum content_coding alone = coding_accepted(&head, &offered[i], 1);
        CHECK(alone == CODING_IDENTITY || alone == offered[i]);
        CHECK(offered[i] != best || alone == best);
        CHECK(alone == CODING_IDENTITY || best != CODING_IDENTITY);
    }
    free(copy);
    return 0;
}
