#pragma once

/* What the check of a config finds besides errors. */

#include "common/base.h"

/* Each function is called once for each finding, with a message that has no line's end. */
struct conf_findings {
    /* What is wrong only where and when frontd starts: a host name that cannot be resolved, a user
     * that does not exist. NULL: it is an error like others. */
    void (*found)(void *data, const char *text);
    /* What is allowed, but hardly meant. NULL: it is left out. */
    void (*odd)(void *data, const char *text);
    void *data;
    bool blind; /* names of listeners are not looked up: they have no addresses then */
};
