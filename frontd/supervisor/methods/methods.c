#include "frontd/supervisor/methods/methods.h"

const struct control_method methods_all[] = {
    {"status", true, method_status},
    {"conns", true, method_conns},
    {"topics", true, method_topics},
    {"kick", false, method_kick},
};

const size_t methods_count = ARRAY_LEN(methods_all);
