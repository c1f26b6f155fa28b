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

Test(content_coding, accepted)
{
    enum { NONE = CODING_IDENTITY, GZIP = CODING_GZIP, BR = CODING_BR };
    static const struct {
        const char *value;
        int both, gzip; /* of br and gzip; of gzip alone */
    } rows[] = {
        {"", NONE, NONE},
        {"gzip", GZIP, GZIP},
        {"x-gzip", GZIP, GZIP},
        {"GZIP", GZIP, GZIP},
        {"br", BR, NONE},
        {"gzip, deflate, br, zstd", BR, GZIP},
        {"gzip;q=1.0, br;q=0.9", GZIP, GZIP},
        {"gzip;q=0.8, br;q=0.801", BR, GZIP},
        {"gzip ; q=0.5 ,br;\tQ=0.5", BR, GZIP},
        {"*", BR, GZIP},
        {"*;q=0", NONE, NONE},
        {"gzip, *;q=0", GZIP, GZIP},
        {"br;q=0, *", GZIP, GZIP},
        {"gzip;q=0, *", BR, NONE},
        {"gzip;q=0.2, *;q=0.1", GZIP, GZIP},
        {"identity", NONE, NONE},
        {"identity, gzip", GZIP, GZIP},
        {"identity;q=1, gzip;q=0.5", NONE, NONE},
        {"identity;q=0.5, gzip;q=0.5", GZIP, GZIP},
        {"identity;q=0", NONE, NONE},
        {"identity;q=0, gzip;q=0.001", GZIP, GZIP},
        {"gzip;q=0", NONE, NONE},
        {"gzip;q=0.000", NONE, NONE},
        {"gzip;q=0.001", GZIP, GZIP},
        {"gzip;q=1.000", GZIP, GZIP},
        {"gzip;q=1.", GZIP, GZIP},
        {"gzip;q=0, gzip", NONE, NONE},
        {"gzip, x-gzip;q=0", NONE, NONE},
        /* what cannot be read is not there */
        {"gzip;q=1.001", NONE, NONE},
        {"gzip;q=2", NONE, NONE},
        {"gzip;q=0.0001", NONE, NONE},
        {"gzip;q=.5", NONE, NONE},
        {"gzip;q=", NONE, NONE},
        {"gzip;q", NONE, NONE},
        {"gzip;", NONE, NONE},
        {"gzip;x=1", NONE, NONE},
        {"gzip;q=1;x=1", NONE, NONE},
        {"gzip;q=-1", NONE, NONE},
        {"gzip;q=0x1", NONE, NONE},
        {";q=1", NONE, NONE},
        {"gzip br", NONE, NONE},
        {"gzip;q=x, br;q=0.1", BR, NONE},
        {"deflate, zstd, compress", NONE, NONE},
    };
    static const uint8_t both[] = {CODING_BR, CODING_GZIP}, gzip[] = {CODING_GZIP};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        head.nfields = 0;
        add("x-accept-encoding", HTTP_F_OTHER, "gzip");
        add("Accept-Encoding", HTTP_F_OTHER, rows[i].value);
        cr_expect_eq((int)coding_accepted(&head, both, 2), rows[i].both, "row %zu", i);
        cr_expect_eq((int)coding_accepted(&head, gzip, 1), rows[i].gzip, "row %zu", i);
    }
    head.nfields = 0;
    cr_expect_eq(coding_accepted(&head, both, 2), CODING_IDENTITY);
    add("accept-encoding", HTTP_F_OTHER, "gzip");
    add("accept-encoding", HTTP_F_OTHER, "br;q=0.5");
    cr_expect_eq(coding_accepted(&head, both, 2), CODING_GZIP);
    static const uint8_t gzip_first[] = {CODING_GZIP, CODING_BR};
    head.nfields = 0;
    add("accept-encoding", HTTP_F_OTHER, "br, gzip");
    cr_expect_eq(coding_accepted(&head, gzip_first, 2), CODING_GZIP);
}
