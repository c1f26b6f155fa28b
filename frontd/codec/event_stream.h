#pragma once

/*
 * Server-Sent Events (HTML Living Standard, section 9.2), as far as a front looks at them: where
 * one event ends and the next may begin, so that a stream can be ended between two. Pure.
 */

#include "frontd/codec/http_head.h"

/* The end of what has passed so far. Zeroed at the beginning of a stream. */
struct event_stream {
    char last[3]; /* the latest bytes, the last one at the end; 0: there was none */
    bool begun;   /* there was any */
};

/* Whether header fields, each "Name: value" with its CRLF, say that the body is one. */
bool event_stream_is(struct span fields);

/* Whether a client takes one, by its Accept fields (RFC 9110 section 12.5.1): they name the type,
 * with no weight of 0. A range that covers it does not say so. */
bool event_stream_accepted(const struct http_head *head);

/* Whether nothing has passed, or the last that did was an empty line, which ends an event. */
bool event_stream_between(const struct event_stream *stream);

/* These bytes pass. Returns how many there are up to the first end of an event; 0: none is in them.
 */
size_t event_stream_pass(struct event_stream *stream, struct span bytes);
