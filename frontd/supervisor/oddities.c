#include "frontd/supervisor/oddities.h"

#include <string.h>

#include "common/log.h"

void oddities_keep(void *data, const char *text)
{
    struct buf *oddities = data;
    (void)!buf_append(oddities, text, strlen(text) + 1);
}

void oddities_tell(struct buf *oddities)
{
    const char *text = oddities->memory == NULL ? NULL : buf_data(oddities);
    for (size_t at = 0; text != NULL && at < buf_len(oddities); at += strlen(text + at) + 1)
        log_warning("%s", text + at);
    buf_deinit(oddities);
}
