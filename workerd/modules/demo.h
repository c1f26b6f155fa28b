#pragma once

/* The parts of the demo module. */

#include <stddef.h>

#include "workerd/workerd.h"

/* demo_chat.c: registers demo.join, demo.say, demo.leave, demo.ask and frontd.message. Returns 0 or
 * -errno. */
int demo_chat_init(struct workerd *worker);

/* docs/chat.html, compiled in (embed.py). */
extern const char demo_page[];
extern const size_t demo_page_size;

/*
 * One of the params: by name in an object, by its place in an array; absent where it is not there.
 */
struct workerd_text demo_param(const struct workerd_call *call, const char *name, size_t place);

/* Ends the call with -32602. */
void demo_invalid_params(struct workerd_call *call, const char *message);
