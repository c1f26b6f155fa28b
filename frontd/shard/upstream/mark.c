#include "frontd/shard/upstream/mark.h"

#include <string.h>
#include <strings.h>

#include "common/random.h"
#include "common/token.h"

void marks_init(struct marks *marks, struct ctx *ctx)
{
    const struct conf *conf = ctx->conf;
    if (conf->request_id == NULL && conf->tracing == NULL && conf->access_log == NULL)
        return;
    const size_t without_id = offsetof(struct mark, field);
    slab_init(&marks->slab, conf->request_id == NULL ? without_id : sizeof(struct mark));
    random_bytes(marks->random, sizeof(marks->random));
    marks->random[0] |= 1; /* not all of it may be 0 */
    ctx->marks = marks;
}

void marks_deinit(struct marks *marks, struct ctx *ctx)
{
    if (ctx->marks != NULL)
        slab_deinit(&marks->slab);
    ctx->marks = NULL;
}

static uint64_t rotate(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

/* xoshiro256** (Blackman and Vigna). */
uint64_t marks_random(struct ctx *ctx)
{
    uint64_t *s = ctx->marks->random;
    uint64_t result = rotate(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

/* The only field of that name; NULL where there is none, or another one. */
static const struct http_field *find_only(const struct http_head *head, struct span lower)
{
    const struct http_field *field = head == NULL ? NULL : http_head_find(head, lower);
    for (const struct http_field *next = field == NULL ? NULL : field + 1;
         field != NULL && next < head->fields + head->nfields; next++) {
        if (next->name.n == lower.n && strncasecmp(next->name.p, lower.p, lower.n) == 0)
            return NULL;
    }
    return field;
}

static void set_id(struct ctx *ctx, struct mark *mark, const struct http_head *head)
{
    const char *name = ctx->conf->request_id;
    struct span lower = {name, strlen(name)};
    const struct http_field *field = find_only(head, lower);
    char *p = mark->field;
    memcpy(p, lower.p, lower.n);
    memcpy(p + lower.n, ": ", 2);
    mark->id_at = (uint8_t)(lower.n + 2);
    p += mark->id_at;
    if (field != NULL && field->value.n <= MARK_ID_MAX &&
        token_valid(field->value.p, field->value.n)) {
        memcpy(p, field->value.p, field->value.n);
        p += field->value.n;
    } else {
        const uint64_t random[2] = {marks_random(ctx), marks_random(ctx)};
        traceparent_hex((const uint8_t *)random, sizeof(random), p);
        p += MARK_ID_MADE;
    }
    memcpy(p, "\r\n", 2);
    mark->field_n = (uint16_t)(p + 2 - mark->field);
}

/*
 * A caller that records its part decides for this one too, unless the config says otherwise; where
 * it does not, or there is no caller, the trace's id does.
 */
static bool is_sampled(
    const struct conf_tracing *conf, const struct traceparent *trace, bool has_parent)
{
    if (has_parent && conf->parent)
        return trace->flags & TRACEPARENT_SAMPLED;
    return traceparent_drawn(trace, conf->threshold);
}

static void set_trace(struct ctx *ctx, struct mark *mark, const struct http_head *head)
{
    const struct http_field *field = find_only(head, SPAN("traceparent"));
    struct traceparent *trace = &mark->trace;
    bool has_parent = field != NULL && traceparent_read(field->value, trace);
    if (!has_parent) {
        const uint64_t random[2] = {marks_random(ctx), marks_random(ctx) | 1}; /* not all 0 */
        memcpy(trace->trace, random, sizeof(trace->trace));
        trace->flags = TRACEPARENT_RANDOM;
    }
    bool sampled = is_sampled(ctx->conf->tracing, trace, has_parent);
    trace->flags = (uint8_t)((trace->flags & TRACEPARENT_RANDOM) |
                             (sampled ? TRACEPARENT_SAMPLED : 0));
    mark->traced = true;
    mark->wanted |= sampled;
    mark->continued = has_parent;
}

/* Whether a request is one of those that have a line in the access log. */
static bool is_logged(struct ctx *ctx)
{
    const struct conf_access_log *log = ctx->conf->access_log;
    return log != NULL && marks_random(ctx) >> 32 < log->sample;
}

struct mark *mark_new(struct ctx *ctx, const struct http_head *head)
{
    bool logged = is_logged(ctx);
    if (!logged && ctx->conf->request_id == NULL && ctx->conf->tracing == NULL)
        return NULL;
    struct mark *mark = slab_get(&ctx->marks->slab);
    if (mark == NULL)
        return NULL;
    mark->refs = 1;
    mark->logged = mark->wanted = logged;
    if (ctx->conf->request_id != NULL)
        set_id(ctx, mark, head);
    if (ctx->conf->tracing != NULL)
        set_trace(ctx, mark, head);
    return mark;
}

void mark_put(struct ctx *ctx, struct mark *mark)
{
    if (LIKELY(mark == NULL) || --mark->refs > 0)
        return;
    CHECK(mark->access == NULL);
    slab_put(&ctx->marks->slab, mark);
}
