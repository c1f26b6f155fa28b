#include "frontd/admin/metrics_text.h"

#include <inttypes.h>
#include <string.h>

#include "frontd/ipc/metrics.h"

/* A counter with its help; its samples end in _total, in either form. */
static int put(const struct metrics_query *query, const char *name, const char *help,
    uint64_t value, struct buf *out)
{
    char family[128];
    snprintf(family, sizeof(family), "frontd_%s", name);
    if (query->prefix.n > strlen(family) + strlen("_total"))
        return 0;
    char sample[160];
    snprintf(sample, sizeof(sample), "%s_total", family);
    if (strncmp(sample, query->prefix.p == NULL ? "" : query->prefix.p, query->prefix.n) != 0)
        return 0;
    return buf_printf(out, "# HELP %s %s\n# TYPE %s counter\n%s %" PRIu64 "\n",
        query->openmetrics ? family : sample, help, query->openmetrics ? family : sample, sample,
        value);
}

int metrics_text(
    const struct metrics_source *source, const struct metrics_query *query, struct buf *out)
{
    struct share_sums sums = share_sums(source->share);
    int r = 0;
#define METRIC_PUT(name, kind, help)                                                               \
    if (r == 0)                                                                                    \
        r = put(query, #name, help, sums.name, out);
    METRICS(METRIC_PUT)
#undef METRIC_PUT
    if (r == 0 && query->openmetrics)
        r = buf_printf(out, "# EOF\n");
    return r;
}
