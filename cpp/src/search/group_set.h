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
    void clear(std::size_t n_groups) { words_.assign(n_groups / kWord + 2, 0); }
    /// Add consecutive groups, at least one.
    void add(NumberRange groups) {
        add_each(&groups, &groups + 1, [](NumberRange one) { return one; });
    }
    /// Add groups_of(node) of each node, at least one. Quickest where they ascend: the word under way stays in a
    /// register, where reading it back from memory for each node would take most of the time.
    template <typename Node, typename GroupsOf>
    void add_each(const Node* begin, const Node* end, GroupsOf groups_of) {
        std::size_t at = 0;
        std::uint64_t word = 0, next = 0;  // to be added to the words `at` and after it
        for (const Node* node = begin; node != end; ++node) {
            const NumberRange groups = groups_of(*node);
            const std::size_t first = groups.begin / kWord, shift = groups.begin % kWord;
            if (first != at) {
                words_[at] |= word;
                words_[at + 1] |= next;
                at = first;
                word = next = 0;
            }
            const std::size_t n = std::min(groups.size(), kWord);
            const std::uint64_t ones = ~std::uint64_t{0} >> (kWord - n);
            word |= ones << shift;
            next |= ones >> 1 >> (kWord - 1 - shift);
            if (groups.size() > kWord) fill({groups.begin + kWord, groups.end});
        }
        words_[at] |= word;
        words_[at + 1] |= next;
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
    void fill(NumberRange groups) {
        for (std::size_t group = groups.begin; group < groups.end;) {
            const std::size_t end = std::min(groups.end, (group / kWord + 1) * kWord);
            words_[group / kWord] |= ~std::uint64_t{0} >> (kWord - (end - group)) << group % kWord;
            group = end;
        }
    }

    std::vector<std::uint64_t> words_;  // one more than the groups need, so that add_each() need not ask for the last
};

}  // namespace fasthash
