// A set of entries, as bits. Copies share what they have in common.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "platform/number_range.h"

namespace fasthash {

/// Begins with all entries. Removing some copies the set's blocks of 65,536 bits that they are in, and no others: a
/// copy with a few entries less costs little even among billions.
class EntrySet {
 public:
    /// All entries, however many.
    EntrySet() = default;

    bool has_all() const { return blocks_.empty(); }
    bool contains(std::size_t entry) const { return has_all() || (word(entry / 64) >> entry % 64 & 1) != 0; }
    /// Bit i stands for entry 64 * w + i.
    std::uint64_t word(std::size_t w) const {
        return has_all() ? ~std::uint64_t{0} : (*blocks_[w / kWords])[w % kWords];
    }
    std::size_t count(NumberRange entries) const;
    std::size_t nbytes() const;

    /// Removes entries of a set of `n` in all, given in order.
    void remove(const std::vector<std::size_t>& entries, std::size_t n);

 private:
    static constexpr std::size_t kWords = 1024;
    using Block = std::array<std::uint64_t, kWords>;

    std::vector<std::shared_ptr<const Block>> blocks_;
};

}  // namespace fasthash
