/* The record that a supervisor leaves: what is accepted keeps to every bound. */

#include <string.h>

#include "common/alloc.h"
#include "frontd/supervisor/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_generation(const struct record_generation *generation, uint64_t *seats)
{
    CHECK(generation->shards > 0 && generation->shards <= CONF_SHARDS_MAX);
    CHECK(generation->role <= GENERATION_STOPPING);
    CHECK(generation->conf != NULL && generation->conf[generation->conf_n] == '\0');
    for (uint32_t i = 0; i < generation->shards; i++) {
        const struct record_process *child = &generation->processes[i];
        CHECK(child->seat <= SHARE_SEAT_LAST);
        if (child->pid == -1)
            continue;
        CHECK(child->pid > 1 && (child->mark.birth != 0 || child->mark.ino != 0));
        CHECK(!(*seats >> child->seat & 1));
        *seats |= (uint64_t)1 << child->seat;
    }
}

static void check_endpoint(const struct record_endpoint *endpoint)
{
    const struct sockaddr_un *un = &endpoint->address.sock.un;
    CHECK(endpoint->address.len <= sizeof(endpoint->address.sock));
    if (un->sun_family == AF_UNIX)
        CHECK(memchr(un->sun_path, 0, sizeof(un->sun_path)) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t before = mem_in_use();
    struct record *record = NULL;
    if (record_parse((const char *)data, size, &record) < 0) {
        CHECK(record == NULL && mem_in_use() == before);
        return 0;
    }
    uint64_t seats = 0;
    CHECK(memchr(record->instance, 0, sizeof(record->instance)) != NULL);
    CHECK(record->ngenerations > 0 && record->ngenerations <= FRONT_GENERATIONS);
    for (size_t i = 0; i < record->ngenerations; i++)
        check_generation(&record->generations[i], &seats);
    CHECK(record->nendpoints <= RECORD_ENDPOINTS_MAX);
    for (size_t i = 0; i < record->nendpoints; i++)
        check_endpoint(&record->endpoints[i]);
    CHECK(record_find_socket(record, 0) == NULL);
    record_find_socket(record, 11);
    record_free(record);
    CHECK(mem_in_use() == before);
    return 0;
}
