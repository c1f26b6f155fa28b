#pragma once

/* The other end of a worker's channel, frame by frame, in the hands of a test. */

#include "proto/frame.h"

struct fake_worker {
    int listener;
    int fd; /* the channel that was accepted last; -1: none */
    char folder[64];
    char path[80]; /* of its socket */
    char in[128 * 1024];
    size_t have;
    size_t used; /* of it, by the frame that was read last */
};

/* Listens on a socket of its own, in a folder of its own. */
void fake_worker_listen(struct fake_worker *worker);

/* Closes everything, and removes the socket. */
void fake_worker_end(struct fake_worker *worker);

/* Returns whether a channel has been dialled, which `fd` is then. The one before stays open. */
bool fake_worker_accept(struct fake_worker *worker);

/* Closes the channel. */
void fake_worker_hang_up(struct fake_worker *worker);

/* body: text. */
void fake_worker_send(struct fake_worker *worker, enum frame_type type, unsigned flags,
    uint64_t call, const char *body);

/* A frame whose payload is all blob, `n` bytes of 'x'. */
void fake_worker_send_blob(
    struct fake_worker *worker, enum frame_type type, unsigned flags, uint64_t call, size_t n);

/* A frame whose payload is that blob. */
void fake_worker_send_bytes(struct fake_worker *worker, enum frame_type type, unsigned flags,
    uint64_t call, struct span blob);

/*
 * The next frame that has come. Returns its type, or 0: there is none. *ret_frame: borrowed until
 * the next call.
 */
unsigned fake_worker_next(struct fake_worker *worker, struct frame *ret_frame);

/* Whether the channel has been closed by the front, and all that it sent has been read. */
bool fake_worker_sees_end(struct fake_worker *worker);
