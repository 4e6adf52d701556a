// A set of groups of codes, a bit for each.
//
// Used by the pruned search: the groups that hold codes below kept nodes. Nodes share groups.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "codes/code_bits.h"
#include "kernels/kernels.h"
#include "platform/number_range.h"

namespace fasthash {

class GroupSet {
 public:
    static constexpr std::size_t kWord = 64;

    /// Make the set empty; its groups will be smaller than n_groups.
    void clear(std::size_t n_groups) { words_.assign(n_groups / kWord + 1, 0); }
    /// Add consecutive groups, at least one.
    void add(NumberRange groups) {
        const std::size_t first = groups.begin / kWord, last = (groups.end - 1) / kWord;
        const std::uint64_t from_begin = ~std::uint64_t{0} << groups.begin % kWord;
        const std::uint64_t to_end = ~std::uint64_t{0} >> (kWord - 1 - (groups.end - 1) % kWord);
        if (first == last) {
            words_[first] |= from_begin & to_end;
            return;
        }
        words_[first] |= from_begin;
        std::fill(words_.begin() + static_cast<std::ptrdiff_t>(first) + 1,
                  words_.begin() + static_cast<std::ptrdiff_t>(last), ~std::uint64_t{0});
        words_[last] |= to_end;
    }
    std::size_t size() const {
        std::size_t n = 0;
        for (const std::uint64_t word : words_) n += count_bits(word);
        return n;
    }
    /// Bit g: whether group first + g is in the set, up to the end of the word that holds `first`.
    std::uint64_t from(std::size_t first) const { return words_[first / kWord] >> first % kWord; }
    /// Set the runs to the codes of these groups. `n_codes`: of all groups.
    void list_runs(std::size_t n_codes, std::vector<CodeRun>& runs) const {
        runs.clear();
        for (std::size_t w = 0; w < words_.size(); ++w) {
            for (std::uint64_t left = words_[w]; left != 0;) {
                const auto first = static_cast<std::size_t>(__builtin_ctzll(left));
                const std::uint64_t carried = left + (std::uint64_t{1} << first);  // clears the lowest run of ones
                const std::size_t end = carried == 0 ? kWord : static_cast<std::size_t>(__builtin_ctzll(carried));
                const std::size_t begin_code = (w * kWord + first) * kGroup;
                const std::size_t end_code = std::min((w * kWord + end) * kGroup, n_codes);
                runs.push_back({static_cast<std::uint32_t>(begin_code / kGroup),
                                static_cast<std::uint32_t>(end_code - begin_code), 0});
                left &= carried;
            }
        }
    }

 private:
    std::vector<std::uint64_t> words_;
};

}  // namespace fasthash
