/*
 * The input is a format string of the access log, a NUL, and a value, which every field has. A line
 * that is written has no control character, and ends in a newline; the text of the format is in it.
 */

#include <string.h>

#include "frontd/codec/access_line.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_line(const char *out, size_t n)
{
    CHECK(n > 0 && n <= ACCESS_LINE_MAX && out[n - 1] == '\n');
    for (size_t i = 0; i < n - 1; i++)
        CHECK(out[i] >= 0x20 && out[i] < 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct access_part parts[ACCESS_PARTS_MAX];
    struct span values[ACCESS_FIELDS_COUNT];
    size_t n = 0, texts = 0;
    const char *end = memchr(data, '\0', size);
    if (end == NULL)
        return 0;
    struct span value = {end + 1, size - (size_t)(end - (const char *)data) - 1};
    for (size_t i = 0; i < ACCESS_FIELDS_COUNT; i++)
        values[i] = value;
    char *out = malloc(ACCESS_LINE_MAX);
    CHECK(out != NULL);
    if (access_format_read((const char *)data, parts, &n) == NULL) {
        CHECK(n > 0 && n <= ACCESS_PARTS_MAX);
        for (size_t i = 0; i < n; i++) {
            CHECK(parts[i].field >= -1 && parts[i].field < ACCESS_FIELDS_COUNT);
            texts += parts[i].text.n;
        }
        CHECK(texts <= ACCESS_FORMAT_MAX);
        size_t len = access_line_write(parts, n, values, out);
        check_line(out, len);
        CHECK(len > texts);
    }
    check_line(out, access_line_write(NULL, 0, values, out));
    free(out);
    return 0;
}
