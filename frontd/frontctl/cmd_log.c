#include "frontd/frontctl/ask.h"
#include "frontd/frontctl/command_line.h"
#include "frontd/frontctl/commands.h"

static int run(struct frontctl *frontctl, int argc, char **argv)
{
    struct json_writer params = {0};
    struct span result;
    int r = command_line_arguments(frontctl, &cmd_log, argc, argv, 1);
    if (r >= 0)
        return r;
    json_begin(&params, NULL, '{');
    json_add_text(&params, "level", argv[1]);
    json_end(&params, '}');
    r = ask(frontctl, "log", &params, &result);
    if (r != 0 || frontctl->json)
        return r != 0 ? r : ask_print_json(result);
    printf("the level of the log is %s until the next reload\n", argv[1]);
    return FRONTCTL_DONE;
}

const struct command cmd_log = {
    .name = "log",
    .arguments = "error|warning|info|debug",
    .summary = "sets the level of the log until the next reload",
    .help = "Of the supervisor and all shards; at most half a second later.\n",
    .run = run,
};
