#pragma once

/*
 * The admin process: a child of the supervisor, without privileges, that serves metrics, health and
 * the dashboard over HTTP. It maps the shared memory to be read only, and asks the supervisor for
 * what is not in there. Nothing waits for it, and nothing but what it serves is lost with it.
 */

/*
 * The filter of system calls, which shards have, too (frontd/shard/sandbox.h has what each does).
 * It is handed in, since this folder does not know that of shards.
 */
struct admin_sandbox {
    int (*without_rings)(void);
    int (*enter)(void);
    _Bool (*has_news)(void);
    void (*tell)(void);
};

/* Runs until the supervisor wants it to end. Returns the exit status. */
int admin_run(const struct admin_sandbox *sandbox);
