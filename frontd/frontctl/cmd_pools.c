#include "frontd/frontctl/ask.h"
#include "frontd/frontctl/command_line.h"
#include "frontd/frontctl/commands.h"
#include "frontd/frontctl/pool_table.h"
#include "proto/json_read.h"

static int run(struct frontctl *frontctl, int argc, char **argv)
{
    struct span result;
    int r = command_line_arguments(frontctl, &cmd_pools, argc, argv, 0);
    if (r >= 0)
        return r;
    r = ask(frontctl, "pools", NULL, &result);
    if (r != 0 || frontctl->json)
        return r != 0 ? r : ask_print_json(result);
    return pool_table_print(json_read_member(result, "pools"));
}

const struct command cmd_pools = {
    .name = "pools",
    .arguments = "",
    .summary = "each pool: calls that wait, those in progress, its workers",
    .help =
        "WAITING      calls in the queue, over all shards; OLDEST: how long the first has waited\n"
        "IN PROGRESS  calls that workers have, of as many as they take at a time\n"
        "P50, P99     how long calls take, from their arrival to their answer\n"
        "READY …      workers by state; DOWN: a socket or address that does not answer\n",
    .run = run,
};
