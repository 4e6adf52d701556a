#include "sort_rows.h"

#include <algorithm>
#include <vector>

#include "code_bits.h"
#include "fasthash/threads.h"
#include "number_range.h"

namespace fasthash {
namespace {

constexpr std::size_t kKeyBytes = 8;

// The first bytes of a code as a number that orders as they do.
std::uint64_t key_of(const std::uint8_t* code, std::size_t n_bytes) {
    std::uint64_t key = 0;
    if (n_bytes >= kKeyBytes) {
        std::memcpy(&key, code, kKeyBytes);
        return __builtin_bswap64(key);
    }
    for (std::size_t i = 0; i < n_bytes; ++i) key |= std::uint64_t{code[i]} << 8 * (kKeyBytes - 1 - i);
    return key;
}

struct Entry {
    std::uint64_t key;
    std::uint32_t row;
    std::uint32_t local;  // where its further bytes stand
};

// Sorts one bucket. What is compared is copied first: the order must be one even if the caller's memory changes.
class BucketSorter {
 public:
    BucketSorter(CodeView codes, const std::int64_t* ids) : codes_(codes), ids_(ids) {}

    void sort(std::uint32_t* rows, std::size_t n) {
        if (n < 2) return;
        const std::size_t n_rest = codes_.n_bytes - std::min(codes_.n_bytes, kKeyBytes);
        entries_.resize(n);
        rest_.resize(n * n_rest);
        for (std::size_t i = 0; i < n; ++i) {
            const std::uint8_t* code = codes_.row(rows[i]);
            entries_[i] = {key_of(code, codes_.n_bytes), rows[i], static_cast<std::uint32_t>(i)};
            if (n_rest > 0) std::memcpy(rest_.data() + i * n_rest, code + kKeyBytes, n_rest);
        }
        std::sort(entries_.begin(), entries_.end(), [this, n_rest](const Entry& a, const Entry& b) {
            if (a.key != b.key) return a.key < b.key;
            if (n_rest > 0) {
                const int order = std::memcmp(rest_.data() + a.local * n_rest, rest_.data() + b.local * n_rest, n_rest);
                if (order != 0) return order < 0;
            }
            return ids_ == nullptr ? a.row < b.row : ids_[a.row] < ids_[b.row];
        });
        for (std::size_t i = 0; i < n; ++i) rows[i] = entries_[i].row;
    }

 private:
    CodeView codes_;
    const std::int64_t* ids_;
    Array<Entry> entries_;
    Array<std::uint8_t> rest_;
};

}  // namespace

Array<std::uint32_t> sort_rows(CodeView codes, const std::int64_t* ids, Stopper* stopper) {
    const std::size_t n_bits = codes.n_bytes > 1 && codes.n >= 1 << 16 ? 16 : 8;
    const std::size_t n_values = std::size_t{1} << n_bits;
    const std::size_t n_slices = std::min(num_threads(), codes.n / 65536 + 1);
    // The bucket of each code is read once: buckets and counts must agree whatever happens to the caller's memory.
    Array<std::uint16_t> bucket(codes.n);
    std::vector<Array<std::size_t>> next(n_slices);
    parallel_for(n_slices, [&](std::size_t s) {
        next[s].assign(n_values, 0);
        const NumberRange slice = piece_of(codes.n, n_slices, s);
        for (std::size_t row = slice.begin; row < slice.end; ++row) {
            bucket[row] = static_cast<std::uint16_t>(code_bits(codes.row(row), codes.n_bytes, 0, n_bits));
            ++next[s][bucket[row]];
        }
    });
    std::vector<std::size_t> begin(n_values + 1);
    std::size_t total = 0;
    for (std::size_t value = 0; value < n_values; ++value) {
        begin[value] = total;
        for (auto& counts : next) total += std::exchange(counts[value], total);
    }
    begin[n_values] = total;

    Array<std::uint32_t> rows(codes.n);
    parallel_for(n_slices, [&](std::size_t s) {
        const NumberRange slice = piece_of(codes.n, n_slices, s);
        for (std::size_t row = slice.begin; row < slice.end; ++row) {
            rows[next[s][bucket[row]]++] = static_cast<std::uint32_t>(row);
        }
    });
    bucket = {};

    // Buckets of some hundred rows together make a task.
    std::vector<std::size_t> tasks{0};
    for (std::size_t value = 0; value < n_values; ++value) {
        if (begin[value + 1] - begin[tasks.back()] >= 16384) tasks.push_back(value + 1);
    }
    if (tasks.back() != n_values) tasks.push_back(n_values);
    parallel_for(tasks.size() - 1, [&](std::size_t t) {
        if (stopper != nullptr && stopper->stopped()) return;
        BucketSorter sorter(codes, ids);
        for (std::size_t value = tasks[t]; value < tasks[t + 1]; ++value) {
            sorter.sort(rows.data() + begin[value], begin[value + 1] - begin[value]);
        }
    });
    if (stopper != nullptr) stopper->finish();
    return rows;
}

}  // namespace fasthash
