#pragma once

#include <stdbool.h>
#include <stddef.h>

/*
 * Has libcrypto and libssl overwrite all memory that they give back. By themselves they leave keys
 * in some of it: the traffic secrets in a connection's struct, the session in what became a ticket.
 * Before anything else of the two is called. Returns false where something has been called already
 * (by a library that is loaded before all others, say): then nothing changes.
 */
bool crypto_memory_wipe(void);

/* What that hands to CRYPTO_set_mem_functions(): as malloc(), realloc() and free(). */
void *crypto_memory_take(size_t size, const char *file, int line);
void *crypto_memory_change(void *memory, size_t size, const char *file, int line);
void crypto_memory_give_back(void *memory, const char *file, int line);
