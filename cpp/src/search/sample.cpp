#include "search/sample.h"

namespace fasthash {
namespace {

struct Collector final : GroupSink {
    explicit Collector(std::uint16_t* to) : distances(to) {}
    void take(std::size_t, std::size_t group, std::uint64_t, const std::uint16_t* of_group) override {
        std::copy(of_group, of_group + kGroup, distances + group * kGroup);
    }
    std::uint16_t* distances;
};

}  // namespace

void Sample::compare(const std::uint8_t* prepared, const std::uint8_t* groups, std::size_t n_groups,
                     std::size_t n_bytes) {
    if (n_bytes <= kMostPartBytes) {
        const CodePart whole{0, n_bytes, kDropped};
        return compare(prepared, groups, n_groups, n_bytes, &whole, 1, false);
    }
    n_groups_ = n_groups;
    n_bytes_ = n_bytes;
    words_.resize(n_groups * kGroup);
    Collector collector(words_.data());
    constexpr std::uint32_t kFirst = 0;
    const auto beyond_all = static_cast<std::uint16_t>(n_bytes * 8 + 1);
    kernels().scan_groups({prepared, &kFirst, 1, &beyond_all, groups, n_groups, n_bytes, &collector});
}

void Sample::compare(const std::uint8_t* prepared, const std::uint8_t* groups, std::size_t n_groups,
                     std::size_t n_bytes, const CodePart* parts, std::size_t n_parts, bool by_part) {
    n_groups_ = n_groups;
    n_bytes_ = n_bytes;
    bytes_.resize(n_groups * kGroup);
    const CodeRun all{0, static_cast<std::uint32_t>(n_groups * kGroup), 0};
    kernels().scan_parts({prepared, groups, n_bytes, &all, 1, parts, n_parts, by_part, bytes_.data()}, nullptr);
}

void Sample::keep(std::size_t group, std::uint64_t rows) {
    for (std::uint64_t others = ~rows; others != 0; others &= others - 1) {
        const std::size_t place = group * kGroup + static_cast<std::size_t>(__builtin_ctzll(others));
        if (narrow()) {
            bytes_[place] = kDropped;
        } else {
            words_[place] = kLeftOut;
        }
    }
}

std::size_t Sample::count_at_most(std::int32_t largest) const {
    if (narrow()) return kernels().count_at_most(bytes_.data(), n_groups_, static_cast<std::uint8_t>(largest));
    std::size_t count = 0;
    for (std::size_t first = 0; first < n_groups_ * kGroup; first += kGroup) {
        std::uint16_t in_group = 0;  // compilers turn this loop into vectors
        for (std::size_t i = first; i < first + kGroup; ++i) {
            in_group = static_cast<std::uint16_t>(in_group + (words_[i] <= static_cast<std::uint16_t>(largest)));
        }
        count += in_group;
    }
    return count;
}

std::int32_t Sample::kth_smallest(std::size_t k, std::int32_t most) const {
    std::int32_t low = 0, high = most;
    while (low < high) {
        const std::int32_t middle = (low + high) / 2;
        if (count_at_most(middle) >= k) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

}  // namespace fasthash
