#include "frontd/shard/net/incident.h"

#include <string.h>

void incidents_init(struct incidents *incidents)
{
    *incidents = (struct incidents){0};
}

void incidents_deinit(struct incidents *incidents)
{
    for (size_t i = 0; i < ARRAY_LEN(incidents->listeners); i++)
        incidents->listeners[i] = mem_free(incidents->listeners[i]);
}

/* The place of that kind: where it was, one that is free, or that of the oldest. */
static struct incident *place_of(struct incident *all, const char *what)
{
    struct incident *oldest = &all[0];
    for (size_t i = 0; i < INCIDENT_KINDS; i++) {
        if (all[i].what == what)
            return &all[i];
        if (oldest->what != NULL && (all[i].what == NULL || all[i].at < oldest->at))
            oldest = &all[i];
    }
    *oldest = (struct incident){.what = what};
    return oldest;
}

void incident_note(const struct ctx *ctx, const struct conf_listener *listener,
    const struct peer *peer, const char *what, const char *detail)
{
    struct incidents *incidents = ctx->incidents;
    size_t i = (size_t)(listener - ctx->conf->listeners);
    struct incident **all = &incidents->listeners[i];
    if (*all == NULL)
        *all = mem_zalloc(INCIDENT_KINDS * sizeof(**all));
    if (*all == NULL)
        return;
    struct incident *incident = place_of(*all, what);
    struct evidence *evidence = &incidents->evidence;
    incident->at = ctx_now(ctx);
    incident->count++;
    incident->detail = detail;
    incident->peer = *peer;
    incident->form = (uint8_t)evidence->form;
    incident->of = (uint32_t)MIN(evidence->bytes.n, (size_t)UINT32_MAX);
    incident->n = MIN(incident->of, (uint32_t)INCIDENT_BYTES);
    if (incident->n > 0)
        memcpy(incident->bytes, evidence->bytes.p, incident->n);
}

static void keep_name(char out[static INCIDENT_NAME], struct span name)
{
    size_t n = MIN(name.n, (size_t)INCIDENT_NAME - 1);
    memset(out, 0, INCIDENT_NAME);
    if (n > 0)
        memcpy(out, name.p, n);
}

void incident_note_worker(const struct ctx *ctx, const char *pool, const char *worker,
    struct span method, const char *frame, const char *what, int error)
{
    struct worker_incident *all = ctx->incidents->workers;
    struct worker_incident *place = &all[0];
    char name[INCIDENT_NAME];
    keep_name(name, (struct span){worker, strlen(worker)});
    for (size_t i = 0; i < INCIDENT_WORKERS; i++) {
        struct worker_incident *one = &all[i];
        if (one->what == what && one->frame == frame && strcmp(one->worker, name) == 0) {
            place = one;
            break;
        }
        if (place->what != NULL && (one->what == NULL || one->at < place->at))
            place = one;
    }
    if (place->what != what || place->frame != frame || strcmp(place->worker, name) != 0)
        *place = (struct worker_incident){.what = what, .frame = frame};
    memcpy(place->worker, name, sizeof(name));
    keep_name(place->method, method);
    place->at = ctx_now(ctx);
    place->count++;
    place->pool = pool;
    place->error = error;
}
