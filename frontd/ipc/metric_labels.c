#include "frontd/ipc/metric_labels.h"

#include "proto/errors.h"

const char *metric_class_label(enum metric_class class)
{
    static const char *const labels[] = {
#define LABEL(name, label) [METRIC_CLASS_##name] = label,
        METRIC_CLASSES(LABEL)
#undef LABEL
    };
    return labels[class];
}

const char *metric_code_label(enum metric_code code)
{
    static const char *const labels[] = {
#define LABEL(name, label) [METRIC_CODE_##name] = label,
        METRIC_CODES(LABEL)
#undef LABEL
    };
    return labels[code];
}

enum metric_code metric_code_of_error(int error)
{
    switch (error) {
    case 0: return METRIC_CODE_OK;
    case RPC_PARSE_ERROR: return METRIC_CODE_PARSE_ERROR;
    case RPC_INVALID_REQUEST: return METRIC_CODE_INVALID_REQUEST;
    case RPC_METHOD_NOT_FOUND: return METRIC_CODE_METHOD_NOT_FOUND;
    case RPC_OVERLOADED: return METRIC_CODE_OVERLOADED;
    case RPC_WORKER_LOST: return METRIC_CODE_WORKER_LOST;
    case RPC_DEADLINE_EXCEEDED: return METRIC_CODE_DEADLINE_EXCEEDED;
    case RPC_UNAVAILABLE: return METRIC_CODE_UNAVAILABLE;
    case RPC_TOO_LARGE: return METRIC_CODE_TOO_LARGE;
    case RPC_RATE_LIMITED: return METRIC_CODE_RATE_LIMITED;
    case RPC_BAD_RESPONSE: return METRIC_CODE_BAD_RESPONSE;
    case RPC_UNAUTHORIZED: return METRIC_CODE_UNAUTHORIZED;
    case RPC_FORBIDDEN: return METRIC_CODE_FORBIDDEN;
    default: return METRIC_CODE_OTHER_ERROR;
    }
}

enum metric_code metric_code_of_status(unsigned status)
{
    switch (status) {
    case 400: return METRIC_CODE_400;
    case 401: return METRIC_CODE_401;
    case 403: return METRIC_CODE_403;
    case 404: return METRIC_CODE_404;
    case 405: return METRIC_CODE_405;
    case 408: return METRIC_CODE_408;
    case 413: return METRIC_CODE_413;
    case 415: return METRIC_CODE_415;
    case 417: return METRIC_CODE_417;
    case 426: return METRIC_CODE_426;
    case 429: return METRIC_CODE_429;
    case 431: return METRIC_CODE_431;
    case 500: return METRIC_CODE_500;
    case 501: return METRIC_CODE_501;
    case 503: return METRIC_CODE_503;
    case 505: return METRIC_CODE_505;
    default: return metric_code_of_answer(status);
    }
}

enum metric_code metric_code_of_answer(unsigned status)
{
    switch (status / 100) {
    case 2: return METRIC_CODE_2XX;
    case 3: return METRIC_CODE_3XX;
    case 4: return METRIC_CODE_4XX;
    case 5: return METRIC_CODE_5XX;
    default: return METRIC_CODE_OTHER_ERROR;
    }
}
