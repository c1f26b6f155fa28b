#include <criterion/criterion.h>
#include <string.h>

#include "frontd/codec/content_coding.h"

static struct http_head head;

static void add(const char *name, enum http_known known, const char *value)
{
    head.fields[head.nfields++] = (struct http_field){
        .name = {name, strlen(name)}, .value = {value, strlen(value)}, .known = (uint8_t)known};
}

Test(content_coding, of_body)
{
    static const struct {
        const char *one, *two; /* values of two fields; NULL: there is none */
        enum content_coding coding;
    } rows[] = {
        {NULL, NULL, CODING_IDENTITY},
        {"", NULL, CODING_IDENTITY},
        {"identity", " , Identity", CODING_IDENTITY},
        {"gzip", NULL, CODING_GZIP},
        {"GZip", NULL, CODING_GZIP},
        {"x-gzip", NULL, CODING_GZIP},
        {", gzip ,", NULL, CODING_GZIP},
        {"identity", "gzip", CODING_GZIP},
        {"gzip, identity", NULL, CODING_GZIP},
        {"br", NULL, CODING_BR},
        {"gzip, gzip", NULL, CODING_OTHER},
        {"gzip", "gzip", CODING_OTHER},
        {"br", "gzip", CODING_OTHER},
        {"deflate", NULL, CODING_OTHER},
        {"gzip;q=1", NULL, CODING_OTHER},
        {"gzi", NULL, CODING_OTHER},
        {"gzip2", NULL, CODING_OTHER},
        {"?", NULL, CODING_OTHER},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        head.nfields = 0;
        add("accept-encoding", HTTP_F_OTHER, "br");
        if (rows[i].one != NULL)
            add("Content-Encoding", HTTP_F_CONTENT_ENCODING, rows[i].one);
        if (rows[i].two != NULL)
            add("content-encoding", HTTP_F_CONTENT_ENCODING, rows[i].two);
        cr_expect_eq(coding_of_body(&head), rows[i].coding, "row %zu", i);
    }
}
