#pragma once

/* What the files of a client (client_*.c) have in common. */

#include "frontd/shard/client/client.h"

enum {
    CLIENT_LINGER_MS = 2000, /* after our last byte: time for the client to read it and close */
    CLIENT_HALF_CLOSED_MS = 1000, /* for answers to a client that has shut its side, or is gone */
    CLIENT_UNSENT_SMALL = 4096,   /* bytes that the kernel may keep of a closed connection */
};

/* client.c */

/* Arms the timer for what is due next; a timer that fires too early costs one look. */
void client_arm(struct client *client);

/*
 * Begins the session that the listener's protocol has. alpn: what the client has chosen; n == 0:
 * nothing. Where it fails the client is doomed.
 */
void client_begin_session(struct client *client, struct span alpn);

/*
 * What the connection is for begins with the next byte: its transport, where the listener has one,
 * else its session. Where that fails the client is doomed.
 */
void client_begin(struct client *client);

/* As if it had been accepted now: it has first_byte_timeout from here. */
void client_set_unused(struct client *client);

/* client_tls.c */

/* The transport is broken, for ctx->tls->failure: calls are cancelled, what the transport has to
 * say is sent, then the connection ends. */
void client_break(struct client *client);

/* client_proxy.c */

/* Reads the PROXY header, as far as it has come, and no byte that follows it. */
void client_read_header(struct client *client);

/* client_in.c */

/* Goes on with what is pending, which was put off until now: at the end of a turn. */
void client_resume(struct client *client);

/* The timeouts of client->pending begin now. */
void client_start_clocks(struct client *client);

/*
 * The descriptor of a client with a transport is ready: reads it and writes to it, as far as that
 * is wanted, since either may have waited for the event.
 */
void client_try_transport(struct client *client);

/* Reads what the transport of the client has, of which no event tells. */
void client_read_kept(struct client *client);

/* client_poll.c */

/* Decides by the client's state what is waited for from now on. */
void client_choose_events(struct client *client);

/*
 * Waits for these events: EPOLLIN to read, EPOLLOUT to write, others as they are. The client is
 * doomed where the kernel does not allow it.
 */
void client_set_events(struct client *client, uint16_t events);

/* Whether reading is paused for want of memory. */
void client_set_starved(struct client *client, bool starved);

/*
 * Whether nothing is left to be done with events of the poller: a client that moves is not waited
 * for any longer, one that was reset is doomed, and one that was closed in its handshake.
 */
bool client_is_over(struct client *client, uint32_t events);

/*
 * Whether the client is not read for want of memory. Two kinds are not:
 * - one that holds much;
 * - where memory is short, one whose messages are `raw`: they have no answer by which they could be
 *   refused.
 */
bool client_must_starve(const struct client *client, enum memory_level level);

/*
 * How many bytes more may be read though no request may be started: so that what is pending is at
 * most one message, as it may always be, and what one read brings.
 */
size_t client_ahead_room(const struct client *client);

/* client_out.c */

/* Bytes in the client's own buffers. */
size_t client_buffered(const struct client *client);

/* When a client that does not read what waits for it has had its time, in ms; UINT64_MAX: never. */
uint64_t client_stalled_at(const struct client *client);

/* client_end.c */

/*
 * How many bytes the kernel has that the client's has not acknowledged; 0 where they are few for
 * sure, or where the client's end of a UNIX socket has them already.
 */
uint32_t client_unsent(const struct client *client);

/* The last answer is out: our side is shut, and what still comes is read and dropped. */
void client_linger(struct client *client);

/*
 * A client that lingers has had its time since it was last looked at. Returns whether it is kept:
 * it still reads what the kernel has, at write_rate or not body_timeout behind; with write_rate 0,
 * something in body_timeout.
 */
bool client_reads_the_rest(struct client *client);

/* Whether what waits for a client that has shut its side, if anything, is still on its way. */
bool client_keeps_output(const struct client *client);

/* Cancels the calls of a client that has shut its side and had its time; what is out is left. */
void client_give_up_calls(struct client *client);

/*
 * The connection is about to be closed: what was not sent is given up, the kernel is not to keep
 * it, and the client is told by a reset. Before client_strip().
 */
void client_set_end(const struct client *client);

/* It has begun to live here: from now on it is counted by what it speaks. */
void client_count_start(struct client *client);
