#pragma once

/* Has a child of the binary on disk look at the config: whether it runs at all, and what it says.
 */

#include <sys/types.h>
#include <uv.h>

#include "common/base.h"

enum { CHECK_TEXT_MAX = 1024 /* bytes of its output that are kept */ };

struct check {
    uv_poll_t *output; /* of fd */
    int fd;            /* what it writes; -1: none */
    pid_t pid;         /* -1: none runs */
    char text[CHECK_TEXT_MAX + 1];
    size_t n;
};

/* Nothing runs. */
void check_init(struct check *check);

/* Starts `exe --check -c conf_name`; no other may run. Returns 0 or -errno. */
int check_start(struct check *check, uv_loop_t *loop, const char *exe, const char *conf_name);

/* Its process has ended: check->text is what it said (without the last line's end). */
void check_ended(struct check *check);

/* Kills it; check_ended() still follows. */
void check_kill(struct check *check);
