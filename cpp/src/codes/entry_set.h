// A set of entries, one bit each: those of a segment that have not been removed.
//
// Copies share unchanged blocks (copy on write), so removing a few entries of a billion costs little.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "platform/number_range.h"

namespace fasthash {

/// Initially holds all entries. Removal copies only the blocks of 65,536 bits that it changes.
class EntrySet {
 public:
    /// Holds all entries, whatever their number.
    EntrySet() = default;

    bool has_all() const { return blocks_.empty(); }
    bool contains(std::size_t entry) const { return has_all() || (word(entry / 64) >> entry % 64 & 1) != 0; }
    /// Bit i is set if the set holds entry 64 * w + i.
    std::uint64_t word(std::size_t w) const {
        return has_all() ? ~std::uint64_t{0} : (*blocks_[w / kWords])[w % kWords];
    }
    std::size_t count(NumberRange entries) const;
    std::size_t nbytes() const;

    /// Remove entries, which must ascend. `n`: entries of the segment.
    void remove(const std::vector<std::size_t>& entries, std::size_t n);

 private:
    static constexpr std::size_t kWords = 1024;
    using Block = std::array<std::uint64_t, kWords>;

    std::vector<std::shared_ptr<const Block>> blocks_;
};

}  // namespace fasthash
