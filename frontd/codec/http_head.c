#include "frontd/codec/http_head.h"

#include "frontd/codec/http1_scan.h"

const struct http_field *http_head_find(const struct http_head *head, struct span lower_name)
{
    for (size_t i = 0; i < head->nfields; i++)
        if (same_name(head->fields[i].name, lower_name))
            return &head->fields[i];
    return NULL;
}
