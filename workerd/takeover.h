#pragma once

/*
 * Taking over from a worker that replaces itself by this process, which was given one end of a pair
 * for that (handover.h); replace.h is the other side.
 */

struct workerd;

/*
 * Takes the listening socket that was offered, if this process is a successor. Returns 1 where it
 * is, 0 where not, or -errno with the reason in the log. It must not accept before it may.
 */
int takeover_begin(struct workerd *worker);

/* Says READY; with GO, or when the old process dies, the worker accepts. Returns 0 or -errno. */
int takeover_ready(struct workerd *worker);

/* The worker stops or is freed: it takes over no more, unless GO is here already. */
void takeover_settle(struct workerd *worker);
