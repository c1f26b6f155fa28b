#include "frontd/shard/tls/tls_held.h"

#include <errno.h>

#include "common/alloc.h"

enum { OUT_MAX = 1 << 20 /* bytes: more than any shard seals before the kernel has taken it */ };

/* Bytes of the record that `in` begins with, as its header says; 0: that is not there. */
static size_t record_size(const struct tls_held *held)
{
    if (tls_held_in(held) < TLS_HEADER_SIZE)
        return 0;
    const uint8_t *head = (const uint8_t *)buf_data(&held->in);
    return TLS_HEADER_SIZE + (size_t)(head[3] << 8 | head[4]);
}

size_t tls_held_record(const struct tls_held *held)
{
    size_t n = tls_held_in(held), size = record_size(held);
    if (size > TLS_HELD_RECORD_MAX)
        return n;
    return n >= size ? size : 0;
}

bool tls_held_is_part(const struct tls_held *held, size_t more)
{
    size_t size = record_size(held);
    return size <= TLS_HELD_RECORD_MAX && tls_held_in(held) + more < size;
}

static int make(struct tls_held **held)
{
    if (*held == NULL)
        *held = mem_zalloc(sizeof(**held));
    return *held == NULL ? -ENOMEM : 0;
}

int tls_held_add_in(struct tls_held **held, const void *bytes, size_t n, uint64_t since)
{
    if (make(held) < 0)
        return -ENOMEM;
    (*held)->since = since;
    return buf_append(&(*held)->in, bytes, n);
}

int tls_held_add_out(struct tls_held **held, const void *bytes, size_t n)
{
    return make(held) < 0 ? -ENOMEM : buf_append(&(*held)->out, bytes, n);
}

void tls_held_tidy(struct tls_held **held)
{
    if (*held != NULL && buf_len(&(*held)->in) == 0 && buf_len(&(*held)->out) == 0)
        tls_held_free(held);
}

void tls_held_free(struct tls_held **held)
{
    if (*held == NULL)
        return;
    buf_deinit(&(*held)->in);
    buf_deinit(&(*held)->out);
    *held = mem_free(*held);
}

void tls_held_save(const struct tls_held *held, struct pack *pack)
{
    struct span in = {0}, out = {0};
    if (held != NULL) {
        in = (struct span){buf_data(&held->in), buf_len(&held->in)};
        out = (struct span){buf_data(&held->out), buf_len(&held->out)};
    }
    pack_bytes(pack, in);
    pack_bytes(pack, out);
}

int tls_held_restore(struct tls_held **held, struct unpack *unpack, uint64_t now)
{
    struct span in = unpack_bytes(unpack), out = unpack_bytes(unpack);
    if (unpack->bad || in.n > TLS_HELD_RECORD_MAX || out.n > OUT_MAX)
        return -EBADMSG;
    int r = in.n == 0 ? 0 : tls_held_add_in(held, in.p, in.n, now);
    return r < 0 || out.n == 0 ? r : tls_held_add_out(held, out.p, out.n);
}
