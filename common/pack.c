#include "common/pack.h"

#include <endian.h>
#include <errno.h>

void pack_raw(struct pack *pack, const void *bytes, size_t n)
{
    if (!pack->failed && buf_append(pack->out, bytes, n) < 0)
        pack->failed = true;
}

void pack_u8(struct pack *pack, uint8_t value)
{
    pack_raw(pack, &value, sizeof(value));
}

void pack_u16(struct pack *pack, uint16_t value)
{
    value = htole16(value);
    pack_raw(pack, &value, sizeof(value));
}

void pack_u32(struct pack *pack, uint32_t value)
{
    value = htole32(value);
    pack_raw(pack, &value, sizeof(value));
}

void pack_u64(struct pack *pack, uint64_t value)
{
    value = htole64(value);
    pack_raw(pack, &value, sizeof(value));
}

void pack_bytes(struct pack *pack, struct span bytes)
{
    CHECK(bytes.n <= UINT32_MAX);
    pack_u32(pack, (uint32_t)bytes.n);
    pack_raw(pack, bytes.p, bytes.n);
}

void pack_text(struct pack *pack, const char *text)
{
    pack_u8(pack, text != NULL);
    if (text != NULL)
        pack_bytes(pack, (struct span){text, strlen(text)});
}

size_t pack_begin(struct pack *pack, uint8_t tag, uint8_t version)
{
    pack_u8(pack, tag);
    pack_u8(pack, version);
    pack_u32(pack, 0); /* until pack_end() */
    return buf_len(pack->out);
}

void pack_end(struct pack *pack, size_t begun)
{
    if (pack->failed)
        return;
    uint32_t n = htole32((uint32_t)(buf_len(pack->out) - begun));
    memcpy(buf_data(pack->out) + begun - sizeof(n), &n, sizeof(n));
}

/* The next `n` bytes, or NULL. */
static const char *take(struct unpack *unpack, size_t n)
{
    if (unpack->bad || n > unpack->left.n) {
        unpack->bad = true;
        return NULL;
    }
    const char *p = unpack->left.p;
    if (n > 0)
        unpack->left = (struct span){p + n, unpack->left.n - n};
    return p;
}

void unpack_raw(struct unpack *unpack, void *ret, size_t n)
{
    const char *p = take(unpack, n);
    if (p == NULL)
        memset(ret, 0, n);
    else
        memcpy(ret, p, n);
}

uint8_t unpack_u8(struct unpack *unpack)
{
    uint8_t value;
    unpack_raw(unpack, &value, sizeof(value));
    return value;
}

uint16_t unpack_u16(struct unpack *unpack)
{
    uint16_t value;
    unpack_raw(unpack, &value, sizeof(value));
    return le16toh(value);
}

uint32_t unpack_u32(struct unpack *unpack)
{
    uint32_t value;
    unpack_raw(unpack, &value, sizeof(value));
    return le32toh(value);
}

uint64_t unpack_u64(struct unpack *unpack)
{
    uint64_t value;
    unpack_raw(unpack, &value, sizeof(value));
    return le64toh(value);
}

uint64_t unpack_time(struct unpack *unpack, uint64_t now)
{
    uint64_t at = unpack_u64(unpack);
    return MIN(at, now);
}

bool unpack_flag(struct unpack *unpack)
{
    uint8_t value = unpack_u8(unpack);
    if (value > 1)
        unpack->bad = true;
    return value == 1;
}

struct span unpack_bytes(struct unpack *unpack)
{
    size_t n = unpack_u32(unpack);
    const char *p = take(unpack, n);
    return p == NULL ? (struct span){0} : (struct span){p, n};
}

struct span unpack_text(struct unpack *unpack)
{
    if (!unpack_flag(unpack))
        return (struct span){0};
    struct span text = unpack_bytes(unpack);
    if (text.n > 0 && memchr(text.p, '\0', text.n) != NULL)
        unpack->bad = true;
    return unpack->bad ? (struct span){0} : text;
}

bool unpack_text_is(struct span text, const char *other)
{
    if (text.p == NULL || other == NULL)
        return text.p == other;
    return strlen(other) == text.n && memcmp(other, text.p, text.n) == 0;
}

bool unpack_section(struct unpack *unpack, struct unpack_section *ret_section)
{
    if (unpack->bad || unpack->left.n == 0)
        return false;
    ret_section->tag = unpack_u8(unpack);
    ret_section->version = unpack_u8(unpack);
    ret_section->body = (struct unpack){.left = unpack_bytes(unpack)};
    return !unpack->bad;
}

int unpack_end(const struct unpack *unpack)
{
    return unpack->bad || unpack->left.n > 0 ? -EBADMSG : 0;
}
