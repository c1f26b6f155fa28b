/*
 * Prints the metrics of a front that runs, or times how long they take to be made: of its shared
 * memory, which is looked for among the descriptors of its supervisor. Without the key of the
 * memory, so that pools' queues are not found.
 */

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/admin/metrics_text.h"
#include "frontd/config/file.h"
#include "frontd/ipc/metric_sums.h"
#include "frontd/ipc/shm_names.h"

/* The memory of a process, opened to be read only; -1: it has none. */
static int find_memory(const char *pid)
{
    char path[512];
    char target[256];
    snprintf(path, sizeof(path), "/proc/%s/fd", pid);
    DIR *dir = opendir(path);
    if (dir == NULL)
        return -1;
    int fd = -1;
    for (struct dirent *entry; fd < 0 && (entry = readdir(dir)) != NULL;) {
        snprintf(path, sizeof(path), "/proc/%s/fd/%s", pid, entry->d_name);
        ssize_t n = readlink(path, target, sizeof(target) - 1);
        if (n > 0 && strstr((target[n] = '\0', target), "memfd:frontd-share") != NULL)
            fd = open(path, O_RDONLY);
    }
    closedir(dir);
    return fd;
}

static double cpu_seconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* A memory in which so many routes and methods have counted on so many seats. */
static struct share *make_memory(unsigned rows, unsigned seats)
{
    struct share *share;
    struct share_table table;
    char name[64];
    int fd;
    share_table_init(&table);
    if (share_create(0, &fd) < 0 || share_map(fd, &table, &share) < 0)
        return NULL;
    unsigned listener = share_name_claim(share, METRIC_KIND_listener, 0, SPAN("web"));
    for (unsigned i = 0; i < rows; i++) {
        bool method = i < METRIC_METHODS_MAX;
        snprintf(name, sizeof(name), "%s%u", method ? "method." : "/route/", i);
        struct span text = {name, strlen(name)};
        unsigned row = share_name_claim(
            share, method ? METRIC_KIND_method : METRIC_KIND_route, method ? 0 : listener, text);
        unsigned pair = method ? 0 : share_name_claim(share, METRIC_KIND_pair, row, SPAN("app"));
        for (unsigned seat = 0; seat < seats; seat++) {
            struct method_words *words = method ? metric_row(share, seat, METRIC_KIND_method, row)
                                                : NULL;
            struct route_words *route = method ? NULL
                                               : metric_row(share, seat, METRIC_KIND_route, row);
            struct pair_words *calls = method ? NULL
                                              : metric_row(share, seat, METRIC_KIND_pair, pair);
            if (words != NULL) {
                share_count(&words->ended[0], i);
                metric_observe(words->whole, i * 1000);
            } else {
                share_count(route->received, i);
                share_count(&route->ended[METRIC_CODE_OK], i);
                share_count(calls->started, i);
                metric_observe(calls->whole, i * 1000);
            }
        }
    }
    for (unsigned seat = 0; seat < seats; seat++)
        share_count(share_shard(share, seat)->turns, 1);
    close(fd);
    return share;
}

static int time_it(const struct metrics_source *source, unsigned rounds)
{
    struct buf out = {0};
    const struct metrics_query query = {0};
    double best = 1e9;
    double before = cpu_seconds();
    for (unsigned i = 0; i < rounds; i++) {
        double from = cpu_seconds();
        buf_deinit(&out);
        if (metrics_text(source, &query, &out) < 0)
            return 1;
        double took = cpu_seconds() - from;
        best = took < best ? took : best;
    }
    printf("%u scrapes of %zu bytes: %.2f ms of CPU each, %.2f ms the quickest\n", rounds,
        buf_len(&out), (cpu_seconds() - before) * 1000 / rounds, best * 1000);
    buf_deinit(&out);
    return 0;
}

int main(int argc, char **argv)
{
    struct conf conf = {.shards = 1};
    struct share *share = NULL;
    struct share_table table = {0};
    if (argc == 4 && strcmp(argv[1], "--time") == 0)
        share = make_memory((unsigned)atoi(argv[2]), (unsigned)atoi(argv[3]));
    else if (argc == 2 || argc == 3) {
        int fd = find_memory(argv[1]);
        if (fd < 0 || share_map_readonly(fd, &table, &share) < 0)
            share = NULL;
    } else {
        fprintf(stderr, "usage: bench_scrape PID [PREFIX] | --time ROWS SEATS\n");
        return 2;
    }
    if (share == NULL) {
        fprintf(stderr, "no memory of metrics\n");
        return 1;
    }
    const struct metrics_source source = {.share = share, .conf = &conf};
    if (argc == 4) {
        int r = time_it(&source, 50);
        share_unmap(share);
        return r;
    }
    struct buf out = {0};
    struct metrics_query query = {0};
    if (argc == 3)
        query.prefix = (struct span){argv[2], strlen(argv[2])};
    int r = metrics_text(&source, &query, &out);
    if (r == 0)
        fwrite(buf_data(&out), 1, buf_len(&out), stdout);
    buf_deinit(&out);
    share_unmap(share);
    return r == 0 ? 0 : 1;
}
