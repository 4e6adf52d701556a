/* The C interface of fasthash: exact search over binary codes by Hamming or Jaccard distance. C99; also for C++ and for
 * other languages that call C. docs/c.md shows it at work.
 *
 * Codes are rows of bytes; bit j of a code is bit 7 - j % 8 of byte j / 8 (the order of numpy.packbits), levels stand
 * side by side, coarse first. Results are ordered by (distance, id): equal input gives equal bytes in every index, with
 * any number of threads.
 *
 * Errors. A function that can fail returns a status, and fasthash_last_error() says which argument or which part of a
 * file is wrong and what was expected. A call that fails leaves the index as it was, and the contents of its output
 * arrays undefined. No C++ exception leaves the library.
 *
 * Ownership. The caller owns an object that a function returns through `fasthash_index**`, `fasthash_filter**`,
 * `fasthash_range_result**` or `fasthash_jaccard_range_result**`, and frees it with the function that ends in _free; it
 * is NULL if the call fails. Codes, ids and paths that are passed in are read or copied during the call and never kept;
 * the caller provides the arrays for results. An array of no elements may be NULL. Paths are UTF-8 on Windows,
 * elsewhere what the system takes.
 *
 * Threads. Any number of threads may call any functions on one index or filter at once, only not _free while another
 * call uses it. A search sees what the index held when it began; changes take turns, and each happens as a whole. */
#ifndef FASTHASH_FASTHASH_H
#define FASTHASH_FASTHASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fasthash_status {
    FASTHASH_OK = 0,
    FASTHASH_ERROR_ARGUMENT = 1, /* an argument is not acceptable */
    FASTHASH_ERROR_MEMORY = 2,   /* there is not enough memory */
    FASTHASH_ERROR_IO = 3,       /* the operating system refused a file operation; errno is set to its reason */
    FASTHASH_ERROR_FORMAT = 4,   /* a file is no index, is damaged, or was written by a newer version */
    FASTHASH_ERROR_INTERNAL = 5  /* anything else: please report it */
} fasthash_status;

/* The message of the last failure in the calling thread, cut at 1023 bytes; "" if no call has failed. Valid until the
 * next failure in this thread; a call that succeeds keeps it. */
const char* fasthash_last_error(void);

/* "0.1.0" */
const char* fasthash_version(void);

/* The instruction set that counts bits: "scalar", "neon", "avx2", "avx512bw" or "avx512". NULL, with an error, if the
 * environment variable FASTHASH_SIMD names one that this machine does not offer. */
const char* fasthash_simd_level(void);

/* Number of threads that a call may use, a setting of the process; initially the number of its processors. */
size_t fasthash_num_threads(void);
/* n: from 1, which keeps all work in the calling thread, to 1024. */
fasthash_status fasthash_set_num_threads(size_t n);

/* n codes of n_bytes bytes each, one after the other: uint8 (n, n_bytes). */
typedef struct fasthash_codes {
    const uint8_t* data;
    size_t n;
    size_t n_bytes; /* must be the index's n_bits / 8, rounded up */
} fasthash_codes;

/* ---- indices ---- */

typedef struct fasthash_index fasthash_index;

enum fasthash_kind { FASTHASH_FLAT = 1, FASTHASH_HIER = 2 };

/* Memory that a hierarchical index may use where it makes searches faster. */
enum fasthash_memory {
    FASTHASH_MEMORY_DEFAULT = 0, /* up to twice the bytes of the codes */
    FASTHASH_MEMORY_COMPACT = 1, /* as little as possible */
    FASTHASH_MEMORY_FAST = 2     /* up to six times the bytes of the codes */
};

/* The index that compares every code. n_bits: from 1 to 4096. */
fasthash_status fasthash_flat_create(size_t n_bits, fasthash_index** index);

/* The index that skips codes where a lower bound allows it; its results are the same. level_bits: the widths of the
 * levels, coarse first, each a positive multiple of 8, the last any width, together at most 4096; memory: of enum
 * fasthash_memory. */
fasthash_status fasthash_hier_create(const size_t* level_bits, size_t n_levels, int32_t memory, fasthash_index** index);

/* Distance between codes. */
enum fasthash_metric {
    FASTHASH_HAMMING = 0, /* number of bits that differ; the metric of the functions above */
    FASTHASH_JACCARD = 1  /* 1 - shared / united, of the bits set in both codes and in either: 1 - Tanimoto */
};

/* The same for a metric, of enum fasthash_metric. With FASTHASH_JACCARD a hierarchical index has one level. */
fasthash_status fasthash_flat_create_with_metric(size_t n_bits, int32_t metric, fasthash_index** index);
fasthash_status fasthash_hier_create_with_metric(const size_t* level_bits, size_t n_levels, int32_t memory,
                                                 int32_t metric, fasthash_index** index);

/* Make an independent copy, in no time: both share what neither has changed (copy on write). */
fasthash_status fasthash_index_copy(const fasthash_index* index, fasthash_index** copy);

/* NULL is ignored. */
void fasthash_index_free(fasthash_index* index);

/* These are 0 for NULL. */
int32_t fasthash_index_kind(const fasthash_index* index);                    /* of enum fasthash_kind */
int32_t fasthash_index_metric(const fasthash_index* index);                  /* of enum fasthash_metric */
size_t fasthash_index_n_bits(const fasthash_index* index);                   /* width of a code in bits */
size_t fasthash_index_n_levels(const fasthash_index* index);                 /* 1 in a flat index */
size_t fasthash_index_level_bits(const fasthash_index* index, size_t level); /* 0 if there is no such level */
size_t fasthash_index_size(const fasthash_index* index);                     /* number of codes */
size_t fasthash_index_nbytes(const fasthash_index* index);       /* bytes of memory that codes, ids and tables take */
size_t fasthash_index_mapped_bytes(const fasthash_index* index); /* bytes of the file that it has mapped */
uint64_t fasthash_index_next_id(const fasthash_index* index);    /* one past the largest id so far: see add */

/* ---- changes ---- */

/* Add codes. ids: codes.n values that are distinct, new to the index and not -1; NULL counts on from one past the
 * largest id so far, from 0 in a fresh index. */
fasthash_status fasthash_index_add(fasthash_index* index, fasthash_codes codes, const int64_t* ids);
/* Remove the codes of n distinct ids that the index holds. */
fasthash_status fasthash_index_remove(fasthash_index* index, const int64_t* ids, size_t n);
/* Replace the codes of codes.n distinct ids that the index holds, in one step. */
fasthash_status fasthash_index_update(fasthash_index* index, const int64_t* ids, fasthash_codes codes);
/* Add all codes of another index, which has the same levels and metric, under their ids. */
fasthash_status fasthash_index_merge(fasthash_index* index, const fasthash_index* other);
/* Rebuild the index as if all codes had been added at once. Changes speed and memory, not results. */
fasthash_status fasthash_index_compact(fasthash_index* index);

/* ---- looking up ---- */

/* Build the table that finds codes by their id now: else the first call that needs it does (remove, update, contains,
 * reconstruct, a search with a filter). Changes no result. */
fasthash_status fasthash_index_build_id_map(const fasthash_index* index);
fasthash_status fasthash_index_contains(const fasthash_index* index, int64_t id, bool* contains);
/* Write the codes of n ids that the index holds: `codes` takes n rows of n_bits / 8 bytes, rounded up. */
fasthash_status fasthash_index_reconstruct(const fasthash_index* index, const int64_t* ids, size_t n, uint8_t* codes);

/* ---- filters ---- */

/* A set of ids that a search may return, made once for any number of searches on any index. It keeps what a search
 * prepares for the next one. */
typedef struct fasthash_filter fasthash_filter;

/* ids: any n ids, in any order, also several times. Ids that an index does not hold are ignored. */
fasthash_status fasthash_filter_create(const int64_t* ids, size_t n, fasthash_filter** filter);
/* The ids i < n for which mask[i] is not 0. */
fasthash_status fasthash_filter_create_mask(const uint8_t* mask, size_t n, fasthash_filter** filter);
/* NULL is ignored. */
void fasthash_filter_free(fasthash_filter* filter);

/* ---- searches by Hamming distance ---- */

/* The k nearest codes of each query, exactly. k: from 1 to 2^31 - 1, also more than there are codes. filter: NULL for
 * all codes. `distances` and `ids` take queries.n rows of k values; where there are fewer than k codes a row ends in
 * distance n_bits + 1 and id -1. */
fasthash_status fasthash_index_search(const fasthash_index* index, fasthash_codes queries, size_t k,
                                      const fasthash_filter* filter, int32_t* distances, int64_t* ids);

/* What `keep` is a share of. */
enum fasthash_keep_mode {
    FASTHASH_KEEP_NODE_RATIO = 0,    /* the candidate nodes of a level */
    FASTHASH_KEEP_GALLERY_RATIO = 1, /* the gallery: the nearest nodes until they hold this share */
    FASTHASH_KEEP_RADIUS = 2         /* the bits of a level: all nodes within this distance */
};

/* HDHash's coarse-to-fine search over the levels of a hierarchical index (ICPR 2020), which is not exact: level by
 * level only the nearest nodes are kept. keep: above 0, at most 1; keep_mode: of enum fasthash_keep_mode; the
 * rest as in fasthash_index_search. */
fasthash_status fasthash_index_search_pruned(const fasthash_index* index, fasthash_codes queries, size_t k, double keep,
                                             int32_t keep_mode, const fasthash_filter* filter, int32_t* distances,
                                             int64_t* ids);

/* Result of a search by radius: the codes of query q are those from offsets[q] to offsets[q + 1] - 1. */
typedef struct fasthash_range_result {
    size_t n;                 /* queries */
    const int64_t* offsets;   /* n + 1; the last is the number of distances and of ids */
    const int32_t* distances; /* by (distance, id) */
    const int64_t* ids;
} fasthash_range_result;

/* All codes within a radius of each query, exactly. radius: the largest distance that is found, from 0. */
fasthash_status fasthash_index_range_search(const fasthash_index* index, fasthash_codes queries, int32_t radius,
                                            const fasthash_filter* filter, fasthash_range_result** result);
/* NULL is ignored. */
void fasthash_range_result_free(fasthash_range_result* result);

/* Count the codes within a radius of each query: `counts` takes queries.n values. */
fasthash_status fasthash_index_count_within(const fasthash_index* index, fasthash_codes queries, int32_t radius,
                                            const fasthash_filter* filter, int64_t* counts);

/* ---- searches by Jaccard distance ---- */

/* These need an index with FASTHASH_JACCARD, and those above one with FASTHASH_HAMMING. Distances are compared as
 * fractions, and rounded to float in the results; two codes without a bit set are at distance 0. */

/* As fasthash_index_search; where there are fewer than k codes a row ends in distance infinity and id -1. */
fasthash_status fasthash_index_search_jaccard(const fasthash_index* index, fasthash_codes queries, size_t k,
                                              const fasthash_filter* filter, float* distances, int64_t* ids);

/* As fasthash_range_result. */
typedef struct fasthash_jaccard_range_result {
    size_t n;
    const int64_t* offsets;
    const float* distances;
    const int64_t* ids;
} fasthash_jaccard_range_result;

/* All codes within a radius of each query, exactly. radius: from 0; a code is within it if its distance is not larger,
 * both rounded to float, so that a distance of a result finds its code. */
fasthash_status fasthash_index_range_search_jaccard(const fasthash_index* index, fasthash_codes queries, double radius,
                                                    const fasthash_filter* filter,
                                                    fasthash_jaccard_range_result** result);
/* NULL is ignored. */
void fasthash_jaccard_range_result_free(fasthash_jaccard_range_result* result);

/* Count the codes within a radius of each query: `counts` takes queries.n values. */
fasthash_status fasthash_index_count_within_jaccard(const fasthash_index* index, fasthash_codes queries, double radius,
                                                    const fasthash_filter* filter, int64_t* counts);

/* ---- files ---- */

/* Write the index into one file, atomically and durably: after a failure the old file is intact. */
fasthash_status fasthash_index_save(const fasthash_index* index, const char* path);
/* The same, with the table that finds codes by their id (at most 4 bytes a code), so that loading needs not build it.
 */
fasthash_status fasthash_index_save_with_id_map(const fasthash_index* index, const char* path);

/* Read and check a whole file. mapped: leave codes and ids in the file, mapped into memory, which other processes
 * share. The file may be replaced by saving meanwhile, but not be written into. */
fasthash_status fasthash_index_load(const char* path, bool mapped, fasthash_index** index);

#define FASTHASH_MAX_LEVELS 512

/* The header of an index file. */
typedef struct fasthash_file_info {
    int32_t kind; /* of enum fasthash_kind */
    int32_t format_major;
    int32_t format_minor;
    uint32_t n_levels;
    uint16_t level_bits[FASTHASH_MAX_LEVELS]; /* n_levels widths, coarse first, then zeros */
    uint64_t n_codes;
    uint64_t file_bytes;
    int32_t metric; /* of enum fasthash_metric */
} fasthash_file_info;

/* Read the header alone, in constant time; the codes are not checked. */
fasthash_status fasthash_peek(const char* path, fasthash_file_info* info);

#ifdef __cplusplus
}
#endif

#endif
