#pragma once

/*
 * Has a child of a program, that on disk or this one, look at the config: whether it runs at all,
 * whether it is frontd (identity.h), and what it says.
 */

#include <sys/stat.h>
#include <sys/types.h>
#include <uv.h>

#include "common/base.h"
#include "frontd/supervisor/identity.h"

enum { CONFIG_CHECK_TEXT_MAX = 1024 /* bytes of its output that are kept */ };

struct config_check {
    uv_poll_t *output; /* of fd */
    int fd;            /* what it writes; -1: none */
    pid_t pid;         /* -1: none runs */
    struct stat file;  /* the binary, before it was executed */
    char token[IDENTITY_TOKEN_SIZE];
    enum identity identity;
    char line[IDENTITY_LINE_MAX]; /* that has begun, as long as it may be the proof */
    size_t line_len;
    bool line_long; /* the line is too long to be the proof: its bytes go to `text` at once */
    char text[CONFIG_CHECK_TEXT_MAX + 1];
    size_t n;
};

/* Nothing runs. */
void config_check_init(struct config_check *check);

/* Starts `exe --check -c conf_name --identify TOKEN`; no other may run. Returns 0 or -errno. */
int config_check_start(
    struct config_check *check, uv_loop_t *loop, const char *exe, const char *conf_name);

/*
 * Its process has ended: check->text is what it said (without the last line's end, and without its
 * proof), check->identity what it is.
 */
void config_check_ended(struct config_check *check);

/* Whether the binary is still the file that was checked, as far as stat() can tell. */
bool config_check_is_current(const struct config_check *check, const char *exe);

/* Kills it; config_check_ended() still follows. */
void config_check_kill(struct config_check *check);
