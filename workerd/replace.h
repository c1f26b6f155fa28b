#pragma once

/* Replacing this process by its successor, on SIGUSR2 (takeover.h is the other side). */

#include <stdbool.h>

struct workerd;

/* As workerd_handle_sigusr2(). */
int replace_init(struct workerd *worker, char *const *argv);

/* SIGUSR2 has come. */
void replace_asked(struct workerd *worker);

/* The worker stops: its successor is not to serve. Where `at_once`, it is not waited for. */
void replace_cancel(struct workerd *worker, bool at_once);
