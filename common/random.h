#pragma once

/* What nobody can guess. CHECKs that the kernel has randomness. */

#include "common/base.h"

void random_bytes(void *out, size_t n);

/* `n` bytes as 2n lower-case hexadecimal digits and a NUL. */
void random_hex(char *out, size_t n);
