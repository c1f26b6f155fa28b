#pragma once

/* Which form of the metrics a client takes: Accept, RFC 9110 section 12.5.1. Pure. */

#include "frontd/codec/http_head.h"

enum accept_form {
    ACCEPT_NONE,        /* none of those that there are */
    ACCEPT_TEXT,        /* text/plain; version=0.0.4, Prometheus' text */
    ACCEPT_OPENMETRICS, /* application/openmetrics-text; version=1.0.0 */
};

/*
 * The one that the client likes best; text where it likes both as much, or says nothing. What
 * cannot be read as a media range is left out.
 */
enum accept_form accept_form(const struct http_head *head);

/* The Content-Type of a form. */
const char *accept_content_type(enum accept_form form);
