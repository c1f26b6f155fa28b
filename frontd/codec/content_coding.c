#include "frontd/codec/content_coding.h"

#include "frontd/codec/http1_scan.h"

static enum content_coding coding_of(struct span name)
{
    if (same_name(name, SPAN("gzip")) || same_name(name, SPAN("x-gzip")))
        return CODING_GZIP;
    if (same_name(name, SPAN("br")))
        return CODING_BR;
    return same_name(name, SPAN("identity")) ? CODING_IDENTITY : CODING_OTHER;
}

enum content_coding coding_of_body(const struct http_head *head)
{
    enum content_coding found = CODING_IDENTITY;
    for (size_t i = 0; i < head->nfields; i++) {
        struct span list = head->fields[i].value, element;
        if (head->fields[i].known != HTTP_F_CONTENT_ENCODING)
            continue;
        while (next_element(&list, &element)) {
            enum content_coding coding = coding_of(element);
            if (coding != CODING_IDENTITY)
                found = found == CODING_IDENTITY ? coding : CODING_OTHER;
        }
    }
    return found;
}
