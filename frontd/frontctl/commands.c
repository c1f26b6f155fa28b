#include "frontd/frontctl/commands.h"

const struct command *const commands_all[] = {
    &cmd_status,
    NULL,
};
