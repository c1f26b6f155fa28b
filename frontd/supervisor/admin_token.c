#include "frontd/supervisor/admin_token.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "frontd/supervisor/tls/secret_file.h"
#include "frontd/system/privileges.h"

enum { FILE_MAX = ADMIN_TOKEN_MAX + 2 /* a line end */ };

struct loader {
    const char *conf_name;
    const struct conf_tls_file *file;
    const struct conf_findings *findings;
    char *error;
    size_t error_size;
};

/* "FILE:LINE: admin.token_file: FILE: what" */
static int complain(const struct loader *loader, const char *what, int r)
{
    snprintf(loader->error, loader->error_size, "%s:%u: admin.token_file: %s: %s",
        loader->conf_name, loader->file->line, loader->file->path, what);
    return r;
}

__attribute__((format(printf, 2, 3))) static void warn(
    const struct loader *loader, const char *format, ...)
{
    char what[256];
    char text[5120];
    va_list args;
    if (loader->findings == NULL || loader->findings->odd == NULL)
        return;
    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    snprintf(text, sizeof(text), "%s:%u: admin.token_file: %s: %s", loader->conf_name,
        loader->file->line, loader->file->path, what);
    loader->findings->odd(loader->findings->data, text);
}

static bool is_token_byte(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c != '\0' && strchr("-._~+/=", c) != NULL);
}

size_t admin_token_length(const char *text, size_t n)
{
    if (n > 0 && text[n - 1] == '\n')
        n--;
    if (n > 0 && text[n - 1] == '\r')
        n--;
    for (size_t i = 0; i < n; i++) {
        if (!is_token_byte(text[i]))
            return 0;
    }
    return n <= ADMIN_TOKEN_MAX ? n : 0;
}

/* Only its owner, who is root or runs frontd, and at most a group may read it. */
static void check_mode(const struct loader *loader, const struct stat *st)
{
    unsigned mode = (unsigned)st->st_mode & 07777;
    if (mode & (S_IWGRP | S_IRWXO))
        warn(loader,
            "its mode is %04o: others than its owner and its group may %s it; 0640 is as much as "
            "it needs",
            mode, mode & (S_IWGRP | S_IWOTH) ? "change" : "read");
    if (st->st_uid != 0 && st->st_uid != geteuid())
        warn(loader, "it belongs to user %u, not to the one who runs frontd", (unsigned)st->st_uid);
}

/* Makes a sealed memfd of it: the caller's, or -errno. */
static int make(const char *token, size_t n)
{
    int fd = memfd_create("frontd-token", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    /* By its mode, 0777, another process of any user that gets hold of it could open it anew. */
    if (fchmod(fd, 0600) < 0 || write(fd, token, n) != (ssize_t)n ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0) {
        int r = -errno;
        close(fd);
        return r;
    }
    return fd;
}

static int take(const struct loader *loader, const struct secret_file *file, int *ret_fd)
{
    size_t n = admin_token_length(file->text, file->n);
    if (n == 0)
        return complain(loader,
            "there has to be one line of 1 to 1024 letters, digits and -._~+/= and nothing else",
            -EINVAL);
    check_mode(loader, &file->st);
    if (n < ADMIN_TOKEN_SHORT)
        warn(loader,
            "the token has %zu bytes: one that cannot be guessed has %d or more, of "
            "random",
            n, ADMIN_TOKEN_SHORT);
    int fd = ret_fd == NULL ? 0 : make(file->text, n);
    if (fd < 0)
        return complain(loader, strerror(-fd), fd);
    if (ret_fd != NULL)
        *ret_fd = fd;
    return 0;
}

int admin_token_load(const char *conf_name, const struct conf *conf,
    const struct conf_findings *findings, int *ret_fd, char *error, size_t error_size)
{
    struct loader loader = {conf_name, &conf->admin.token_file, findings, error, error_size};
    struct secret_file file = {0};
    char text[128];
    if (loader.file->path == NULL) {
        if (ret_fd != NULL)
            *ret_fd = -1;
        return 0;
    }
    CHECK(privileges_hide() == 0); /* before it is in its memory */
    int r = secret_file_read(loader.file->path, FILE_MAX, &file);
    if (r == -EACCES && ret_fd == NULL) {
        warn(&loader, "it cannot be looked at: %s", secret_file_explain(r));
        return 0;
    }
    if (r < 0) {
        snprintf(text, sizeof(text), "cannot read it: %s", secret_file_explain(r));
        return complain(&loader, text, r);
    }
    r = take(&loader, &file, ret_fd);
    secret_file_free(&file);
    return r;
}
