#include "codes/sort_rows.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "fasthash/error.h"
#include "fasthash/threads.h"
#include "platform/number_range.h"

namespace fasthash {
namespace {

constexpr std::size_t kKeyBytes = 8;
constexpr std::size_t kFewRows = std::size_t{1} << 22;  // up to this many rows make one range
constexpr std::size_t kRanges = 16;
constexpr std::size_t kBetweenStops = 65536;

// The first bytes of a code as a number of the same order.
std::uint64_t key_of(const std::uint8_t* code, std::size_t n_bytes) {
    std::uint64_t key = 0;
    if (n_bytes >= kKeyBytes) {
        std::memcpy(&key, code, kKeyBytes);
        return __builtin_bswap64(key);
    }
    for (std::size_t i = 0; i < n_bytes; ++i) key |= std::uint64_t{code[i]} << 8 * (kKeyBytes - 1 - i);
    return key;
}

struct SortKey {
    std::uint64_t key;
    std::uint32_t row;
    std::uint32_t local;  // position of the code in copy_
};

// Sorts one bucket.
class BucketSorter {
 public:
    BucketSorter(std::size_t n_bytes, const std::int64_t* ids) : n_bytes_(n_bytes), ids_(ids) {}

    void sort(std::uint8_t* codes, std::uint32_t* rows, std::size_t n) {
        if (n < 2) return;
        copy_.resize(n * n_bytes_);
        std::memcpy(copy_.data(), codes, n * n_bytes_);
        sort_keys_.resize(n);
        for (std::size_t i = 0; i < n; ++i) {
            sort_keys_[i] = {key_of(code(i), n_bytes_), rows[i], static_cast<std::uint32_t>(i)};
        }
        std::sort(sort_keys_.begin(), sort_keys_.end(), [this](const SortKey& a, const SortKey& b) {
            if (a.key != b.key) return a.key < b.key;
            if (n_bytes_ > kKeyBytes) {
                const int order =
                    std::memcmp(code(a.local) + kKeyBytes, code(b.local) + kKeyBytes, n_bytes_ - kKeyBytes);
                if (order != 0) return order < 0;
            }
            return ids_ == nullptr ? a.row < b.row : ids_[a.row] < ids_[b.row];
        });
        for (std::size_t i = 0; i < n; ++i) {
            std::memcpy(codes + i * n_bytes_, code(sort_keys_[i].local), n_bytes_);
            rows[i] = sort_keys_[i].row;
        }
    }

 private:
    const std::uint8_t* code(std::size_t i) const { return copy_.data() + i * n_bytes_; }

    std::size_t n_bytes_;
    const std::int64_t* ids_;
    Array<SortKey> sort_keys_;
    Array<std::uint8_t> copy_;
};

[[noreturn]] void throw_changed() { throw ArgumentError("codes must not change while they are added"); }

}  // namespace

SortedRanges::SortedRanges(CodeView codes, const std::int64_t* ids, Stopper& stopper)
    : codes_(codes),
      ids_(ids),
      stopper_(stopper),
      two_bytes_(codes.n_bytes > 1 && codes.n >= 1 << 16),
      begin_(std::min(num_threads(), codes.n / 65536 + 1) + 1) {
    for (auto& counts : begin_) counts.assign(n_values() + 1, 0);
    parallel_for(n_chunks(), [this](std::size_t s) {
        const NumberRange chunk = chunk_of(codes_.n, n_chunks(), s);
        for (std::size_t row = chunk.begin; row < chunk.end; ++row) {
            if (row % kBetweenStops == 0 && stopper_.stopped()) return;
            ++begin_[s][value_of(codes_.row(row))];
        }
    });
    stopper_.finish();
    std::size_t total = 0;
    for (std::size_t value = 0; value <= n_values(); ++value) {
        for (auto& counts : begin_) total += std::exchange(counts[value], total);
    }
}

bool SortedRanges::next() {
    if (value_ == n_values()) return false;
    const Array<std::size_t>& begin = begin_[0];
    const std::size_t first_value = value_, most = std::max(kFewRows, codes_.n / kRanges);
    do {
        ++value_;
    } while (value_ < n_values() && begin[value_ + 1] - begin[first_value] <= most);
    rows_.resize(begin[value_] - begin[first_value]);
    sorted_.resize(rows_.size() * codes_.n_bytes);
    parallel_for(n_chunks(), [&](std::size_t s) { gather(s, first_value, value_); });
    stopper_.finish();
    sort_buckets(first_value, value_);
    stopper_.finish();
    return true;
}

// The caller may change the codes meanwhile. Writing only to counted positions, and checking that all are filled, keeps
// memory safe and detects the change.
void SortedRanges::gather(std::size_t s, std::size_t first_value, std::size_t end_value) {
    const std::size_t n_bytes = codes_.n_bytes, before = begin_[0][first_value];
    Array<std::size_t> next;
    next.append(begin_[s].data() + first_value, end_value - first_value);
    const NumberRange chunk = chunk_of(codes_.n, n_chunks(), s);
    for (std::size_t row = chunk.begin; row < chunk.end; ++row) {
        if (row % kBetweenStops == 0 && stopper_.stopped()) return;
        const std::uint8_t* code = codes_.row(row);
        const std::size_t value = value_of(code);
        if (value < first_value || value >= end_value) continue;
        const std::size_t place = next[value - first_value]++;
        if (place >= begin_[s + 1][value]) throw_changed();
        rows_[place - before] = static_cast<std::uint32_t>(row);
        std::memcpy(sorted_.data() + (place - before) * n_bytes, code, n_bytes);
    }
    for (std::size_t value = first_value; value < end_value; ++value) {
        if (next[value - first_value] != begin_[s + 1][value]) throw_changed();
    }
}

// Groups successive buckets into tasks of at least 16,384 rows.
void SortedRanges::sort_buckets(std::size_t first_value, std::size_t end_value) {
    const Array<std::size_t>& begin = begin_[0];
    std::vector<std::size_t> tasks{first_value};
    for (std::size_t value = first_value; value < end_value; ++value) {
        if (begin[value + 1] - begin[tasks.back()] >= 16384) tasks.push_back(value + 1);
    }
    if (tasks.back() != end_value) tasks.push_back(end_value);
    std::atomic<std::size_t> next_task{0};
    parallel_for(n_chunks(), [&](std::size_t) {
        BucketSorter sorter(codes_.n_bytes, ids_);  // reused: a new one would allocate its memory again
        for (std::size_t t = next_task++; t + 1 < tasks.size() && !stopper_.stopped(); t = next_task++) {
            for (std::size_t value = tasks[t]; value < tasks[t + 1]; ++value) {
                const std::size_t i = begin[value] - begin[first_value], n = begin[value + 1] - begin[value];
                sorter.sort(sorted_.data() + i * codes_.n_bytes, rows_.data() + i, n);
            }
        }
    });
}

}  // namespace fasthash
