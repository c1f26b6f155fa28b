/*
 * How long the JSON-RPC scanner takes for a text: scan [ROUNDS [FILE …]]. Prints ns for each, the
 * least of several runs, for requests of usual sizes and for what is in the files.
 */

#include <string.h>
#include <time.h>

#include "proto/jsonrpc.h"

enum { RUNS = 20, ROOM = 64, FILE_MAX = 1 << 20 };

static const char *const texts[] = {
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"demo.echo\",\"params\":[1]}",
    "{\"jsonrpc\":\"2.0\",\"method\":\"demo.echo\",\"params\":{\"a\":1,\"b\":\"text\"},\"id\":"
    "123456}",
    "{\"jsonrpc\":\"2.0\",\"id\":\"6f1c3a52-7a55-4c1e-9a0f-5b6d2f1a8f10\",\"method\":\"orders."
    "add\","
    "\"params\":{\"item\":\"tea\",\"count\":3,\"note\":\"as always, with milk and sugar, please\"},"
    "\"trace\":\"00-4bf92f3577b34da6a3ce929d0e0e4736\"}",
    "[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a.b\"},{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":"
    "\"a.c\",\"params\":[]},{\"jsonrpc\":\"2.0\",\"method\":\"a.d\"}]",
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void measure(const char *text, size_t n, unsigned long rounds)
{
    static struct jsonrpc_request members[ROOM];
    struct jsonrpc_response response;
    double requests = 0;
    double responses = 0;
    for (int run = 0; run < RUNS; run++) {
        size_t count;
        bool batch;
        uint64_t begin = now_ns();
        for (unsigned long i = 0; i < rounds; i++)
            jsonrpc_scan(text, n, members, ROOM, &count, &batch);
        double took = (double)(now_ns() - begin) / (double)rounds;
        requests = run == 0 ? took : MIN(requests, took);
        begin = now_ns();
        for (unsigned long i = 0; i < rounds; i++)
            jsonrpc_scan_response(text, n, &response);
        took = (double)(now_ns() - begin) / (double)rounds;
        responses = run == 0 ? took : MIN(responses, took);
    }
    printf("%6zu bytes: request %8.1f ns, response %8.1f ns\n", n, requests, responses);
}

int main(int argc, char **argv)
{
    static const char answer[] =
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"id\":7,\"item\":\"tea\"}}";
    static char large[FILE_MAX];
    unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 100000;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        measure(texts[i], strlen(texts[i]), rounds);
    measure(answer, sizeof(answer) - 1, rounds);
    int n = snprintf(
        large, sizeof(large), "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"params\":[\"");
    memset(large + n, 'x', 4096);
    size_t end = (size_t)n + 4096 + (size_t)snprintf(large + n + 4096, 8, "\"]}");
    measure(large, end, rounds / 10 + 1);
    for (int i = 2; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        if (file == NULL) {
            perror(argv[i]);
            return 1;
        }
        end = fread(large, 1, sizeof(large), file);
        fclose(file);
        measure(large, end, rounds / 10 + 1);
    }
    return 0;
}
