#include "fasthash/codes.h"
#include "fasthash/error.h"

namespace fasthash {

LevelLayout::LevelLayout(std::vector<std::size_t> level_bits) : level_bits_(std::move(level_bits)), offsets_{0} {
    if (level_bits_.empty()) throw ArgumentError("level_bits must name at least one level, got ()");
    for (const std::size_t bits : level_bits_) {
        // n_bits_ is no multiple of 8 if the level before this one is none.
        if (bits == 0 || n_bits_ % 8 != 0) {
            throw ArgumentError("level_bits must be positive multiples of 8, except for the last, got " + str());
        }
        // Checked level by level, so that the sum cannot wrap around.
        if (bits > kMaxBits - n_bits_) {
            throw ArgumentError("level_bits must sum to at most " + std::to_string(kMaxBits) + " bits, got " + str());
        }
        n_bits_ += bits;
        offsets_.push_back((n_bits_ + 7) / 8);
    }
}

std::string LevelLayout::str() const {
    std::string text = "(";
    for (std::size_t i = 0; i < level_bits_.size(); ++i) {
        if (i > 0) text += ", ";
        text += std::to_string(level_bits_[i]);
    }
    return text + ")";
}

}  // namespace fasthash
