#pragma once

/* Bytes from the kernel's random generator, for keys. CHECKs that they are available. */

#include "common/base.h"

void random_bytes(void *out, size_t n);

/* `n` bytes as 2n lower-case hexadecimal digits and a NUL. */
void random_hex(char *out, size_t n);
