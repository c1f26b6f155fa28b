#include "frontd/supervisor/workers/output.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/system/loop.h"

enum {
    READ_SIZE = 4096,
    READS_A_TURN = 4, /* then other descriptors have their turn, however much is left to read */
    /*
     * At the end: what the pipe holds, and no more, since processes that have inherited it may
     * write on.
     */
    READS_AT_END = 17,
};

/* Says how many lines were left out, at most once in a second but at the end. */
static void tell_skipped(struct output_lines *lines, bool at_end)
{
    char prefix[OUTPUT_NAME_MAX + 16];
    char note[96];
    uint64_t now = log_clock();
    if (lines->rate.skipped == 0 || (!at_end && now - lines->told_at < 1000))
        return;
    int n = snprintf(note, sizeof(note),
        "%llu lines were left out: it writes more than %d in a second",
        (unsigned long long)lines->rate.skipped, OUTPUT_RATE);
    snprintf(prefix, sizeof(prefix), "%s: ", lines->name);
    log_text(LOG_WARNING, prefix, (struct span){note, (size_t)n});
    lines->rate.skipped = 0;
    lines->told_at = now;
}

static void log_piece(struct output_lines *lines)
{
    if (!log_rate_pass(&lines->rate, log_clock(), 1000 / OUTPUT_RATE, OUTPUT_BURST)) {
        lines->continued = true;
        lines->n = 0;
        return;
    }
    tell_skipped(lines, false);
    char prefix[OUTPUT_NAME_MAX + 16];
    struct span text = {lines->text, lines->n};
    do {
        snprintf(
            prefix, sizeof(prefix), "%s%s: ", lines->name, lines->continued ? ", goes on" : "");
        size_t used = log_text(LOG_INFO, prefix, text);
        CHECK(used > 0 || text.n == 0);
        text.p += used;
        text.n -= used;
        lines->continued = true;
    } while (text.n > 0);
    lines->n = 0;
}

static void end_line(struct output_lines *lines)
{
    if (lines->n > 0 || !lines->continued)
        log_piece(lines);
    lines->continued = false;
}

void output_lines_feed(struct output_lines *lines, const char *bytes, size_t n)
{
    while (n > 0) {
        const char *newline = memchr(bytes, '\n', n);
        size_t rest = newline == NULL ? n : (size_t)(newline - bytes);
        size_t some = MIN(rest, sizeof(lines->text) - lines->n);
        memcpy(lines->text + lines->n, bytes, some);
        lines->n += (uint32_t)some;
        if (newline != NULL && some == rest) {
            end_line(lines);
            some++;
        } else if (lines->n == sizeof(lines->text)) {
            log_piece(lines);
        }
        bytes += some;
        n -= some;
    }
}

void output_lines_end(struct output_lines *lines)
{
    if (lines->n > 0)
        log_piece(lines);
    tell_skipped(lines, true);
    lines->continued = false;
}

/* Reads some of the output. Returns whether there may be more. */
static bool read_some(struct output *output, int reads)
{
    char bytes[READ_SIZE];
    for (int i = 0; i < reads; i++) {
        ssize_t n = read(output->fd, bytes, sizeof(bytes));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return true;
        if (n <= 0)
            return false;
        output_lines_feed(&output->lines, bytes, (size_t)n);
    }
    return true;
}

static void on_output_readable(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct output *output = poll->data;
    /* No process can write any more; the worker itself may go on without its output. */
    if (!read_some(output, READS_A_TURN))
        uv_poll_stop(poll);
}

int output_open(uv_loop_t *loop, int fd, const char *name, struct output **ret_output)
{
    struct output *output = mem_zalloc(sizeof(*output));
    if (output == NULL) {
        close(fd);
        return -ENOMEM;
    }
    output->fd = fd;
    snprintf(output->lines.name, sizeof(output->lines.name), "%s", name);
    int r = loop_poll_init(loop, &output->poll, fd);
    if (r < 0) {
        close(fd);
        mem_free(output);
        return r;
    }
    output->poll.data = output;
    CHECK(uv_poll_start(&output->poll, UV_READABLE, on_output_readable) == 0);
    *ret_output = output;
    return 0;
}

static void on_output_closed(uv_handle_t *handle)
{
    struct output *output = handle->data;
    close(output->fd);
    mem_free(output);
}

void output_close(struct output *output)
{
    if (output == NULL)
        return;
    read_some(output, READS_AT_END);
    output_lines_end(&output->lines);
    uv_close((uv_handle_t *)&output->poll, on_output_closed);
}
