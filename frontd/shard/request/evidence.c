#include "frontd/shard/request/evidence.h"

#include <stdio.h>

static int limit(struct span text, size_t most)
{
    return (int)MIN(text.n, most);
}

void evidence_show_head(struct ctx *ctx, const struct http_head *head)
{
    static char text[INCIDENT_BYTES];
    const size_t most = INCIDENT_BYTES / 4;
    int n = snprintf(text, sizeof(text), "%.*s %.*s%s%.*s\r\nHost: %.*s\r\n",
        limit(head->method_text, 32), head->method_text.p, limit(head->path, most), head->path.p,
        head->query.n > 0 ? "?" : "", limit(head->query, most), head->query.p,
        limit(head->authority, most), head->authority.p);
    incident_show(ctx, INCIDENT_TEXT, (struct span){text, (size_t)n});
}
