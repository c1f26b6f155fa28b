#pragma once

/* Replacing this process by its successor, on SIGUSR2 (takeover.h is the other side). */

#include <stdbool.h>

struct workerd;

/* As workerd_handle_sigusr2(). */
int replace_init(struct workerd *worker, char *const *argv);

/* SIGUSR2 has come. */
void replace_asked(struct workerd *worker);

/* Ends the successor, since the worker stops. at_once: with SIGKILL, and it is not waited for. */
void replace_cancel(struct workerd *worker, bool at_once);
