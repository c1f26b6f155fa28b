#include "frontd/super/json.h"

#include <errno.h>
#include <string.h>

uint64_t json_number(const struct json_object *object, const char *name)
{
    struct json_object *value;
    return json_object_object_get_ex(object, name, &value) ? json_object_get_uint64(value) : 0;
}

bool json_flag(const struct json_object *object, const char *name)
{
    struct json_object *value;
    return json_object_object_get_ex(object, name, &value) && json_object_get_boolean(value);
}

const char *json_text(const struct json_object *object, const char *name)
{
    struct json_object *value;
    if (!json_object_object_get_ex(object, name, &value) ||
        !json_object_is_type(value, json_type_string))
        return NULL;
    return json_object_get_string(value);
}

struct json_object *json_array(const struct json_object *object, const char *name, size_t *ret_n)
{
    struct json_object *array;
    *ret_n = 0;
    if (!json_object_object_get_ex(object, name, &array) ||
        !json_object_is_type(array, json_type_array))
        return NULL;
    *ret_n = json_object_array_length(array);
    return array;
}

uint64_t json_number_at(const struct json_object *array, size_t i)
{
    return json_object_get_uint64(json_object_array_get_idx(array, i));
}

int json_bytes(const struct json_object *object, const char *name, void *bytes, size_t max)
{
    const char *hex = json_text(object, name);
    size_t n = hex == NULL ? 0 : strlen(hex) / 2;
    if (hex == NULL || n > max)
        return -EINVAL;
    for (size_t i = 0; i < n; i++) {
        unsigned byte;
        if (sscanf(hex + 2 * i, "%2x", &byte) != 1)
            return -EINVAL;
        ((uint8_t *)bytes)[i] = (uint8_t)byte;
    }
    return (int)n;
}

int json_address(const struct json_object *object, struct conf_address *ret_address)
{
    *ret_address = (struct conf_address){.len = 0};
    int n = json_bytes(object, "address", &ret_address->sock, sizeof(ret_address->sock));
    if (n < (int)sizeof(sa_family_t))
        return -EINVAL;
    ret_address->len = (socklen_t)n;
    const struct sockaddr_un *un = &ret_address->sock.un;
    bool ends = strnlen(un->sun_path, sizeof(un->sun_path)) < sizeof(un->sun_path);
    return un->sun_family != AF_UNIX || ends ? 0 : -EINVAL;
}

void json_put_number(struct json_object *object, const char *name, uint64_t value)
{
    json_object_object_add(object, name, json_object_new_uint64(value));
}

void json_put_flag(struct json_object *object, const char *name, bool value)
{
    json_object_object_add(object, name, json_object_new_boolean(value));
}

void json_put_bytes(struct json_object *object, const char *name, const void *bytes, size_t n)
{
    char hex[2 * JSON_BYTES_MAX + 1];
    CHECK(n <= JSON_BYTES_MAX);
    for (size_t i = 0; i < n; i++)
        snprintf(hex + 2 * i, 3, "%02x", ((const uint8_t *)bytes)[i]);
    json_object_object_add(object, name, json_object_new_string_len(hex, (int)(2 * n)));
}

void json_put_address(struct json_object *object, const struct conf_address *address)
{
    json_put_bytes(object, "address", &address->sock, address->len);
}

struct json_object *json_put_array(struct json_object *object, const char *name)
{
    struct json_object *array = json_object_new_array();
    json_object_object_add(object, name, array);
    return array;
}
