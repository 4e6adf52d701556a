#include "segments/bit_major_segment.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "platform/files.h"

namespace fasthash {
namespace {

[[noreturn]] void refuse_hamming() { throw std::logic_error("bit-major codes are not searched by Hamming distance"); }

// Entries in the order of (bits set, id).
Entries arranged(const Entries& entries, std::size_t n_bytes) {
    const std::size_t n = entries.n();
    std::vector<std::uint16_t> n_set(n);
    std::vector<std::size_t> next(n_bytes * 8 + 2);
    for (std::size_t i = 0; i < n; ++i) {
        n_set[i] = static_cast<std::uint16_t>(count_set(entries.codes.data() + i * n_bytes, n_bytes));
        ++next[n_set[i] + std::size_t{1}];
    }
    for (std::size_t count = 1; count < next.size(); ++count) next[count] += next[count - 1];
    Entries sorted;
    sorted.codes.resize(n * n_bytes);
    sorted.ids.resize(n);
    for (const std::uint32_t i : order_of_ids(IdArray(entries.ids.data(), n))) {
        const std::size_t place = next[n_set[i]]++;
        std::memcpy(sorted.codes.data() + place * n_bytes, entries.codes.data() + i * n_bytes, n_bytes);
        sorted.ids[place] = entries.ids[i];
    }
    return sorted;
}

}  // namespace

LiveSegment BitMajorSegment::of(const std::vector<LiveSegment>& segments, const NewEntries& entries) {
    const std::size_t n_bytes = entries.codes.n_bytes;
    Entries all;
    for (const LiveSegment& each : segments) all.append(each, n_bytes);
    all.append(entries);
    all = arranged(all, n_bytes);
    return LiveSegment(std::make_shared<const BitMajorSegment>(BitMajorCodes({all.codes.data(), all.n(), n_bytes}),
                                                               EntryIds(all.ids.data(), all.n())));
}

std::size_t BitMajorSegment::mapped_bytes() const { return mapped_ ? static_cast<std::size_t>(mapped_->size()) : 0; }

void BitMajorSegment::scan_chunk(const QueryBlock&, Visibility, std::size_t, std::size_t, Stopper&) const {
    refuse_hamming();
}

void BitMajorSegment::search(const QueryBlock&, Visibility, Stopper&) const { refuse_hamming(); }

}  // namespace fasthash
