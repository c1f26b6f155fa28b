#include "frontd/supervisor/rotation.h"

#include <string.h>

#include "common/log.h"
#include "frontd/supervisor/generation.h"
#include "frontd/supervisor/shard_setup.h"

enum { AGAIN_MS = 10 * 1000 /* without memory for keys: the next try */ };

/* The longest lifetime of all listeners, 0: none has tickets. */
static uint64_t longest(const struct front *front)
{
    uint64_t lifetime = 0;
    for (size_t g = 0; g < FRONT_GENERATIONS; g++) {
        if (front->generations[g] != NULL)
            lifetime = MAX(lifetime, generation_tickets(front->generations[g]));
    }
    return lifetime;
}

/* One that does not take them has older ones: its clients' handshakes are full ones then. */
static void tell(struct shard_process *process)
{
    int r = shard_setup_tickets(process);
    if (r < 0)
        log_warning("%s: cannot tell it the keys of session tickets: %s",
            shard_process_name(process), strerror(-r));
}

static void tell_all(const struct front *front)
{
    for (size_t g = 0; g < FRONT_GENERATIONS; g++) {
        struct generation *generation = front->generations[g];
        for (uint32_t i = 0; generation != NULL && i < generation->nprocesses; i++) {
            if (generation->processes[i].sock >= 0)
                tell(&generation->processes[i]);
        }
    }
}

static void on_due(uv_timer_t *timer)
{
    rotation_renew(timer->data, false);
}

void rotation_init(struct rotation *rotation, struct front *front)
{
    rotation->front = front;
    CHECK(uv_timer_init(&front->loop, &rotation->timer) == 0);
    rotation->timer.data = rotation;
}

void rotation_renew(struct rotation *rotation, bool all)
{
    struct front *front = rotation->front;
    uint64_t lifetime = longest(front);
    bool changed = ticket_ring_step(&front->tickets, lifetime);
    if (lifetime > 0 && ticket_ring_count(&front->tickets) == 0)
        log_error("there is no memory for the keys of session tickets: every handshake is a full "
                  "one for now");
    if (changed || all)
        tell_all(front);
    uint64_t due = ticket_ring_due(&front->tickets, lifetime);
    if (due == UINT64_MAX)
        uv_timer_stop(&rotation->timer);
    else /* a millisecond later, since this clock and the loop's are rounded by themselves */
        uv_timer_start(&rotation->timer, on_due, due == 0 ? (uint64_t)AGAIN_MS : due + 1, 0);
}

void rotation_close(struct rotation *rotation)
{
    uv_close((uv_handle_t *)&rotation->timer, NULL);
    ticket_ring_deinit(&rotation->front->tickets);
}
