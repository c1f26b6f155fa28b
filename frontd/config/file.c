#include "frontd/config/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "frontd/config/parse.h"

enum { CONF_FILE_MAX = 4 * 1024 * 1024 }; /* bytes; a config is written by people */

static int read_all(int fd, struct buf *text)
{
    for (off_t at = 0;;) {
        char *room = buf_room(text, 16 * 1024);
        if (room == NULL)
            return -ENOMEM;
        ssize_t n = pread(fd, room, 16 * 1024, at);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            return 0;
        if (n > 0) {
            at += n;
            buf_added(text, (size_t)n);
        }
        if (at > CONF_FILE_MAX)
            return -EFBIG;
    }
}

static int load_fd(int fd, const char *name, const struct conf_findings *findings,
    struct buf *ret_text, struct conf **ret_conf, char *error, size_t error_size)
{
    struct buf text = {0};
    int r = read_all(fd, &text);
    if (r < 0)
        snprintf(error, error_size, "%s:1: cannot read it: %s", name, strerror(-r));
    else
        r = conf_try(name, text.memory == NULL ? "" : buf_data(&text), buf_len(&text), findings,
            ret_conf, error, error_size);
    if (r < 0)
        buf_deinit(&text);
    else
        *ret_text = text;
    return r;
}

int conf_file_try_fd(int fd, const char *name, const struct conf_findings *findings,
    struct buf *ret_text, struct conf **ret_conf, char *error, size_t error_size)
{
    return load_fd(fd, name, findings, ret_text, ret_conf, error, error_size);
}

int conf_file_load(
    const char *path, struct buf *ret_text, struct conf **ret_conf, char *error, size_t error_size)
{
    return conf_file_try(path, NULL, ret_text, ret_conf, error, error_size);
}

int conf_file_try(const char *path, const struct conf_findings *findings, struct buf *ret_text,
    struct conf **ret_conf, char *error, size_t error_size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        int r = -errno;
        snprintf(error, error_size, "%s:1: cannot open it: %s", path, strerror(errno));
        return r;
    }
    int r = load_fd(fd, path, findings, ret_text, ret_conf, error, error_size);
    close(fd);
    return r;
}
