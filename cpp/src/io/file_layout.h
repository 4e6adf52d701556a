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
constexpr std::uint16_t kMinor = 3;  // the newest
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
    std::uint8_t reserved[6];
    std::uint8_t padding_bits;  // low bits of the last byte of a code that no bit uses
    std::uint64_t header_hash;  // of all bytes before it

    /// The minor version of such a file: the oldest that can express it.
    std::uint16_t oldest_minor() const {
        if (padding_bits > 0) return 3;
        if (n_clusters > 0 || has_id_map != 0) return 2;
        return plan == 4 ? 1 : 0;
    }
    std::size_t n_sections() const { return oldest_minor() < 2 ? kOldSections : kSections; }
};
static_assert(sizeof(RawHeader) == 128 && offsetof(RawHeader, header_hash) == 120, "the format fixes the header");

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
        const bool flat = raw.kind == static_cast<std::uint8_t>(IndexKind::flat);
        const bool in_groups = flat || raw.n_clusters > 0;
        const std::uint64_t n_stored = in_groups ? (raw.n_rows + kGroup - 1) / kGroup * kGroup : raw.n_rows;
        const std::uint64_t n_rings = std::uint64_t{raw.n_clusters} * (n_bytes * 8 + 1);
        const std::uint64_t sizes[kSections] = {
            raw.n_levels * sizeof(std::uint16_t),
            n_stored * n_bytes,
            raw.n_runs == 0 ? 0 : (raw.n_rows + 63) / 64 * sizeof(std::uint64_t) + raw.n_runs * sizeof(std::uint32_t),
            raw.id_bytes == 0 ? 0 : raw.n_codes * raw.id_bytes + PackedNumbers::kSlack,
            raw.n_clusters == 0 ? 0 : (n_rings + 1) * sizeof(std::uint32_t) + raw.n_clusters * n_bytes,
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
