/* `errors`: what was refused last on each listener, and what workers did wrongly last. Each step
 * writes those of one listener. */

#include <string.h>

#include "frontd/shard/inspect/fault_at.h"
#include "frontd/shard/inspect/mask.h"
#include "frontd/shard/inspect/params.h"
#include "frontd/shard/net/incident.h"

struct errors {
    uint32_t listener; /* the next one */
};

static int begin(struct question *question, struct span params)
{
    (void)params;
    json_begin(&question->answer, NULL, '{');
    json_begin(&question->answer, "listeners", '[');
    return 0;
}

/* Bytes as a text that can be read and whose offsets can be counted: \r, \n, \t, \\, \xNN. */
static void put_bytes(struct json_writer *writer, const char *key, const char *bytes, size_t n)
{
    static const char hex[] = "0123456789abcdef";
    static const char specials[] = "\r\n\t\\";
    char text[4 * INCIDENT_BYTES];
    char *p = text;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)bytes[i];
        const char *special = c == '\0' ? NULL : strchr(specials, c);
        if (special != NULL || c < 0x20 || c >= 0x7f)
            *p++ = '\\';
        if (special != NULL) {
            *p++ = "rnt\\"[special - specials];
        } else if (c < 0x20 || c >= 0x7f) {
            *p++ = 'x';
            *p++ = hex[c >> 4];
            *p++ = hex[c & 15];
        } else {
            *p++ = (char)c;
        }
    }
    json_add_span(writer, key, (struct span){text, (size_t)(p - text)});
}

static size_t offset_of(const struct ctx *ctx, const struct incident *incident)
{
    const struct http1_limits limits = {
        .head_bytes = ctx->conf->limits.header, .fields = ctx->conf->limits.headers};
    struct span bytes = {incident->bytes, incident->n};
    switch ((enum incident_form)incident->form) {
    case INCIDENT_HTTP1: return fault_at_http1(bytes, &limits);
    case INCIDENT_JSON: return fault_at_json(bytes);
    default: return incident->n;
    }
}

static void write_bytes(
    struct json_writer *writer, const struct ctx *ctx, const struct incident *incident)
{
    char bytes[INCIDENT_BYTES];
    size_t offset = offset_of(ctx, incident);
    memcpy(bytes, incident->bytes, incident->n);
    if (incident->form == INCIDENT_HTTP1 || incident->form == INCIDENT_TEXT)
        mask_http(bytes, incident->n);
    else if (incident->form == INCIDENT_JSON)
        mask_json(bytes, incident->n);
    /* Of frames only the first few bytes are shown: payloads have no form that is known. */
    size_t n = incident->form == INCIDENT_FRAMES ? MIN(incident->n, 16U) : incident->n;
    put_bytes(writer, "bytes", bytes, n);
    json_add_number(writer, "length", incident->of);
    if (offset < incident->n)
        json_add_number(writer, "offset", offset);
}

static void write_incident(
    struct json_writer *writer, const struct ctx *ctx, const struct incident *incident)
{
    char peer[PEER_TEXT_SIZE];
    json_begin(writer, NULL, '{');
    json_add_text(writer, "what", incident->what);
    if (incident->detail != NULL)
        json_add_text(writer, "detail", incident->detail);
    json_add_number(writer, "count", incident->count);
    json_add_number(writer, "age_ms", ctx_now(ctx) - incident->at);
    peer_text(&incident->peer, peer);
    json_add_text(writer, "peer", peer);
    if (incident->n > 0)
        write_bytes(writer, ctx, incident);
    json_end(writer, '}');
}

static void write_listener(struct json_writer *writer, const struct ctx *ctx, uint32_t i)
{
    const struct incident *all = ctx->incidents->listeners[i];
    if (all == NULL)
        return;
    json_begin(writer, NULL, '{');
    json_add_text(writer, "listener", ctx->conf->listeners[i].name);
    json_begin(writer, "refused", '[');
    for (size_t k = 0; k < INCIDENT_KINDS; k++) {
        if (all[k].what != NULL)
            write_incident(writer, ctx, &all[k]);
    }
    json_end(writer, ']');
    json_end(writer, '}');
}

static void write_worker(
    struct json_writer *writer, const struct ctx *ctx, const struct worker_incident *one)
{
    json_begin(writer, NULL, '{');
    json_add_text(writer, "pool", one->pool);
    json_add_text(writer, "worker", one->worker);
    if (one->method[0] != '\0')
        json_add_text(writer, "method", one->method);
    if (one->frame != NULL)
        json_add_text(writer, "frame", one->frame);
    json_add_text(writer, "what", one->what);
    if (one->error != 0)
        json_add_integer(writer, "error", one->error);
    json_add_number(writer, "count", one->count);
    json_add_number(writer, "age_ms", ctx_now(ctx) - one->at);
    json_end(writer, '}');
}

static enum question_step step(struct question *question)
{
    struct errors *errors = question_own(question);
    struct json_writer *writer = &question->answer;
    const struct ctx *ctx = question->ctx;
    if (errors->listener < ctx->conf->nlisteners) {
        write_listener(writer, ctx, errors->listener++);
        return QUESTION_MORE;
    }
    json_end(writer, ']');
    json_begin(writer, "workers", '[');
    for (size_t i = 0; i < INCIDENT_WORKERS; i++) {
        if (ctx->incidents->workers[i].what != NULL)
            write_worker(writer, ctx, &ctx->incidents->workers[i]);
    }
    json_end(writer, ']');
    json_end(writer, '}');
    return QUESTION_ANSWERED;
}

const struct question_ops errors_question = {
    .size = sizeof(struct errors),
    .begin = begin,
    .step = step,
};
