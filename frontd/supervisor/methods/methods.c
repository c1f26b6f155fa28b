#include "frontd/supervisor/methods/methods.h"

#include <errno.h>

#include "proto/errors.h"
#include "proto/json_read.h"

const struct control_method methods_all[] = {
    {"status", true, method_status},
    {"conns", false, method_conns},
    {"slow_clients", true, method_slow_clients},
    {"busy_clients", true, method_busy_clients},
    {"topics", false, method_topics},
    {"kick", false, method_kick},
    {"pools", true, method_pools},
    {"methods", true, method_methods},
    {"workers", true, method_workers},
    {"pause", false, method_pause},
    {"resume", false, method_resume},
    {"drain", false, method_drain},
    {"undrain", false, method_undrain},
    {"log", false, method_log},
    {"errors", false, method_errors},
    {"tap", false, method_tap},
    {"reload", false, method_reload},
    {"upgrade", false, method_upgrade},
    {"reload_wait", false, method_reload_wait},
    {"explain", false, method_explain},
    {"profile", false, method_profile},
};

const size_t methods_count = ARRAY_LEN(methods_all);

void methods_put_us(struct json_writer *out, const char *key, uint64_t us)
{
    char text[48];
    int n = snprintf(text, sizeof(text), "%llu.%06u", (unsigned long long)(us / 1000000),
        (unsigned)(us % 1000000));
    json_add_raw(out, key, (struct span){text, (size_t)n});
}

char *methods_text(struct control_call *call, struct span params, const char *name)
{
    char *text;
    int r = json_read_string(json_read_member(params, name), &text);
    if (r == 0)
        return text;
    if (r == -ENOMEM)
        control_call_fail(call, RPC_INTERNAL_ERROR, "no memory");
    else
        control_call_fail(call, RPC_INVALID_PARAMS, "%s: a text", name);
    return NULL;
}
