#pragma once

/* Memory of what compresses and inflates: it comes from common/alloc.h, and is known by itself. */

#include "common/base.h"

/* As mem_zalloc() and mem_free(). */
void *coding_take(size_t size);
void *coding_give(void *object);

/* Bytes that are on loan from coding_take(), as mem_in_use() counts them. */
size_t coding_held(void);
