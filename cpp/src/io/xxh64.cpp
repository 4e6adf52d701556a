#include "io/xxh64.h"

#include <algorithm>
#include <cstring>

namespace fasthash {
namespace {

constexpr std::uint64_t kPrime1 = 0x9E3779B185EBCA87u;
constexpr std::uint64_t kPrime2 = 0xC2B2AE3D27D4EB4Fu;
constexpr std::uint64_t kPrime3 = 0x165667B19E3779F9u;
constexpr std::uint64_t kPrime4 = 0x85EBCA77C2B2AE63u;
constexpr std::uint64_t kPrime5 = 0x27D4EB2F165667C5u;

inline std::uint64_t rotate_left(std::uint64_t x, int bits) { return (x << bits) | (x >> (64 - bits)); }

template <typename Word>
inline Word read_word(const std::uint8_t* p) {
    Word word;
    std::memcpy(&word, p, sizeof word);
    return word;
}

// One round of a lane, shared by the stripes, the merge of the lanes and the tail.
inline std::uint64_t round(std::uint64_t lane, std::uint64_t input) {
    return rotate_left(lane + input * kPrime2, 31) * kPrime1;
}

}  // namespace

Xxh64::Xxh64() : lanes_{kPrime1 + kPrime2, kPrime2, 0, 0 - kPrime1} {}

const std::uint8_t* Xxh64::stripes(const std::uint8_t* p, std::size_t n) {
    std::array<std::uint64_t, 4> lanes = lanes_;  // in registers
    for (; n > 0; --n) {
        // Hardware prefetchers stop at page boundaries; without this, hashing a mapped file takes twice as long.
        __builtin_prefetch(p + 2048);
        for (std::uint64_t& lane : lanes) {
            lane = round(lane, read_word<std::uint64_t>(p));
            p += sizeof lane;
        }
    }
    lanes_ = lanes;
    return p;
}

void Xxh64::update(const void* data, std::size_t n_bytes) {
    const auto* p = static_cast<const std::uint8_t*>(data);
    n_total_ += n_bytes;
    if (n_rest_ > 0) {
        const std::size_t n_fill = std::min(n_bytes, rest_.size() - n_rest_);
        std::memcpy(rest_.data() + n_rest_, p, n_fill);
        n_rest_ += n_fill;
        p += n_fill;
        n_bytes -= n_fill;
        if (n_rest_ < rest_.size()) return;
        stripes(rest_.data(), 1);
    }
    p = stripes(p, n_bytes / rest_.size());
    n_rest_ = n_bytes % rest_.size();
    if (n_rest_ > 0) std::memcpy(rest_.data(), p, n_rest_);
}

std::uint64_t Xxh64::digest() const {
    std::uint64_t hash = kPrime5;
    if (n_total_ >= rest_.size()) {
        hash = rotate_left(lanes_[0], 1) + rotate_left(lanes_[1], 7) + rotate_left(lanes_[2], 12) +
               rotate_left(lanes_[3], 18);
        for (const std::uint64_t lane : lanes_) hash = (hash ^ round(0, lane)) * kPrime1 + kPrime4;
    }
    hash += n_total_;
    const std::uint8_t* p = rest_.data();
    const std::uint8_t* end = p + n_rest_;
    for (; p + 8 <= end; p += 8) {
        hash ^= round(0, read_word<std::uint64_t>(p));
        hash = rotate_left(hash, 27) * kPrime1 + kPrime4;
    }
    if (p + 4 <= end) {
        hash ^= read_word<std::uint32_t>(p) * kPrime1;
        hash = rotate_left(hash, 23) * kPrime2 + kPrime3;
        p += 4;
    }
    for (; p < end; ++p) hash = rotate_left(hash ^ (*p * kPrime5), 11) * kPrime1;
    hash = (hash ^ (hash >> 33)) * kPrime2;
    hash = (hash ^ (hash >> 29)) * kPrime3;
    return hash ^ (hash >> 32);
}

}  // namespace fasthash
