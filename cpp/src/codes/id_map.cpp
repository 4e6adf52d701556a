#include "codes/id_map.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "fasthash/threads.h"
#include "platform/number_range.h"

namespace fasthash {
namespace {

constexpr std::size_t kChunkEntries = 65536;  // fewer are not worth a thread of their own

std::size_t n_chunks_of(std::size_t n) { return std::min(num_threads(), n / kChunkEntries + 1); }

std::size_t bits_of(std::uint64_t number) {
    return number == 0 ? 0 : 64 - static_cast<std::size_t>(__builtin_clzll(number));
}

std::uint64_t difference(std::int64_t larger, std::int64_t smaller) {
    return static_cast<std::uint64_t>(larger) - static_cast<std::uint64_t>(smaller);
}

// Sorts distinct words by a radix sort on their leading bits that differ. No distribution of the words makes it slow.
class WordSorter {
 public:
    void sort(std::uint64_t* words, std::size_t n) {
        constexpr std::size_t kFew = 32;
        if (n <= kFew) return std::sort(words, words + n);
        std::uint64_t differing = 0;
        for (std::size_t i = 1; i < n; ++i) differing |= words[0] ^ words[i];
        // Buckets of about eight words, which std::sort sorts by insertion.
        const std::size_t n_bits = std::min(kMostBits, bits_of(n) - 3), high = bits_of(differing);
        const std::size_t shift = high > n_bits ? high - n_bits : 0;
        const std::uint64_t mask = (std::uint64_t{1} << n_bits) - 1;
        std::uint32_t begin[(std::size_t{1} << kMostBits) + 1] = {};
        for (std::size_t i = 0; i < n; ++i) ++begin[(words[i] >> shift & mask) + 1];
        for (std::size_t value = 1; value <= mask + 1; ++value) begin[value] += begin[value - 1];
        buffer_.resize(std::max(n, buffer_.size()));
        std::copy_n(words, n, buffer_.data());
        for (std::size_t i = 0; i < n; ++i) words[begin[buffer_[i] >> shift & mask]++] = buffer_[i];
        for (std::size_t value = 0, first = 0; value <= mask; first = begin[value++]) {  // begin has become the end
            sort(words + first, begin[value] - first);
        }
    }

 private:
    static constexpr std::size_t kMostBits = 10;

    Array<std::uint64_t> buffer_;
};

// Sorts some entries of a list by id. The words that it sorts hold the leading bits of the id, less the smallest, and
// the position of the entry; where the leading bits tie, it sorts the tied entries once more.
class EntrySorter {
 public:
    EntrySorter(const IdList& list, std::uint32_t* entries, std::size_t n) : list_(list), entries_(entries), n_(n) {}

    /// `entries` is to hold the entries 0 .. n - 1 of the list.
    void sort_all() {
        sort([this](std::size_t i) { return list_.id(i); }, [](std::size_t i) { return static_cast<std::uint32_t>(i); },
             list_.smallest_id(), list_.largest_id());
    }
    /// `entries` holds the entries to sort.
    void sort_given() {
        Array<std::uint32_t> given;
        given.append(entries_, n_);
        Array<std::int64_t> ids(n_);
        for (std::size_t i = 0; i < n_; ++i) ids[i] = list_.id(given[i]);
        const IdArray range(ids.data(), n_);
        sort([&ids](std::size_t i) { return ids[i]; }, [&given](std::size_t i) { return given[i]; },
             range.smallest_id(), range.largest_id());
    }

 private:
    template <typename IdAt, typename EntryAt>
    void sort(IdAt id_at, EntryAt entry_at, std::int64_t smallest, std::int64_t largest) {
        const std::size_t key_bits = bits_of(difference(largest, smallest)), position_bits = bits_of(n_ - 1);
        const std::size_t n_dropped = std::max<std::size_t>(key_bits + position_bits, 64) - 64;
        const std::uint64_t positions = (std::uint64_t{1} << position_bits) - 1;
        const auto word_of = [&](std::size_t i) {
            return difference(id_at(i), smallest) >> n_dropped << position_bits | i;
        };
        const std::size_t word_bits = key_bits - n_dropped + position_bits;
        Array<std::uint64_t> words = sorted_words(word_of, word_bits);
        const std::size_t n_chunks = n_chunks_of(n_);
        parallel_for(n_chunks, [&](std::size_t c) {
            const NumberRange chunk = chunk_of(n_, n_chunks, c);
            for (std::size_t i = chunk.begin; i < chunk.end; ++i) entries_[i] = entry_at(words[i] & positions);
        });
        if (n_dropped == 0) return;
        for (std::size_t begin = 0, end = 0; begin < n_; begin = end) {
            while (end < n_ && words[end] >> position_bits == words[begin] >> position_bits) ++end;
            sort_tied(entries_ + begin, end - begin);
        }
    }

    void sort_tied(std::uint32_t* entries, std::size_t n) const {
        constexpr std::size_t kFew = 256;
        if (n > kFew) return EntrySorter(list_, entries, n).sort_given();
        if (n < 2) return;
        std::sort(entries, entries + n, [this](std::uint32_t a, std::uint32_t b) { return list_.id(a) < list_.id(b); });
    }

    // The words of all positions, sorted: buckets by their leading bits, then each bucket.
    template <typename WordOf>
    Array<std::uint64_t> sorted_words(WordOf word_of, std::size_t word_bits) const {
        constexpr std::size_t kBucketBits = 10;
        const std::size_t shift = word_bits > kBucketBits ? word_bits - kBucketBits : 0;
        const std::size_t n_buckets = std::size_t{1} << kBucketBits, n_chunks = n_chunks_of(n_);
        std::vector<Array<std::size_t>> begin(n_chunks + 1);  // per chunk and bucket; the last has the ends
        for (auto& counts : begin) counts.assign(n_buckets, 0);
        parallel_for(n_chunks, [&](std::size_t c) {
            const NumberRange chunk = chunk_of(n_, n_chunks, c);
            std::size_t* counts = begin[c].data();
            for (std::size_t i = chunk.begin; i < chunk.end; ++i) ++counts[word_of(i) >> shift];
        });
        std::size_t total = 0;
        for (std::size_t bucket = 0; bucket < n_buckets; ++bucket) {
            for (std::size_t c = 0; c < n_chunks; ++c) total += std::exchange(begin[c][bucket], total);
            begin[n_chunks][bucket] = total;
        }
        Array<std::uint64_t> words(n_);
        parallel_for(n_chunks, [&](std::size_t c) {
            const NumberRange chunk = chunk_of(n_, n_chunks, c);
            std::size_t* next = begin[c].data();
            std::uint64_t* to = words.data();
            for (std::size_t i = chunk.begin; i < chunk.end; ++i) {
                const std::uint64_t word = word_of(i);
                to[next[word >> shift]++] = word;
            }
        });
        const Array<std::size_t>& end = begin[n_chunks];
        parallel_for(n_chunks == 1 ? 1 : kChunks, [&](std::size_t task) {
            WordSorter sorter;
            const NumberRange buckets = chunk_of(n_buckets, n_chunks == 1 ? 1 : kChunks, task);
            for (std::size_t bucket = buckets.begin; bucket < buckets.end; ++bucket) {
                const std::size_t first = bucket == 0 ? 0 : end[bucket - 1];
                sorter.sort(words.data() + first, end[bucket] - first);
            }
        });
        return words;
    }

    static constexpr std::size_t kChunks = 64;

    const IdList& list_;
    std::uint32_t* entries_;
    const std::size_t n_;
};

// Finds an id in n ascending ids. Interpolates between the smallest and the largest id: log log n steps if ids are
// spread evenly. Every kGuesses steps it bisects, so that the number of steps is bounded for all ids.
template <typename IdAt>
std::size_t find_in(const IdList& list, std::size_t n, std::int64_t wanted, IdAt id_at) {
    if (n == 0 || wanted < list.smallest_id() || wanted > list.largest_id()) return IdMap::kNone;
    std::size_t low = 0, high = n - 1;                                        // positions left
    std::int64_t smallest = list.smallest_id(), largest = list.largest_id();  // bounds of the ids there
    constexpr std::size_t kGuesses = 3;
    for (std::size_t step = 1; low <= high; ++step) {
        std::size_t at = low + (high - low) / 2;
        if (step % kGuesses != 0 && largest > smallest) {
            const double share =
                static_cast<double>(difference(wanted, smallest)) / static_cast<double>(difference(largest, smallest));
            at = low + std::min(high - low, static_cast<std::size_t>(share * static_cast<double>(high - low)));
        }
        const std::int64_t id = id_at(at);
        if (id == wanted) return at;
        if (id < wanted) {
            low = at + 1;
            smallest = id;
        } else {
            if (at == low) break;
            high = at - 1;
            largest = id;
        }
    }
    return IdMap::kNone;
}

}  // namespace

IdArray::IdArray(const std::int64_t* ids, std::size_t n) : ids_(ids), n_(n) {
    if (n == 0) return;
    const auto ends = std::minmax_element(ids, ids + n);
    smallest_ = *ends.first;
    largest_ = *ends.second;
}

Array<std::uint32_t> order_of_ids(const IdList& list) {
    Array<std::uint32_t> order(list.n_entries());
    if (!order.empty()) EntrySorter(list, order.data(), order.size()).sort_all();
    return order;
}

std::size_t find_ascending(const IdList& list, std::int64_t id) {
    return find_in(list, list.n_entries(), id, [&list](std::size_t i) { return list.id(i); });
}

IdMap::IdMap(const IdList& list) {
    const std::size_t n = list.n_entries(), n_chunks = n_chunks_of(n);
    if (n == 0) return;
    entries_ = PackedNumbers::of_width(0, width_for(n));
    entries_.resize(n);
    const auto for_chunks = [&](const auto& set) {
        parallel_for(n_chunks, [&](std::size_t c) {
            const NumberRange chunk = chunk_of(n, n_chunks, c);
            for (std::size_t i = chunk.begin; i < chunk.end; ++i) set(i);
        });
    };
    if (difference(list.largest_id(), list.smallest_id()) == n - 1) {  // each id tells its position
        for_chunks(
            [&](std::size_t entry) { entries_.set_offset(difference(list.id(entry), list.smallest_id()), entry); });
        return;
    }
    const Array<std::uint32_t> order = order_of_ids(list);
    for_chunks([&](std::size_t i) { entries_.set_offset(i, order[i]); });
}

std::size_t IdMap::find(const IdList& list, std::int64_t id) const {
    const std::size_t at = find_in(list, entries_.size(), id, [&](std::size_t i) { return list.id(entry_at(i)); });
    return at == kNone ? kNone : entry_at(at);
}

}  // namespace fasthash
