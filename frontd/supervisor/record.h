#pragma once

/*
 * What the supervisor writes down for one that is started after it was killed:
 * run_dir/supervisor.json, a file that no other user than its own can have written. It is the same
 * text as the state (reexec_state.h), with the configs in it and without descriptors that mean
 * anything.
 */

#include "frontd/supervisor/generation.h"
#include "frontd/supervisor/holds.h"
#include "proto/json_write.h"

#define RECORD_NAME "supervisor.json"

enum {
    RECORD_SIZE_MAX = 64 * 1024 * 1024, /* two configs of 4 MiB, each byte escaped */
    RECORD_ENDPOINTS_MAX = ENDPOINTS_MAX,
};

/* A shard process as it was started. */
struct record_process {
    pid_t pid; /* -1: there was none */
    struct process_mark mark;
    uint64_t incarnation;
    uint32_t seat;
    bool asks; /* it knows CTL_ASK */
};

struct record_generation {
    enum generation_role role;
    uint64_t number;
    struct record_process processes[CONF_SHARDS_MAX];
    uint32_t shards;
    char *conf; /* text of its config, with a NUL behind it; the record's */
    size_t conf_n;
    struct generation_share share;
};

struct record_endpoint {
    struct conf_address address;
    bool shared;
    uint64_t dev;
    uint64_t ino;
    uint64_t *cookies; /* SO_COOKIE of its sockets; the record's */
    size_t ncookies;
};

struct record {
    char boot[PROCESS_BOOT_SIZE]; /* the run of the system in which it was written */
    char instance[33];
    uint8_t conn_key[IDS_KEY_SIZE];
    uint64_t started; /* of the front; 0: a program before has not said it */
    uint64_t incarnations;
    uint64_t last_generation;
    struct holds holds; /* the record's, until it is moved */
    struct record_generation generations[FRONT_GENERATIONS];
    size_t ngenerations; /* at least one; the first serves */
    struct record_endpoint endpoints[RECORD_ENDPOINTS_MAX];
    size_t nendpoints;
    size_t nsockets; /* of all endpoints */
};

/*
 * Reads a text. Returns 0 with *ret_record (record_free()), -ENOTSUP where it is of a version that
 * this program does not know, -EINVAL where it is no record, or says what cannot be true, or
 * -ENOMEM.
 */
int record_parse(const char *text, size_t n, struct record **ret_record);

/*
 * Reads run_dir/supervisor.json. The same, -ENOENT where there is none, or what folder_read() says.
 */
int record_read(int run_dir, struct record **ret_record);

/* Removes it: there are no shards any more that could be found. run_dir: -1 has none. */
void record_forget(int run_dir);

/* Accepts NULL; returns NULL. */
struct record *record_free(struct record *record);

/* Which of the record's sockets has that cookie: its endpoint, or NULL. */
const struct record_endpoint *record_find_socket(const struct record *record, uint64_t cookie);

/* The rest is of the state as well, which has the same members. */

/*
 * Whether a text is one JSON object, with white space around it at most. Returns 0 with the object
 * in *ret_object, which is in the text, or -EINVAL.
 */
int record_scan(const char *text, size_t n, struct span *ret_object);

/*
 * A member that is a string without escapes: as much of it as fits, NUL-terminated. Returns false,
 * with nothing written, where there is none.
 */
bool record_get_text(struct span object, const char *name, char *out, size_t size);

/* An address. Returns 0 or -EINVAL. */
void record_put_address(struct json_writer *out, const struct conf_address *address);
int record_get_address(struct span object, struct conf_address *ret_address);

/*
 * The text of a config, any bytes: JSON has no way to say those that are not UTF-8 (a config may be
 * UTF-16), so that they are written as digits then.
 */
void record_put_conf(struct json_writer *out, struct span text);

/*
 * The shared memory of a generation, as a member of it. A program that does not lay it out as this
 * one does reads that it does not know it.
 */
void record_put_share(struct json_writer *out, const struct generation *generation);
void record_get_share(struct span object, struct generation_share *ret_share);

const char *record_role_name(enum generation_role role);
