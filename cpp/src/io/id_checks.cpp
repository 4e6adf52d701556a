#include "io/id_checks.h"

#include <algorithm>
#include <random>

#include "codes/code_bits.h"
#include "fasthash/error.h"
#include "fasthash/ids.h"
#include "fasthash/threads.h"
#include "platform/number_range.h"

namespace fasthash {
namespace {

// Whether ids are distinct and none equals `none`. Sets a bit per id; then as many bits as ids must be set.
bool bits_show_distinct(const PackedNumbers& ids, std::uint64_t largest, std::uint64_t none, std::size_t n_chunks) {
    const std::size_t n = ids.size(), n_words = static_cast<std::size_t>(largest / 64 + 1);
    std::vector<std::vector<std::uint64_t>> chunks(n_chunks);
    parallel_for(n_chunks, [&](std::size_t p) {
        std::vector<std::uint64_t> seen(n_words);
        const NumberRange chunk = chunk_of(n, n_chunks, p);
        for (std::size_t i = chunk.begin; i < chunk.end; ++i) {
            const std::uint64_t offset = ids.offset(i);
            seen[offset / 64] |= std::uint64_t{1} << offset % 64;
        }
        chunks[p] = std::move(seen);
    });
    std::size_t n_seen = 0;
    for (std::size_t i = 0; i < n_words; ++i) {
        std::uint64_t word = 0;
        for (const auto& seen : chunks) word |= seen[i];
        if (none / 64 == i && (word >> none % 64 & 1) != 0) return false;
        n_seen += count_bits(word);
    }
    return n_seen == n;
}

// Checks that ids are distinct and none is -1. Uses 32 MiB of memory, or 1/8 of the size of the ids if that is more:
// with less, the number of passes would grow with the number of ids.
void check_distinct(const PackedNumbers& ids, std::uint64_t largest) {
    constexpr std::uint64_t kMostChunks = 4;
    const std::uint64_t most_memory = std::max(std::uint64_t{32} << 20, std::uint64_t{ids.bytes().size()} / 8);
    const std::size_t n = ids.size();
    const std::uint64_t none = static_cast<std::uint64_t>(kNoId) - static_cast<std::uint64_t>(ids.smallest());
    const std::uint64_t n_fitting = most_memory / (largest / 8 + sizeof(std::uint64_t));
    if (n_fitting > 0 && largest / 64 <= n) {  // the bits take no more than 8 bytes an id
        const std::uint64_t n_chunks = n < kMostChunks * kGroup ? 1 : std::min(n_fitting, kMostChunks);
        if (bits_show_distinct(ids, largest, none, static_cast<std::size_t>(n_chunks))) return;
    }
    // Sorts one chunk of the ids per task. A random factor spreads the ids evenly over the chunks, whatever the file
    // holds.
    const std::size_t n_chunks =
        static_cast<std::size_t>(n * sizeof(std::uint64_t) / (most_memory / 2 / num_threads()) + 1);
    std::uint64_t factor = 1;
    if (n_chunks > 1) factor = std::uint64_t{std::random_device{}()} << 32 | std::random_device{}() | 1;
    parallel_for(n_chunks, [&](std::size_t p) {
        Array<std::uint64_t> chunk;
        for (std::size_t i = 0; i < n; ++i) {
            const std::uint64_t offset = ids.offset(i);
            if (offset == none) refuse("ids must not hold -1");
            if ((offset * factor >> 32) * n_chunks >> 32 == p) chunk.push_back(offset);
        }
        std::sort(chunk.begin(), chunk.end());
        const std::uint64_t* twice = std::adjacent_find(chunk.begin(), chunk.end());
        if (twice != chunk.end())
            refuse("ids must be distinct, got " + std::to_string(ids.number_at(*twice)) + " twice");
    });
}

// Checks that the map has the entries in the order of their ids, that the ids are distinct, and that none is -1.
void check_map(const PackedNumbers& ids, const PackedNumbers& map) {
    constexpr std::size_t kChunks = 16;
    const std::size_t n = ids.size();
    const std::uint64_t none = static_cast<std::uint64_t>(kNoId) - static_cast<std::uint64_t>(ids.smallest());
    const auto offset_at = [&](std::size_t i) {
        const std::uint64_t entry = map.offset(i);
        if (entry >= n) refuse("id map holds " + std::to_string(entry) + ", which is no code");
        return ids.offset(static_cast<std::size_t>(entry));
    };
    parallel_for(kChunks, [&](std::size_t c) {
        const NumberRange chunk = chunk_of(n, kChunks, c);
        if (chunk.size() == 0) return;
        std::uint64_t last = chunk.begin == 0 ? 0 : offset_at(chunk.begin - 1);
        for (std::size_t i = chunk.begin; i < chunk.end; ++i) {
            const std::uint64_t offset = offset_at(i);
            if (offset == none) refuse("ids must not hold -1");
            if (offset <= last && i > 0) refuse("id map is out of order at position " + std::to_string(i));
            last = offset;
        }
    });
}

// Whether a summary from a file, whose smallest id is its first one, is the right one.
bool same(const IdSummary& right, const IdSummary& held) {
    const Array<std::uint8_t>&a = right.least.bytes(), &b = held.least.bytes();
    return right.smallest == 0 && right.largest == held.largest && a.size() == b.size() &&
           std::equal(a.begin(), a.end() - PackedNumbers::kSlack, b.begin());
}

}  // namespace

void refuse(const std::string& what) { throw FormatError(what); }

void check_next_id(const RawHeader& raw, std::uint64_t largest) {
    if (largest > static_cast<std::uint64_t>(INT64_MAX) - static_cast<std::uint64_t>(raw.first_id)) {
        refuse("ids leave the range of int64");
    }
    const auto id = static_cast<std::int64_t>(static_cast<std::uint64_t>(raw.first_id) + largest);
    if (id >= 0 && static_cast<std::uint64_t>(id) >= raw.next_id) {
        refuse("next id " + std::to_string(raw.next_id) + " is not above the id " + std::to_string(id));
    }
}

IdSummary check_ids(const RawHeader& raw, const DuplicateRuns& runs, const PackedNumbers& ids, const PackedNumbers& map,
                    FileChecks checks, std::optional<IdSummary> held) {
    if (held && checks == FileChecks::structure) {
        check_next_id(raw, held->largest);
        return std::move(*held);
    }
    IdSummary summary = summarize(runs, ids);
    if (held && !same(summary, *held)) refuse("summary of the ids does not agree with them");
    check_next_id(raw, summary.largest);
    if (summary.out_of_order != SIZE_MAX) {
        refuse("ids of equal codes are out of order at code " + std::to_string(summary.out_of_order));
    }
    if (checks == FileChecks::structure) return summary;
    if (map.size() > 0) {
        check_map(ids, map);
    } else {
        check_distinct(ids, summary.largest);
    }
    return summary;
}

}  // namespace fasthash
