#pragma once

/* The token of the admin address: read by the supervisor, handed to the admin process. */

#include <sys/types.h>

#include "frontd/config/config.h"
#include "frontd/config/findings.h"

enum {
    ADMIN_TOKEN_MAX = 1024, /* bytes; it is a field of a request, whose head has to fit */
    ADMIN_TOKEN_SHORT = 16, /* bytes, below which it can be guessed */
};

/*
 * Reads and checks the file that `admin.token_file` names: a token of RFC 6750 section 2.1, with
 * one line end at most behind it. conf_name: of the config, for messages of the form "FILE:LINE:
 * KEY: what is wrong". findings: `odd` is told where others may read the file, and of a short
 * token; NULL: nothing is.
 *
 * ret_fd: a sealed memfd with the token alone, close-on-exec, the caller's; -1 where the config
 * names no file. NULL: the file is only looked at, and one that may not be read is told to `odd`.
 *
 * Where there is a token, this process leaves no core dump from then on (privileges_hide()).
 *
 * Returns 0, or -errno with a message in `error`.
 */
int admin_token_load(const char *conf_name, const struct conf *conf,
    const struct conf_findings *findings, int *ret_fd, char *error, size_t error_size);

/* The bytes of a token at the start of a text: all but a line end; 0 where it is none. Pure. */
size_t admin_token_length(const char *text, size_t n);
