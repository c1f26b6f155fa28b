#include "frontd/ipc/trace_record.h"

#include <errno.h>

#include "common/pack.h"

enum { TAG = 1, VERSION = 1, NS_A_US = 1000 };

int trace_record_pack(struct buf *out, const struct trace_record *record)
{
    size_t before = buf_len(out);
    struct pack pack = {.out = out};
    size_t begun = pack_begin(&pack, TAG, VERSION);
    pack_raw(&pack, record->trace, sizeof(record->trace));
    pack_raw(&pack, record->span, sizeof(record->span));
    pack_raw(&pack, record->parent, sizeof(record->parent));
    pack_u64(&pack, record->start);
    pack_u64(&pack, record->duration);
    pack_u64(&pack, record->queued);
    pack_u64(&pack, record->conn);
    pack_u32(&pack, (uint32_t)record->error);
    pack_u16(&pack, record->status);
    pack_u8(&pack, record->flags);
    pack_u8(&pack, record->failed);
    for (size_t i = 0; i < TRACE_TEXTS; i++)
        pack_bytes(&pack,
            (struct span){record->texts[i].p, MIN(record->texts[i].n, (size_t)TRACE_TEXT_MAX)});
    pack_end(&pack, begun);
    if (!pack.failed)
        return 0;
    buf_truncate(out, before);
    return -ENOMEM;
}

static bool read_body(struct unpack *body, struct trace_record *ret)
{
    struct trace_record record = {.flags = 0};
    unpack_raw(body, record.trace, sizeof(record.trace));
    unpack_raw(body, record.span, sizeof(record.span));
    unpack_raw(body, record.parent, sizeof(record.parent));
    record.start = unpack_u64(body);
    record.duration = unpack_u64(body);
    record.queued = unpack_u64(body);
    record.conn = unpack_u64(body);
    record.error = (int32_t)unpack_u32(body);
    record.status = unpack_u16(body);
    record.flags = unpack_u8(body);
    record.failed = unpack_flag(body);
    bool fits = true;
    for (size_t i = 0; i < TRACE_TEXTS; i++) {
        record.texts[i] = unpack_bytes(body);
        fits &= record.texts[i].n <= TRACE_TEXT_MAX;
    }
    /* Its end is a number of ns in 64 bits where it goes: a collector that is told a larger one
     * refuses all that comes with it. */
    if (unpack_end(body) != 0 || !fits || record.start > UINT64_MAX / NS_A_US ||
        record.duration > UINT64_MAX / NS_A_US - record.start || record.queued > record.duration)
        return false;
    *ret = record;
    return true;
}

bool trace_record_next(struct span *message, struct trace_record *ret, bool *ret_bad)
{
    struct unpack unpack = {.left = *message};
    struct unpack_section section;
    *ret_bad = false;
    while (unpack_section(&unpack, &section)) {
        *message = unpack.left;
        if (section.tag != TAG || section.version != VERSION)
            continue;
        *ret_bad = !read_body(&section.body, ret);
        return !*ret_bad;
    }
    *ret_bad = unpack.bad;
    return false;
}
