#include "workerd/stream.h"

#include "common/alloc.h"

struct stream *stream_new(struct workerd_call *call)
{
    struct stream *stream = mem_zalloc(sizeof(*stream));
    if (stream == NULL)
        return NULL;
    stream->call = call;
    list_init(&stream->waiting);
    return stream;
}

struct stream *stream_free(struct stream *stream)
{
    if (stream == NULL)
        return NULL;
    list_remove(&stream->waiting);
    buf_deinit(&stream->gathered);
    mem_free(stream);
    return NULL;
}

bool stream_came(struct stream *stream, size_t n)
{
    if (n > STREAM_WINDOW - stream->held - stream->taken)
        return false;
    stream->held += (uint32_t)n;
    return true;
}

uint32_t stream_took(struct stream *stream, size_t n)
{
    size_t of_first = MIN(n, (size_t)stream->first);
    uint32_t of_data = (uint32_t)MIN(n - of_first, (size_t)stream->held);
    stream->first -= (uint32_t)of_first;
    stream->held -= of_data;
    stream->taken += of_data;
    if (stream->taken < STREAM_WINDOW_STEP || !stream->coming)
        return 0;
    uint32_t told = stream->taken;
    stream->taken = 0;
    return told;
}

void stream_credit(struct stream *stream, uint64_t n)
{
    stream->room = (uint32_t)MIN(stream->room + n, (uint64_t)UINT32_MAX);
}
