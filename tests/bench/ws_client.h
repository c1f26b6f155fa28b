#pragma once

/*
 * As much of a WebSocket client as the load programs need. Opening and the first call block; they
 * end the program when they fail, since a load with fewer connections would be another load.
 */

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    WS_HEAD_MAX = 8,      /* bytes of a frame before its payload: length in 16 bits, mask */
    WS_TEXT_MAX = 0xffff, /* bytes of a message */
};

/* Says what failed and exits. error: an errno, or 0. */
_Noreturn void ws_die(const char *what, int error);

/* Lets this process have as many descriptors as it may. */
void ws_raise_descriptor_limit(void);

/* The address that HOST:PORT says; ends the program where it says none. */
struct sockaddr_in ws_address(const char *address);

/* A connection to HOST:PORT that was upgraded at `path`. Closing it sends a reset. */
int ws_open(const char *address, const char *path);

/* Sends one message, waits for one, and ends the program unless that holds a result. */
void ws_call(int fd, const char *text);

/* Sends all of it, waiting for as long as the socket is full. */
void ws_send(int fd, const void *p, size_t n);

/* Writes the frame of a text message. out: n + WS_HEAD_MAX bytes. Returns its length. */
size_t ws_frame(uint8_t *out, const char *text, size_t n);

/*
 * Reads the frame of a whole text message at the beginning of what came.
 * Returns its length, 0 where it is incomplete, -1 for any other frame.
 */
ssize_t ws_read(const uint8_t *p, size_t n, const char **ret_text, size_t *ret_n);
