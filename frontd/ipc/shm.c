#include "frontd/ipc/shm.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/ipc/shm_layout.h"

enum { SEALS = F_SEAL_SHRINK | F_SEAL_GROW, PEER_PREFIX = 64 };

int share_create(size_t peers, int *ret_fd)
{
    CHECK((peers & (peers - 1)) == 0);
    size_t size = sizeof(struct memory) + SHARE_SEATS * peers * sizeof(struct peer_cell);
    const uint64_t head[] = {SHARE_LAYOUT, size};
    int fd = memfd_create("frontd-share", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    /* By its mode, 0777, a process that has it to be read could open it anew for writing. */
    if (fchmod(fd, 0600) < 0 || ftruncate(fd, (off_t)size) < 0 ||
        fcntl(fd, F_ADD_SEALS, SEALS | F_SEAL_SEAL) < 0 ||
        pwrite(fd, head, sizeof(head), 0) != (ssize_t)sizeof(head)) {
        int r = -errno;
        close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}

void share_table_init(struct share_table *table)
{
    *table = (struct share_table){.key = hash_key_random()};
}

/*
 * The cells for peers that a memory of that size has room for; false for a size that
 * share_create() does not make.
 */
static bool peers_of(off_t size, size_t *ret_peers)
{
    if (size < (off_t)sizeof(struct memory))
        return false;
    size_t rest = (size_t)size - sizeof(struct memory);
    size_t peers = rest / (SHARE_SEATS * sizeof(struct peer_cell));
    *ret_peers = peers;
    return rest % (SHARE_SEATS * sizeof(struct peer_cell)) == 0 && (peers & (peers - 1)) == 0;
}

static int map(int fd, const struct share_table *table, int protection, struct share **ret_share)
{
    struct stat st;
    size_t peers;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0)
        return -errno;
    /*
     * Without the seals another process could make it smaller: touching a page that is gone kills.
     */
    if ((seals & SEALS) != SEALS)
        return -EINVAL;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (!peers_of(st.st_size, &peers))
        return -EINVAL;
    struct share *share = mem_zalloc(sizeof(*share));
    if (share == NULL)
        return -ENOMEM;
    *share = (struct share){
        .size = (size_t)st.st_size, .peers = peers, .table = *table, .peer_prefix = PEER_PREFIX};
    share->memory = mmap(NULL, share->size, protection, MAP_SHARED, fd, 0);
    if (share->memory == MAP_FAILED) {
        int r = -errno;
        mem_free(share);
        return r;
    }
    *ret_share = share;
    return 0;
}

int share_map(int fd, const struct share_table *table, struct share **ret_share)
{
    return map(fd, table, PROT_READ | PROT_WRITE, ret_share);
}

int share_map_readonly(int fd, const struct share_table *table, struct share **ret_share)
{
    return map(fd, table, PROT_READ, ret_share);
}

int share_open_readonly(int fd)
{
    char path[40];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int opened = open(path, O_RDONLY | O_CLOEXEC);
    return opened < 0 ? -errno : opened;
}

void share_unmap(struct share *share)
{
    if (share == NULL)
        return;
    munmap(share->memory, share->size);
    mem_free(share);
}

const struct share_table *share_table(const struct share *share)
{
    return &share->table;
}

bool share_find_oldest(const struct share *share, uint64_t skip, const _Atomic uint64_t *first,
    size_t step, unsigned *ret_seat, uint64_t *ret_since)
{
    uint32_t seats = seats_in_use(share);
    uint64_t best = UINT64_MAX;
    for (uint32_t i = 0; i < seats; i++) {
        const _Atomic uint64_t *of = (const void *)((const char *)first + i * step);
        uint64_t since = skip >> i & 1 ? 0 : atomic_load(of);
        if (since != 0 && since < best) {
            best = since;
            *ret_seat = i;
        }
    }
    if (best == UINT64_MAX)
        return false;
    *ret_since = best;
    return true;
}
