#pragma once

/*
 * How a program proves that it is frontd before it takes the place of the one that runs: asked with
 * a random token, it answers with a line of which the end is a keyed hash of the token and of what
 * the line says. Not a secret, since a user who may put a program there may put any; but no other
 * program answers so by accident.
 *
 *     frontd VERSION process P state S: ANSWER
 *
 * P: its process id. The one that was executed has to be frontd itself: a script that has frontd as
 * a child would leave shards and the service manager with the script. S: the versions of the
 * supervisor's state that it can read, with commas between them. The line is read by other versions
 * of this program: it stays as it is.
 */

#include <sys/types.h>

#include "common/base.h"

/*
 * Of the supervisor's state (reexec_state.h). A program reads its own version only, and says so
 * before it is executed. Members may be added without a new one.
 */
enum { STATE_VERSION = 1 };

enum {
    IDENTITY_TOKEN_SIZE = 33, /* 32 hexadecimal digits */
    IDENTITY_LINE_MAX = 160,  /* bytes, without the line's end */
};

enum identity {
    IDENTITY_UNKNOWN, /* the line is no proof of anything */
    IDENTITY_OTHER,   /* frontd, which cannot read a state of that version */
    IDENTITY_CHILD,   /* frontd, but not the process that was executed */
    IDENTITY_FRONTD,
};

/* Makes a token that was never used before. */
void identity_make_token(char token[IDENTITY_TOKEN_SIZE]);

/* This program's line for a token, NUL-terminated. */
void identity_write(const char *token, char line[IDENTITY_LINE_MAX + 1]);

/*
 * What a line (without its end) says of the program that wrote it when asked with that token, as
 * the process `pid`.
 */
enum identity identity_read(struct span line, const char *token, pid_t pid, unsigned state_version);
