#include "frontd/frontctl/commands.h"

const struct command *const commands_all[] = {
    &cmd_status,
    &cmd_conns,
    &cmd_topics,
    &cmd_kick,
    &cmd_pools,
    &cmd_workers,
    &cmd_methods,
    &cmd_pause,
    &cmd_resume,
    &cmd_drain,
    &cmd_undrain,
    &cmd_top,
    &cmd_reload,
    &cmd_upgrade,
    &cmd_log,
    &cmd_errors,
    &cmd_tap,
    &cmd_explain,
    &cmd_profile,
    NULL,
};
