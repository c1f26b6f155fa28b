#pragma once

/* The shared memory of a test, as frontd/ipc makes it. */

#include <criterion/criterion.h>
#include <fcntl.h>
#include <unistd.h>

#include "frontd/ipc/shm.h"

static struct share_table table;
static struct share *share;

/* A new memory with that many peers, mapped with the test's table. */
static inline struct share *make_share(size_t peers)
{
    int fd;
    struct share *made;
    cr_assert_eq(share_create(peers, &fd), 0);
    cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    cr_assert_eq(share_map(fd, &table, &made), 0);
    close(fd);
    return made;
}

static inline void make_memory_of_test(void)
{
    share_table_init(&table);
    share = make_share(16);
}

static inline void unmap_memory_of_test(void)
{
    share_unmap(share);
}

/* The set of all seats but one. */
static inline uint64_t all_but(unsigned seat)
{
    return ~share_seat_bit(seat);
}

/* Numbers that look random, the same in each run; *state: not 0. */
static inline uint32_t next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* Makes names "FIRST", "FIRST + 1" and so on; at most SHARE_POOLS at a time. */
static inline const char *const *pool_names(unsigned first, size_t n)
{
    static char texts[SHARE_POOLS][16];
    static const char *names[SHARE_POOLS];
    for (size_t i = 0; i < n; i++) {
        snprintf(texts[i], sizeof(texts[i]), "%u", first + (unsigned)i);
        names[i] = texts[i];
    }
    return names;
}
