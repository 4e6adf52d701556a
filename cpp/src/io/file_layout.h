// Layout of an index file: the header and the positions of the sections.
//
// Used by the reader and the writer. All numbers are little-endian.
#pragma once

#include <cstddef>
#include <cstdint>

#include "codes/id_map.h"
#include "codes/packed_numbers.h"
#include "fasthash/codes.h"
#include "fasthash/search.h"
#include "kernels/kernels.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "index files are little-endian; a big-endian machine needs a reader that swaps bytes"
#endif

namespace fasthash {

constexpr char kMagic[8] = {'F', 'A', 'S', 'T', 'H', 'A', 'S', 'H'};
constexpr std::uint16_t kMajor = 1;
constexpr std::uint16_t kMinor = 4;  // the newest
constexpr std::uint64_t kMaxCodes = UINT32_MAX;
constexpr std::uint64_t kMaxClusters = UINT16_MAX;
constexpr std::size_t kSections = 6;
constexpr std::size_t kOldSections = 4;  // before minor version 2
constexpr const char* kSectionNames[kSections] = {"levels", "codes", "runs", "ids", "clusters", "id map"};

/// The header as stored: the first 128 bytes of a file.
struct RawHeader {
    char magic[8];
    std::uint16_t major;
    std::uint16_t minor;
    std::uint32_t header_bytes;
    std::uint8_t kind;
    std::uint8_t id_bytes;
    std::uint16_t n_levels;
    std::uint8_t memory;
    std::uint8_t plan;
    std::uint16_t n_clusters;
    std::uint64_t n_codes;
    std::uint64_t n_rows;
    std::uint64_t n_runs;
    std::int64_t first_id;
    std::uint64_t next_id;
    std::uint64_t hashes[kSections];
    std::uint8_t has_id_map;
    std::uint8_t metric;
    std::uint8_t padding_bits;  // low bits of the last byte of a code that no bit uses
    std::uint8_t reserved[2];
    std::uint8_t n_tables;
    std::uint8_t has_summary;
    std::uint8_t directory_bits;
    std::uint64_t header_hash;  // of all bytes before it

    /// The minor version of such a file: the oldest that can express it.
    std::uint16_t oldest_minor() const {
        if (is_scanned()) return 4;
        if (metric != 0 || padding_bits != 0 || has_summary != 0) return 3;
        if (n_clusters > 0 || has_id_map != 0) return 2;
        return plan == 4 ? 1 : 0;
    }
    bool is_jaccard() const { return metric == static_cast<std::uint8_t>(Metric::jaccard); }
    bool is_flat() const { return kind == static_cast<std::uint8_t>(IndexKind::flat); }
    /// Whether equal codes are stored one by one, in whole groups.
    bool has_row_for_each_code() const { return is_flat() || is_jaccard(); }
    /// Whether sorted codes have no directory, as searches by a scan need none.
    bool is_scanned() const { return has_summary != 0 && n_clusters == 0 && directory_bits == 0; }
    /// Whether codes are stored in whole groups.
    bool is_in_groups() const { return has_row_for_each_code() || n_clusters > 0 || is_scanned(); }
    std::size_t n_sections() const { return oldest_minor() < 2 ? kOldSections : kSections; }
};
static_assert(sizeof(RawHeader) == 128 && offsetof(RawHeader, header_hash) == 120, "the format fixes the header");

/// Parts of the section 'clusters', as offsets within it: the rings and the centroids, if there are clusters; then, if
/// the file has one, the summary, which tells what opening a mapped file would have to compute.
struct ClusterParts {
    std::uint64_t centroids;
    std::uint64_t centroids_end;
    std::uint64_t largest;  // the largest id, less the first
    std::uint64_t cost;     // of a query by the directory and the tables, as the planner counts
    std::uint64_t least;    // the smallest id of each kGroup rows, less the first
    std::uint64_t least_end;
    std::uint64_t directory;  // of the leading bits, if the codes are not in clusters
    std::uint64_t end;

    ClusterParts(const RawHeader& raw, std::size_t n_bytes) {
        // A bit-major file has the rings of a single centroid, zero, which it does not store.
        const std::uint64_t n_centers = raw.is_jaccard() && raw.n_codes > 0 ? 1 : raw.n_clusters;
        const std::uint64_t n_rings = n_centers * (n_bytes * 8 + 1);
        centroids = n_centers == 0 ? 0 : (n_rings + 1) * sizeof(std::uint32_t);
        centroids_end = centroids + raw.n_clusters * n_bytes;
        largest = (centroids_end + 7) / 8 * 8;
        cost = largest + sizeof(std::uint64_t);
        least = cost + sizeof(double);
        least_end = least + (raw.n_rows + kGroup - 1) / kGroup * raw.id_bytes + PackedNumbers::kSlack;
        directory = (least_end + 7) / 8 * 8;
        end = raw.has_summary == 0      ? centroids_end
              : raw.directory_bits == 0 ? least_end
                                        : directory + n_begins(raw) * sizeof(std::uint32_t);
    }
    /// Numbers of a directory, and of a table.
    static std::uint64_t n_begins(const RawHeader& raw) { return (std::uint64_t{1} << raw.directory_bits) + 1; }
};

/// Parts of the section 'codes', as offsets within it: the codes, then the tables of multi-index hashing, if any.
struct CodeParts {
    std::uint64_t codes_end;
    std::uint64_t codes_of_table;  // within a table, which begins with those of its buckets
    std::uint64_t rows_of_table;
    std::uint64_t table_end;
    std::uint64_t end;

    CodeParts(const RawHeader& raw, std::size_t n_bytes) {
        const std::uint64_t n_stored = raw.is_in_groups() ? align(raw.n_rows, kGroup) : raw.n_rows;
        codes_end = n_stored * n_bytes;
        codes_of_table = align(ClusterParts::n_begins(raw) * sizeof(std::uint32_t));
        rows_of_table = codes_of_table + align(raw.n_rows * n_bytes);
        table_end = rows_of_table + raw.n_rows * row_bytes(raw) + PackedNumbers::kSlack;
        end = raw.n_tables == 0 ? codes_end : begin(raw.n_tables - 1u) + table_end;
    }
    std::uint64_t begin(std::size_t table) const { return align(codes_end) + table * align(table_end); }
    /// Bytes of the number of a row in a table.
    static std::size_t row_bytes(const RawHeader& raw) { return PackedNumbers::width_for(raw.n_rows); }
    static std::uint64_t align(std::uint64_t offset, std::uint64_t to = 64) { return (offset + to - 1) / to * to; }
};

struct SectionRange {
    std::uint64_t begin;
    std::uint64_t n_bytes;

    std::uint64_t end() const { return begin + n_bytes; }
};

/// Positions of the sections: computed from the header, never stored, so that they cannot contradict it.
struct SectionTable {
    SectionRange sections[kSections];  // the first n of them
    std::size_t n;

    /// No overflow: fewer than 2^32 codes of at most 512 bytes.
    SectionTable(const RawHeader& raw, std::size_t n_bytes) : n(raw.n_sections()) {
        const std::uint64_t sizes[kSections] = {
            raw.n_levels * sizeof(std::uint16_t),
            CodeParts(raw, n_bytes).end,
            raw.n_runs == 0 ? 0 : (raw.n_rows + 63) / 64 * sizeof(std::uint64_t) + raw.n_runs * sizeof(std::uint32_t),
            raw.id_bytes == 0 ? 0 : raw.n_codes * raw.id_bytes + PackedNumbers::kSlack,
            ClusterParts(raw, n_bytes).end,
            raw.has_id_map == 0 ? 0 : raw.n_codes * IdMap::width_for(raw.n_codes) + PackedNumbers::kSlack,
        };
        std::uint64_t begin = sizeof(RawHeader);
        for (std::size_t i = 0; i < n; ++i) {
            sections[i] = {begin, sizes[i]};
            begin = align(begin + sizes[i]);
        }
    }

    const SectionRange& operator[](std::size_t i) const { return sections[i]; }
    std::uint64_t file_bytes() const { return sections[n - 1].end(); }

    /// Sections begin at multiples of this.
    static constexpr std::uint64_t kAlignment = 64;
    static std::uint64_t align(std::uint64_t offset) { return (offset + kAlignment - 1) / kAlignment * kAlignment; }
};

}  // namespace fasthash
