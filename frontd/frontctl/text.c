#include "frontd/frontctl/text.h"

#include <string.h>

#include "common/alloc.h"
#include "proto/json_read.h"

/* What ends a line, or turns the order round in which it is shown: U+2028 … 202E, 2066 … 2069. */
static bool is_order(const unsigned char *p)
{
    return p[0] == 0xe2 && ((p[1] == 0x80 && p[2] >= 0xa8 && p[2] <= 0xae) ||
                               (p[1] == 0x81 && p[2] >= 0xa6 && p[2] <= 0xa9));
}

/* C0, DEL, C1 in UTF-8 (0xc2 0x80 … 0x9f), and what is_order() knows. */
static void defuse(char *text)
{
    for (unsigned char *p = (unsigned char *)text; *p != '\0'; p++) {
        if (*p < 0x20 || *p == 0x7f)
            *p = '?';
        else if (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0)
            p[0] = p[1] = '?';
        else if (is_order(p))
            p[0] = p[1] = p[2] = '?';
    }
}

static bool is_c1(const unsigned char *p, const unsigned char *end)
{
    return *p == 0xc2 && end - p > 1 && p[1] >= 0x80 && p[1] < 0xa0;
}

void text_put_json(struct span json, FILE *to)
{
    const unsigned char *p = (const unsigned char *)json.p;
    const unsigned char *end = p + json.n;
    while (p < end) {
        const unsigned char *from = p;
        while (p < end && *p != 0x7f && !is_c1(p, end))
            p++;
        fwrite(from, 1, (size_t)(p - from), to);
        if (p == end)
            break;
        p += *p == 0xc2; /* the second byte of it is its code */
        fprintf(to, "\\u%04x", (unsigned)*p++);
    }
}

/* Cuts a text so that no character is cut through. */
static void cut(char *text, size_t n)
{
    while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
        n--;
    text[n] = '\0';
}

bool text_of(struct span value, char *out, size_t size)
{
    char *text;
    if (json_read_string(value, &text) < 0)
        return false;
    if (strlen(text) >= size)
        cut(text, size - 1);
    defuse(text);
    memcpy(out, text, strlen(text) + 1);
    mem_free(text);
    return true;
}

bool text_number(struct span value, double *ret_number)
{
    char copy[64];
    if (!json_is_number(value) || value.n >= sizeof(copy))
        return false;
    memcpy(copy, value.p, value.n);
    copy[value.n] = '\0';
    *ret_number = strtod(copy, NULL);
    return true;
}

/* Three digits that matter, and a unit. */
static void put_scaled(double number, const char *unit, char out[static TEXT_SIZE])
{
    int decimals = number >= 99.95 ? 0 : number >= 9.995 ? 1 : 2;
    snprintf(out, TEXT_SIZE, "%.*f%s", decimals, number, unit);
}

void text_plain(double number, char out[static TEXT_SIZE])
{
    snprintf(out, TEXT_SIZE, "%.0f", number);
}

void text_count(double count, char out[static TEXT_SIZE])
{
    static const char *const units[] = {"k", "M", "G", "T", "P", "E"};
    if (count < 9999.5) {
        snprintf(out, TEXT_SIZE, "%.0f", count);
        return;
    }
    size_t i = 0;
    for (count /= 1000; count >= 999.5 && i + 1 < ARRAY_LEN(units); i++)
        count /= 1000;
    put_scaled(count, units[i], out);
}

void text_bytes(double bytes, char out[static TEXT_SIZE])
{
    static const char *const units[] = {" KiB", " MiB", " GiB", " TiB"};
    if (bytes < 1024) {
        snprintf(out, TEXT_SIZE, "%.0f B", bytes);
        return;
    }
    size_t i = 0;
    for (bytes /= 1024; bytes >= 1023.5 && i + 1 < ARRAY_LEN(units); i++)
        bytes /= 1024;
    put_scaled(bytes, units[i], out);
}

void text_seconds(double seconds, char out[static TEXT_SIZE])
{
    unsigned long whole = seconds < 1e15 ? (unsigned long)(seconds + 0.5) : 0;
    if (seconds == 0)
        snprintf(out, TEXT_SIZE, "0");
    else if (seconds < 0.0009995)
        snprintf(out, TEXT_SIZE, "%.0f us", seconds * 1e6);
    else if (seconds < 0.9995)
        put_scaled(seconds * 1000, " ms", out);
    else if (seconds < 119.5)
        put_scaled(seconds, " s", out);
    else if (whole < 3600)
        snprintf(out, TEXT_SIZE, "%lu min %lu s", whole / 60, whole % 60);
    else if (whole < 86400)
        snprintf(out, TEXT_SIZE, "%lu h %lu min", whole / 3600, whole / 60 % 60);
    else
        snprintf(out, TEXT_SIZE, "%lu d %lu h", whole / 86400, whole / 3600 % 24);
}
