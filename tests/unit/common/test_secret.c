#include <criterion/criterion.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/secret.h"
#include "tests/unit/support/dumps.h"

Test(secret, is_zeroed_and_in_no_dump)
{
    static const size_t sizes[] = {1, 100, 4096, 100000};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        char *memory = secret_alloc(sizes[i]);
        cr_assert_not_null(memory);
        for (size_t k = 0; k < sizes[i]; k++)
            cr_assert_eq(memory[k], 0);
        memset(memory, 'x', sizes[i]);
        cr_expect(is_left_out_of_dumps(memory));
        cr_expect(is_left_out_of_dumps(memory + sizes[i] - 1));
        cr_expect_null(secret_free(memory, sizes[i]));
    }
    char plain[16];
    cr_expect_not(is_left_out_of_dumps(plain));
}

Test(secret, begins_where_it_is_to)
{
    size_t before = mem_in_use();
    for (size_t align = 1; align <= 1 << 20; align *= 4) {
        char *memory[3];
        for (size_t i = 0; i < ARRAY_LEN(memory); i++) {
            memory[i] = secret_aligned(align, 5000);
            cr_assert_not_null(memory[i]);
            cr_expect_eq((uintptr_t)memory[i] % align, 0u);
            cr_expect(is_left_out_of_dumps(memory[i]));
        }
        cr_expect_geq(mem_in_use(), before + sizeof(memory) / sizeof(*memory) * 5000);
        for (size_t i = 0; i < ARRAY_LEN(memory); i++)
            secret_free(memory[i], 5000);
    }
    cr_expect_eq(mem_in_use(), before);
}

Test(secret, is_not_in_a_forked_process)
{
    char *memory = secret_alloc(100);
    int status = -1;
    memory[50] = 'x';
    pid_t pid = fork();
    if (pid == 0)
        _exit(memory[50]);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    cr_expect_eq(memory[50], 'x');
    secret_free(memory, 100);
}

Test(secret, without_memory)
{
    size_t before = mem_in_use();
    mem_fail_after(0);
    cr_expect_null(secret_alloc(100));
    cr_expect_null(secret_aligned(1 << 20, SIZE_MAX / 2));
    cr_expect_eq(mem_in_use(), before);
}

Test(secret, nothing)
{
    cr_expect_null(secret_free(NULL, 100));
    cr_expect_null(secret_alloc(SIZE_MAX / 2));
    void *memory = secret_alloc(0);
    cr_expect_not_null(memory);
    secret_free(memory, 0);
}

Test(secret, wipe)
{
    char bytes[8] = "abcdefg";
    secret_wipe(bytes + 1, 3);
    cr_expect_eq(memcmp(bytes, "a\0\0\0efg", 8), 0);
    secret_wipe(bytes, 0);
}
