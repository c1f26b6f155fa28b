#pragma once

/* JSON text, written piece by piece. */

#include "common/buf.h"

/*
 * Appends a JSON string. The bytes are taken as Latin-1, which is what HTTP field values are:
 * those from 0x80 up become the characters of that number. Returns 0 or -ENOMEM.
 */
int json_put_latin1(struct buf *out, struct span text);

/* Appends the text as it is. Returns 0 or -ENOMEM. */
int json_put_raw(struct buf *out, const char *text);
