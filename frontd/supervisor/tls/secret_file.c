#include "frontd/supervisor/tls/secret_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/secret.h"

/* Reads to the end; one byte more than the file has had means that it grows. */
static int read_all(int fd, struct secret_file *file)
{
    while (file->n < file->room) {
        ssize_t n = read(fd, file->text + file->n, file->room - file->n);
        if (n == 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            file->n += (size_t)n;
    }
    return -EAGAIN;
}

static int load(int fd, size_t max, struct secret_file *file)
{
    if (fstat(fd, &file->st) < 0)
        return -errno;
    if (!S_ISREG(file->st.st_mode))
        return -EISDIR;
    if ((uintmax_t)file->st.st_size > max)
        return -EFBIG;
    file->room = (size_t)file->st.st_size + 1;
    file->text = secret_alloc(file->room);
    return file->text == NULL ? -ENOMEM : read_all(fd, file);
}

int secret_file_read(const char *path, size_t max, struct secret_file *ret_file)
{
    struct secret_file file = {0};
    /* A FIFO without a writer, or a terminal, would keep us. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return -errno;
    int r = load(fd, max, &file);
    close(fd);
    if (r == 0)
        *ret_file = file;
    else
        secret_file_free(&file);
    return r;
}

void secret_file_free(struct secret_file *file)
{
    secret_free(file->text, file->room);
    *file = (struct secret_file){0};
}

const char *secret_file_explain(int r)
{
    switch (r) {
    case -EISDIR: return "not a plain file";
    case -EFBIG: return "the file is too large";
    case -EAGAIN: return "the file grew while it was read";
    default: return strerror(-r);
    }
}
