#pragma once

/* The scalars of the config: text to number or address. Pure but for looking up host names. */

#include "frontd/config/config.h"

/* Each returns NULL, or what is wrong with the text; *ret is untouched then. */

/* "500ms", "30s", "5m", "1h", at most a year; *ret_ms in milliseconds. */
const char *conf_value_duration(const char *text, uint64_t *ret_ms);

/* "64KiB", "1MiB", "1GiB", or bytes. */
const char *conf_value_size(const char *text, uint32_t *ret_bytes);

/* A size of memory: the same, at most 1024GiB. */
const char *conf_value_memory(const char *text, uint64_t *ret_bytes);

/* What a browser may send as Origin: "https://host", "https://host:8443", "null"; or "*". */
const char *conf_value_origin(const char *text);

/* A token as of RFC 9110 section 5.6.2. */
const char *conf_value_token(const char *text);

/*
 * The name of a realm: letters, digits, '_' and '-', 1 to 32 of them. *ret_id: see struct
 * conf_pool.
 */
const char *conf_value_realm(const char *text, uint64_t *ret_id);

const char *conf_value_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret_number);

enum { CONF_VALUE_HOST_SIZE = 256 /* of a host's name, its NUL included */ };

/* "host:port", "[v6]:port". Nothing is looked up: for a host name *ret_address has the length 0. */
const char *conf_value_host(const char *text, char ret_host[CONF_VALUE_HOST_SIZE],
    uint16_t *ret_port, struct conf_address *ret_address);

/*
 * What conf_value_addresses() returns for a host name that cannot be resolved here and now;
 * compared by its address.
 */
extern const char conf_value_unresolved[];

/*
 * The addresses of a listener: "host:port", "[v6]:port", "unix:/path". Of a host name all its
 * addresses, at most CONF_ADDRESSES_MAX; of localhost both loopback addresses. Without a host,
 * with '*', and for the address of all interfaces of one family: those of both families, the one
 * that was written first. look_up: false: names are not looked up, and have 0 addresses.
 */
const char *conf_value_addresses(const char *text, bool look_up,
    struct conf_address ret_addresses[CONF_ADDRESSES_MAX], size_t *ret_n);

/* The first of the addresses. A host name is looked up now, once. */
const char *conf_value_address(const char *text, struct conf_address *ret_address);

/* Whether it is the address of all interfaces; and whether two addresses are the same. */
bool conf_value_is_any(const struct conf_address *address);
bool conf_value_same(const struct conf_address *one, const struct conf_address *other);
