/*
 * The shared memory as the supervisor uses it: anything is written anywhere, and in between it
 * takes back what dead shards held, adds up, and gives pools their rows. Each command is a byte,
 * with what belongs to it.
 */

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "frontd/ipc/metric_sums.h"
#include "frontd/ipc/shm.h"
#include "frontd/ipc/shm_clients.h"
#include "frontd/ipc/shm_queues.h"
#include "frontd/ipc/shm_reclaim.h"
#include "frontd/ipc/shm_workers.h"

enum { PEERS = 64, RECLAIMS = 8 };

static uint8_t *memory;
static size_t length;
static struct share *share;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void set_up(void)
{
    struct share_table table = {.key = {1, 2}};
    struct stat st;
    int fd;
    CHECK(share_create(PEERS, &fd) == 0 && fstat(fd, &st) == 0);
    CHECK(share_map(fd, &table, &share) == 0);
    length = (size_t)st.st_size;
    memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(memory != MAP_FAILED);
    close(fd);
}

static uint64_t take(const uint8_t **data, size_t *size, size_t n)
{
    uint64_t value = 0;
    for (size_t i = 0; i<n && * size> 0; i++, (*data)++, (*size)--)
        value = value << 8 | **data;
    return value;
}

static void set_pools(unsigned first, unsigned n)
{
    char texts[SHARE_POOLS][8];
    const char *names[SHARE_POOLS] = {NULL};
    bool used[SHARE_POOLS] = {false};
    n %= SHARE_POOLS + 1;
    for (unsigned i = 0; i < n; i++) {
        snprintf(texts[i], sizeof(texts[i]), "%u", (first + i) % 1000);
        names[i] = texts[i];
    }
    share_set_pools(share, names, n);
    for (unsigned i = 0; i < n; i++) {
        int row = share_pool(share, names[i]);
        CHECK(row >= 0 && row < SHARE_POOLS && !used[row]);
        used[row] = true;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (share == NULL)
        set_up();
    unsigned reclaims = 0;
    while (size > 0) {
        switch (take(&data, &size, 1) % 5) {
        case 0: { /* some bytes somewhere */
            size_t at = take(&data, &size, 4) % length;
            size_t n = take(&data, &size, 1);
            n = MIN(n, MIN(size, length - at));
            memcpy(memory + at, data, n);
            data += n;
            size -= n;
            break;
        }
        case 1: { /* a word again and again */
            size_t at = take(&data, &size, 4) % (length - 8);
            uint64_t word = take(&data, &size, 8);
            size_t step = 8 + take(&data, &size, 2);
            for (unsigned i = 0; i < 200 && at < length - 8; i++, at += step)
                memcpy(memory + at, &word, sizeof(word));
            break;
        }
        case 2:
            if (reclaims++ < RECLAIMS)
                share_reclaim(share, take(&data, &size, 8));
            break;
        case 3: metric_totals(share); break;
        default: set_pools((unsigned)take(&data, &size, 2), (unsigned)take(&data, &size, 1)); break;
        }
    }
    share_reclaim(share, 0);
    CHECK(share_connection_add(share, 0, 1) && !share_connection_add(share, 1, 1));
    CHECK(share_queue_add(share, 0, 0, 1) && !share_queue_add(share, 1, 0, 1));
    int slot;
    int worker = share_worker_get(share, 0, "w", 1);
    CHECK(worker >= 0 && share_worker_load(share, worker) == 0);
    CHECK(share_slot_take(share, 0, worker, 1, &slot) && slot == 0);
    share_slot_give(share, 0, worker, slot);
    share_worker_put(share, 0, worker);
    share_reclaim(share, 0);
    return 0;
}
