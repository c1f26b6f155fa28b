#pragma once

/*
 * The calls and the messages of `scripts/bench reload`, the same for every server and its clients.
 */

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RELOAD_SUBSCRIBE "reload.subscribe" /* {"topic":n} */
/* {"rate":n,"topics":n}; how many were published so far */
#define RELOAD_PUBLISH "reload.publish"

enum {
    RELOAD_TOPICS_MAX = 10000,
    RELOAD_RATE_MAX = 1000000, /* messages/s */
    RELOAD_TICK_MS = 1,        /* messages that are due are published this often */
    RELOAD_BYTES = 128,
    RELOAD_NUMBER_AT = 11, /* {"number":"0000000001","topic":"00000","t":"00…01","pad":"xx… */
    RELOAD_TOPIC_AT = 32,
    RELOAD_TIME_AT = 44,
};

/* Message k of all, from 0 on, goes to topic k % topics and is number k / topics + 1 there. */
struct reload_publisher {
    uint64_t rate; /* messages/s; 0: it rests */
    uint32_t topics;
    uint64_t published; /* messages so far */
    uint64_t since;     /* ns, when the rate was set */
    uint64_t due_then;  /* what `published` was then */
};

/* CLOCK_MONOTONIC, the same for all processes of a machine. */
static inline uint64_t reload_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* How many of all messages ought to be published by `now`. */
static inline uint64_t reload_due(const struct reload_publisher *p, uint64_t now)
{
    /* In two steps: rate * ns would overflow after hours. */
    uint64_t ns = now - p->since, seconds = ns / 1000000000u;

    return p->due_then + seconds * p->rate + (ns % 1000000000u) * p->rate / 1000000000u;
}

/* The highest number that topic has when `published` messages were published. */
static inline uint32_t reload_last(uint64_t published, uint32_t topics, uint32_t topic)
{
    return (uint32_t)((published + topics - 1 - topic) / topics);
}

/* Writes the publisher's next message, made at `now`; NUL-terminated. Returns its topic. */
static inline uint32_t reload_message_write(
    char out[static RELOAD_BYTES + 1], const struct reload_publisher *p, uint64_t now)
{
    uint32_t topic = (uint32_t)(p->published % p->topics);
    int n = snprintf(out, RELOAD_BYTES + 1,
        "{\"number\":\"%010" PRIu32 "\",\"topic\":\"%05" PRIu32 "\",\"t\":\"%020" PRIu64
        "\",\"pad\":\"",
        (uint32_t)(p->published / p->topics + 1), topic, now);

    memset(out + n, 'x', (size_t)(RELOAD_BYTES - 2 - n));
    memcpy(out + RELOAD_BYTES - 2, "\"}", 3);
    return topic;
}

/* What was written there; `text` has RELOAD_BYTES bytes. */
static inline uint32_t reload_message_number(const char *text)
{
    return (uint32_t)strtoul(text + RELOAD_NUMBER_AT, NULL, 10);
}

static inline uint32_t reload_message_topic(const char *text)
{
    return (uint32_t)strtoul(text + RELOAD_TOPIC_AT, NULL, 10);
}

static inline uint64_t reload_message_time(const char *text)
{
    return strtoull(text + RELOAD_TIME_AT, NULL, 10);
}
