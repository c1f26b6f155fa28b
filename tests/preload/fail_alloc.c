/*
 * Loaded before all other libraries (LD_PRELOAD), has allocations fail in one process: those of
 * libraries too, which mem_fail_after() does not reach. The environment variable FAIL_ALLOC_CONTROL
 * names a file that holds a struct control, which this library maps and a test writes at any time.
 * tests/system/lib/allocations.py is its other side. Not for a build with ASan, which has an
 * allocator of its own.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ROLE_NONE, ROLE_SUPERVISOR, ROLE_SHARD, ROLE_CHECK };

/* In the order of its members in allocations.py. */
struct control {
    int64_t role;   /* by the test: 0: no process; else the first one started in this role is it */
    int64_t pid;    /* the process; 0: none yet. By the test where it runs already */
    int64_t after;  /* by the test: so many allocations succeed from now on */
    int64_t count;  /* by the test: so many fail then; 0: none, they are only counted */
    int64_t seen;   /* allocations of that process; the test sets it to 0 */
    int64_t failed; /* of them */
};

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static struct control *control;
static int64_t own_pid;

/* Which role this process has, as its words say. */
static int own_role(void)
{
    char words[4096];
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, words, sizeof(words) - 1);
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return ROLE_NONE;
    words[n] = '\0';
    const char *name = strrchr(words, '/');
    if (strcmp(name == NULL ? words : name + 1, "frontd") != 0)
        return ROLE_NONE;
    for (const char *word = words; word < words + n; word += strlen(word) + 1) {
        if (strcmp(word, "--shard") == 0)
            return ROLE_SHARD;
        if (strcmp(word, "--check") == 0)
            return ROLE_CHECK;
    }
    return ROLE_SUPERVISOR;
}

__attribute__((constructor)) static void fail_alloc_open(void)
{
    const char *path = getenv("FAIL_ALLOC_CONTROL");
    int fd = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    void *map = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (map == MAP_FAILED)
        return;
    struct control *found = map;
    own_pid = getpid();
    int64_t none = 0;
    if (found->role != ROLE_NONE && found->role == own_role())
        __atomic_compare_exchange_n(
            &found->pid, &none, own_pid, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    control = found;
}

static int fails_now(void)
{
    if (control == NULL || __atomic_load_n(&control->pid, __ATOMIC_RELAXED) != own_pid)
        return 0;
    int64_t n = __atomic_fetch_add(&control->seen, 1, __ATOMIC_RELAXED);
    if (n < control->after || n - control->after >= control->count)
        return 0;
    __atomic_fetch_add(&control->failed, 1, __ATOMIC_RELAXED);
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t size)
{
    return fails_now() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return fails_now() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *block, size_t size)
{
    return fails_now() ? NULL : __libc_realloc(block, size);
}

void *reallocarray(void *block, size_t n, size_t size)
{
    size_t whole;
    if (__builtin_mul_overflow(n, size, &whole) || fails_now()) {
        errno = ENOMEM;
        return NULL;
    }
    return __libc_realloc(block, whole);
}

void *memalign(size_t alignment, size_t size)
{
    return fails_now() ? NULL : __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}

int posix_memalign(void **ret_block, size_t alignment, size_t size)
{
    void *block = memalign(alignment, size);
    if (block == NULL)
        return ENOMEM;
    *ret_block = block;
    return 0;
}
