#pragma once

/* Members of JSON objects that may have any, of any type. */

#include <json-c/json.h>

#include "frontd/conf.h"

/* 0 where it is not there, no number, or less than 0. */
uint64_t json_number(const struct json_object *object, const char *name);

bool json_flag(const struct json_object *object, const char *name);

/* NULL where it is no string; with the object. */
const char *json_text(const struct json_object *object, const char *name);

/* NULL with *ret_n 0 where it is no array; with the object. */
struct json_object *json_array(const struct json_object *object, const char *name, size_t *ret_n);

/* Of an array; 0 where it is no number. */
uint64_t json_number_at(const struct json_object *array, size_t i);

enum { JSON_BYTES_MAX = 128 };

/* Bytes as json_put_bytes() has written them. Returns how many there are, or -EINVAL: no string of
 * hex digits, or over `max` bytes. */
int json_bytes(const struct json_object *object, const char *name, void *bytes, size_t max);

/* An address as json_put_address() has written it. Returns 0 or -EINVAL. */
int json_address(const struct json_object *object, struct conf_address *ret_address);

void json_put_number(struct json_object *object, const char *name, uint64_t value);
void json_put_flag(struct json_object *object, const char *name, bool value);

/* As hex digits. n: at most JSON_BYTES_MAX. */
void json_put_bytes(struct json_object *object, const char *name, const void *bytes, size_t n);
void json_put_address(struct json_object *object, const struct conf_address *address);

/* A new member, empty; with the object. */
struct json_object *json_put_array(struct json_object *object, const char *name);
