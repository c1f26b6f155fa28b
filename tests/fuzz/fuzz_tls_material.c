/*
 * Certificates and keys as a shard maps them: whatever the memfd has, all texts lie in it, and what
 * is read without a mistake can be written again, byte for byte.
 */

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/ipc/tls_material.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_inside(const struct tls_material *material, struct span text)
{
    const char *start = material->map;
    CHECK(text.n == 0 || (text.p >= start && text.n <= material->size &&
                             (size_t)(text.p - start) <= material->size - text.n));
}

static void check_certificate(
    const struct tls_material *material, const struct tls_material_certificate *certificate)
{
    check_inside(material, certificate->cert);
    check_inside(material, certificate->key);
}

static void check_again(const struct tls_material *material, const uint8_t *data, size_t size)
{
    int fd;
    CHECK(tls_material_write(material, &fd) == 0);
    void *again = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    CHECK(again != MAP_FAILED && lseek(fd, 0, SEEK_END) == (off_t)size);
    CHECK(memcmp(again, data, size) == 0);
    munmap(again, size);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tls_material material;
    size_t before = mem_in_use();
    int fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == 0);
    if (tls_material_map(fd, &material) == 0) {
        for (uint32_t i = 0; i < material.nlisteners; i++) {
            const struct tls_material_listener *listener = &material.listeners[i];
            check_inside(&material, listener->client_ca);
            for (uint32_t k = 0; k < listener->ncertificates; k++)
                check_certificate(&material, &listener->certificates[k]);
            CHECK(tls_material_find(&material, listener->listener) != NULL);
        }
        for (uint32_t i = 0; i < material.npools; i++) {
            check_inside(&material, material.pools[i].ca);
            check_certificate(&material, &material.pools[i].own);
            CHECK(tls_material_find_pool(&material, material.pools[i].pool) != NULL);
        }
        check_again(&material, data, size);
        tls_material_unmap(&material);
    }
    close(fd);
    CHECK(mem_in_use() == before);
    return 0;
}
