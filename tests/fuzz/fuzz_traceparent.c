/*
 * The input is a value of traceparent. What is made of it is compared with a second opinion, made
 * with sscanf(); a value that is right is read again as it was written.
 */

#include <string.h>

#include "frontd/codec/traceparent.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Section 3.2, by the functions of the C library. */
static bool second_opinion(const char *text, size_t n)
{
    char version[3], trace[33], span[17], flags[3], rest;
    if (n < TRACEPARENT_SIZE || strlen(text) != n)
        return false;
    int found = sscanf(text, "%2[0-9a-f]-%32[0-9a-f]-%16[0-9a-f]-%2[0-9a-f]%c", version, trace,
        span, flags, &rest);
    if (found < 4 || strlen(version) != 2 || strlen(trace) != 32 || strlen(span) != 16 ||
        strlen(flags) != 2)
        return false;
    if (strcmp(version, "ff") == 0 || strspn(trace, "0") == 32 || strspn(span, "0") == 16)
        return false;
    return found == 4 || (strcmp(version, "00") != 0 && rest == '-');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct traceparent read, again;
    char out[TRACEPARENT_SIZE];
    char *text = malloc(size + 1);
    CHECK(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    bool right = traceparent_read((struct span){(const char *)data, size}, &read);
    CHECK(memchr(text, '\0', size) != NULL || right == second_opinion(text, size));
    if (right) {
        traceparent_write(&read, out);
        CHECK(memcmp(out + 2, text + 2, TRACEPARENT_SIZE - 4) == 0);
        CHECK(traceparent_read((struct span){out, sizeof(out)}, &again));
        CHECK(memcmp(&read, &again, sizeof(read)) == 0);
    }
    free(text);
    return 0;
}
