/* What is counted against clients that cost much and bring nothing. */

#include "frontd/codec/h2_conn_internal.h"

uint32_t h2_time_left(uint32_t until, uint64_t now, uint32_t most_ms)
{
    uint32_t left = until - (uint32_t)now;
    return left <= most_ms ? left : 0;
}

/* Counts one more in what is forgotten at a rate. most: the last that is none too many. Returns how
 * many are counted now. */
static uint32_t count(uint32_t *until, uint64_t now, uint32_t most)
{
    uint32_t left = h2_time_left(*until, now, (most + 1) * H2_COST_MS) + H2_COST_MS;
    *until = (uint32_t)now + left;
    return (left + H2_COST_MS - 1) / H2_COST_MS;
}

enum h2_fault h2_count_glitch(struct h2_conn *conn, uint64_t now)
{
    uint32_t glitches = count(&conn->glitches_until, now, H2_GLITCHES_MAX);
    if (glitches >= H2_GLITCHES_LEAVE && !conn->going)
        conn->leave = true;
    return glitches > H2_GLITCHES_MAX ? H2_FAULT_GLITCHES : H2_OK;
}

enum h2_fault h2_count_spare(struct h2_conn *conn, uint64_t now)
{
    if (conn->spare == 0)
        return h2_count_glitch(conn, now);
    conn->spare--;
    return H2_OK;
}

void h2_earn_spare(struct h2_conn *conn)
{
    conn->spare = (uint16_t)MIN(conn->spare + H2_SPARE_EACH, (int)H2_SPARE_MAX);
}

enum h2_fault h2_count_reset(struct h2_conn *conn, uint64_t now)
{
    return count(&conn->resets_until, now, H2_RESETS_MAX) > H2_RESETS_MAX ? H2_FAULT_RESETS : H2_OK;
}

enum h2_fault h2_count_queued(struct h2_conn *conn)
{
    if (conn->queued == H2_QUEUED_MAX)
        return H2_FAULT_QUEUED;
    conn->queued++;
    return H2_OK;
}
