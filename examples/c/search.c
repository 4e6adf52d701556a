/* Indexes a file of codes and finds the nearest of each query.
 *
 *     search N_BITS CODES QUERIES INDEX
 *
 * CODES and QUERIES hold rows of N_BITS / 8 bytes, as numpy's tofile writes them. The index is saved as INDEX and
 * searched from there. Prints a line for each query: its ten nearest codes as id:distance.
 *
 * Built with CMakeLists.txt, or in one line:
 *
 *     cc search.c -o search $(pkg-config --cflags --libs fasthash)
 */
#include <errno.h>
#include <fasthash/fasthash.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define K 10

static void fail(const char* what, const char* why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(EXIT_FAILURE);
}

/* Every call that can fail goes through this. */
static void check(const char* what, fasthash_status status) {
    if (status != FASTHASH_OK) fail(what, fasthash_last_error());
}

static size_t read_bits(const char* text) {
    char* end;
    const long n_bits = strtol(text, &end, 10);
    if (end == text || *end != '\0' || n_bits < 1 || n_bits > 4096) {
        fprintf(stderr, "N_BITS must be a whole number from 1 to 4096, got '%s'\n", text);
        exit(EXIT_FAILURE);
    }
    return (size_t)n_bits;
}

static fasthash_codes read_codes(const char* path, size_t n_bytes) {
    FILE* file = fopen(path, "rb");
    if (file == NULL) fail(path, strerror(errno));
    size_t n_read = 0, room = 1 << 16;
    uint8_t* data = malloc(room);
    while (data != NULL) {
        n_read += fread(data + n_read, 1, room - n_read, file);
        if (n_read < room) break;
        room *= 2;
        uint8_t* larger = realloc(data, room);
        if (larger == NULL) free(data);
        data = larger;
    }
    if (data == NULL) fail(path, "out of memory");
    if (ferror(file)) fail(path, strerror(errno));
    if (n_read % n_bytes != 0) fail(path, "ends within a code");
    fclose(file);
    fasthash_codes codes = {data, n_read / n_bytes, n_bytes};
    return codes;
}

static void build(size_t n_bits, const char* codes_path, const char* index_path) {
    fasthash_index* index;
    check("create", fasthash_hier_create(&n_bits, 1, FASTHASH_MEMORY_DEFAULT, &index));
    fasthash_codes codes = read_codes(codes_path, (n_bits + 7) / 8);
    check("add", fasthash_index_add(index, codes, NULL)); /* ids 0, 1, 2, ... */
    check("save", fasthash_index_save(index, index_path));
    free((void*)codes.data);
    fasthash_index_free(index);
}

int main(int argc, char** argv) {
    if (argc != 5) fail("usage", "search N_BITS CODES QUERIES INDEX");
    const char* index_path = argv[4];
    build(read_bits(argv[1]), argv[2], index_path);

    fasthash_index* index;
    check("load", fasthash_index_load(index_path, true, &index));
    fasthash_codes queries = read_codes(argv[3], (fasthash_index_n_bits(index) + 7) / 8);
    int32_t* distances = malloc(queries.n * K * sizeof *distances);
    int64_t* ids = malloc(queries.n * K * sizeof *ids);
    check("search", fasthash_index_search(index, queries, K, NULL, distances, ids));

    printf("%zu codes of %zu bits\n", fasthash_index_size(index), fasthash_index_n_bits(index));
    for (size_t q = 0; q < queries.n; ++q) {
        for (size_t i = q * K; i < (q + 1) * K && ids[i] != -1; ++i) {
            printf("%s%" PRId64 ":%" PRId32, i == q * K ? "" : " ", ids[i], distances[i]);
        }
        printf("\n");
    }
    free(ids);
    free(distances);
    free((void*)queries.data);
    fasthash_index_free(index);
    return EXIT_SUCCESS;
}
