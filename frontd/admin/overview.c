#include "frontd/admin/overview.h"

const char *const overview_questions[OVERVIEW_QUESTIONS] = {
    "status", "pools", "workers", "slow_clients", "busy_clients"};

void overview_write(uint64_t at, const struct span results[OVERVIEW_QUESTIONS], struct span metrics,
    struct json_writer *out)
{
    json_begin(out, NULL, '{');
    json_add_number(out, "at", at);
    for (size_t i = 0; i < OVERVIEW_QUESTIONS; i++)
        json_add_raw(out, overview_questions[i], results[i].n == 0 ? SPAN("null") : results[i]);
    json_add_span(out, "metrics", metrics);
    json_end(out, '}');
}
