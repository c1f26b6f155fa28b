#include <string.h>

#include "frontd/frontctl/ask.h"
#include "frontd/frontctl/command_line.h"
#include "frontd/frontctl/commands.h"
#include "frontd/frontctl/text.h"
#include "proto/json_read.h"

static const char *text(struct span object, const char *key, char out[static 256])
{
    snprintf(out, 256, "?");
    text_of(json_read_member(object, key), out, 256);
    return out;
}

static unsigned long long number(struct span object, const char *key)
{
    return json_read_number(json_read_member(object, key), UINT64_MAX, 0);
}

static bool has(struct span object, const char *key)
{
    return json_read_member(object, key).n > 0;
}

static void print_worker(struct span worker)
{
    char name[256], state[256], why[256];
    bool takes = json_is_true(json_read_member(worker, "takes"));
    printf("    worker    %s: %s, %llu calls", text(worker, "worker", name),
        text(worker, "state", state), number(worker, "calls"));
    if (has(worker, "concurrency"))
        printf(" of %llu", number(worker, "concurrency"));
    if (!takes)
        printf("; it does not take this method");
    if (has(worker, "trouble"))
        printf("; %s", text(worker, "trouble", why));
    putchar('\n');
}

static void print_pool(struct span pool)
{
    char name[256], pattern[256], policy[256];
    struct span worker;
    printf("    pool      %s (line %llu), by `%s`; workers by %s", text(pool, "name", name),
        number(pool, "line"), text(pool, "pattern", pattern), text(pool, "policy", policy));
    if (has(pool, "hash_name"))
        printf(" %s", text(pool, "hash_name", name));
    putchar('\n');
    struct span workers = json_read_member(pool, "workers");
    for (size_t at = 0; json_read_next(workers, &at, &worker);)
        print_worker(worker);
    if (number(pool, "nworkers") == 0)
        puts("    worker    none is there");
}

static void print_pools(struct span pools)
{
    char name[256];
    struct span pool, method;
    for (size_t at = 0; json_read_next(pools, &at, &pool);) {
        struct span methods = json_read_member(pool, "methods");
        printf("    pool      %s (line %llu) for", text(pool, "name", name), number(pool, "line"));
        for (size_t k = 0; json_read_next(methods, &k, &method);) {
            text_of(method, name, sizeof(name));
            printf(" `%s`", name);
        }
        putchar('\n');
    }
}

static void print_listener(struct span listener)
{
    char a[256], b[256], c[256];
    struct span route = json_read_member(listener, "route");
    printf("listener %s (line %llu), %s, %s\n", text(listener, "listener", a),
        number(listener, "line"), text(listener, "address", b), text(listener, "protocol", c));
    if (route.n > 0) {
        printf("    route     %s%s%s, %s (line %llu), %llu ms\n",
            has(route, "host") ? text(route, "host", a) : "",
            has(route, "path") ? text(route, "path", b) : "all that comes", "",
            text(route, "kind", c), number(route, "line"), number(route, "timeout_ms"));
    }
    if (has(listener, "rpc"))
        printf("    method    %s\n", text(listener, "rpc", a));
    if (has(listener, "refused"))
        printf("    refused   %s\n", text(listener, "refused", a));
    struct span line, applies = json_read_member(listener, "applies");
    for (size_t at = 0; json_read_next(applies, &at, &line);) {
        text_of(line, a, sizeof(a));
        printf("    applies   %s\n", a);
    }
    if (has(listener, "pool"))
        print_pool(json_read_member(listener, "pool"));
    print_pools(json_read_member(listener, "pools"));
}

static int print(struct span answer)
{
    struct span listener;
    struct span listeners = json_read_member(answer, "listeners");
    size_t n = 0;
    for (size_t at = 0; json_read_next(listeners, &at, &listener); n++)
        print_listener(listener);
    if (n > 0)
        return FRONTCTL_DONE;
    frontctl_complain("there is no such listener");
    return FRONTCTL_REFUSED;
}

/* The answer of the one shard that was asked. */
static int show(const struct frontctl *frontctl, struct span result)
{
    char error[512];
    struct span shard;
    size_t at = 0;
    if (!json_read_next(json_read_member(result, "shards"), &at, &shard)) {
        frontctl_complain("no shard has answered");
        return FRONTCTL_FAILED;
    }
    struct span answer = json_read_member(shard, "answer");
    if (text_of(json_read_member(answer, "error"), error, sizeof(error))) {
        frontctl_complain("%s", error);
        return json_is_true(json_read_member(answer, "wrong")) ? FRONTCTL_USAGE : FRONTCTL_FAILED;
    }
    return frontctl->json ? ask_print_json(answer) : print(answer);
}

static int run(struct frontctl *frontctl, int argc, char **argv)
{
    const char *host = NULL, *rpc = NULL, *listener = NULL, *origin = NULL;
    const struct command_option options[] = {{"host", &host, NULL}, {"rpc", &rpc, NULL},
        {"listener", &listener, NULL}, {"origin", &origin, NULL}};
    int found = 0;
    int r = command_line_read(
        frontctl, &cmd_explain, argc, argv, options, ARRAY_LEN(options), &found);
    if (r < 0 && found != 2 && !(found == 0 && rpc != NULL))
        r = frontctl_misused(&cmd_explain, "a method and a path are needed, or --rpc");
    if (r >= 0)
        return r;
    const struct {
        const char *key, *value;
    } texts[] = {{"method", found == 2 ? argv[1] : NULL}, {"path", found == 2 ? argv[2] : NULL},
        {"host", host}, {"rpc", rpc}, {"listener", listener}, {"origin", origin}};
    struct json_writer params = {0};
    struct span result;
    json_begin(&params, NULL, '{');
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        if (texts[i].value != NULL)
            json_add_text(&params, texts[i].key, texts[i].value);
    }
    json_end(&params, '}');
    r = ask(frontctl, "explain", &params, &result);
    return r == 0 ? show(frontctl, result) : r;
}

const struct command cmd_explain = {
    .name = "explain",
    .arguments = "METHOD PATH [--host HOST] [--rpc METHOD] [--listener NAME] [--origin ORIGIN]",
    .summary = "which listener, route, pool and workers would take a request",
    .help = "Nothing is called. The lines are those of the config that serves.\n\n"
            "  --host HOST      as in the request's Host\n"
            "  --rpc METHOD     the JSON-RPC method that is called in it\n"
            "  --listener NAME  on this one alone\n"
            "  --origin ORIGIN  as a browser says it for a page of that origin\n",
    .run = run,
};
