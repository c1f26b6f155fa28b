#pragma once

/* The config as a file: read, then parsed. */

#include "common/buf.h"
#include "frontd/config/config.h"
#include "frontd/config/findings.h"

/*
 * Loads a config. Returns 0 with *ret_text (its text, buf_deinit()) and *ret_conf (conf_free()),
 * or -errno with a message that names the file in `error`.
 */
int conf_file_load(
    const char *path, struct buf *ret_text, struct conf **ret_conf, char *error, size_t error_size);

/* As conf_file_load(), with findings: see conf_try(). */
int conf_file_try(const char *path, const struct conf_findings *findings, struct buf *ret_text,
    struct conf **ret_conf, char *error, size_t error_size);

/*
 * As conf_file_try(), from an open descriptor (borrowed), read from its start; name: for messages.
 */
int conf_file_try_fd(int fd, const char *name, const struct conf_findings *findings,
    struct buf *ret_text, struct conf **ret_conf, char *error, size_t error_size);
