#pragma once

/* A shard process. */

/* Runs on the control socket (descriptor 3) until told to stop. Returns the exit status. */
int shard_run(void);
