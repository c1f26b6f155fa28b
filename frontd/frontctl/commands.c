#include "frontd/frontctl/commands.h"

const struct command *const commands_all[] = {
    &cmd_status,
    &cmd_conns,
    &cmd_topics,
    &cmd_kick,
    NULL,
};
