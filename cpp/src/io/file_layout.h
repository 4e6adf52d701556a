// Layout of an index file: the header and the positions of the sections.
//
// Used by the reader and the writer. All numbers are little-endian.
#pragma once

#include <cstddef>
#include <cstdint>

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
constexpr std::uint16_t kMinor = 1;  // the newest
/// The minor version of a file with this plan set by the user: the oldest that has it.
constexpr std::uint16_t minor_of(std::uint8_t plan) { return plan == 4 ? 1 : 0; }
constexpr std::uint64_t kMaxCodes = UINT32_MAX;
constexpr std::size_t kSections = 4;
constexpr const char* kSectionNames[kSections] = {"levels", "codes", "runs", "ids"};

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
    std::uint8_t reserved_0[2];
    std::uint64_t n_codes;
    std::uint64_t n_rows;
    std::uint64_t n_runs;
    std::int64_t first_id;
    std::uint64_t next_id;
    std::uint64_t hashes[kSections];
    std::uint8_t reserved_1[24];
    std::uint64_t header_hash;  // of all bytes before it
};
static_assert(sizeof(RawHeader) == 128 && offsetof(RawHeader, header_hash) == 120, "the format fixes the header");

struct SectionRange {
    std::uint64_t begin;
    std::uint64_t n_bytes;

    std::uint64_t end() const { return begin + n_bytes; }
};

/// Positions of the sections: computed from the header, never stored, so that they cannot contradict it.
struct SectionTable {
    SectionRange sections[kSections];

    /// No overflow: fewer than 2^32 codes of at most 512 bytes.
    SectionTable(const RawHeader& raw, std::size_t n_bytes) {
        const bool flat = raw.kind == static_cast<std::uint8_t>(IndexKind::flat);
        const std::uint64_t n_stored = flat ? (raw.n_codes + kGroup - 1) / kGroup * kGroup : raw.n_rows;
        const std::uint64_t sizes[kSections] = {
            raw.n_levels * sizeof(std::uint16_t),
            n_stored * n_bytes,
            raw.n_runs == 0 ? 0 : (raw.n_rows + 63) / 64 * sizeof(std::uint64_t) + raw.n_runs * sizeof(std::uint32_t),
            raw.id_bytes == 0 ? 0 : raw.n_codes * raw.id_bytes + PackedNumbers::kSlack,
        };
        std::uint64_t begin = sizeof(RawHeader);
        for (std::size_t i = 0; i < kSections; ++i) {
            sections[i] = {begin, sizes[i]};
            begin = align(begin + sizes[i]);
        }
    }

    const SectionRange& operator[](std::size_t i) const { return sections[i]; }
    std::uint64_t file_bytes() const { return sections[kSections - 1].end(); }

    /// Sections begin at multiples of this.
    static constexpr std::uint64_t kAlignment = 64;
    static std::uint64_t align(std::uint64_t offset) { return (offset + kAlignment - 1) / kAlignment * kAlignment; }
};

}  // namespace fasthash
